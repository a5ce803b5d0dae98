"""What is said of a model that shows little or nothing on the validation images."""

import numpy as np
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.training.outcome import classification_outcome, regression_outcome, what_helps

NAMES = ("axion", "cdm", "no_sub")


def probabilities(labels, right, seed):
    """One-hot rows of which a share is right and the others are drawn evenly."""
    draw = np.random.default_rng(seed)
    guesses = draw.integers(0, 3, len(labels))
    return np.eye(3)[np.where(draw.random(len(labels)) < right, labels, guesses)]


def test_pure_noise_is_named_nearly_always_and_a_good_model_never():
    labels = np.arange(60) % 3
    noise = [classification_outcome(labels, probabilities(labels, 0, i), NAMES) for i in range(100)]
    assert np.mean([bool(lines) for lines in noise]) > 0.93
    assert all("no better than chance: accuracy 0." in line for lines in noise for line in lines)
    good = [classification_outcome(labels, probabilities(labels, 1, i), NAMES) for i in range(100)]
    fair = [classification_outcome(labels, probabilities(labels, 0.5, i), NAMES) for i in range(9)]
    assert not any(good)
    assert not any(fair)


def test_the_common_class_for_every_image_is_chance_and_the_others_are_never_predicted():
    labels = np.repeat([0, 1, 2], [3, 0, 57])
    lines = classification_outcome(labels, np.eye(3)[np.full(60, 2)], NAMES)
    assert lines == [
        "validation: never predicted: axion (3 images)",
        "validation: no better than chance: accuracy 0.95 [0.86, 0.98] on 60 images, of which the "
        "commonest class has 0.95",
    ]


def test_rare_lenses_that_are_found_are_better_than_chance_though_less_is_right():
    """Weights for the rare class cost accuracy; the mean recall shows what they bring."""
    labels = np.repeat([0, 2], [20, 180])
    predicted = np.where(np.arange(200) % 5 == 0, 2 - labels, labels)  # a fifth wrong, in each
    assert (predicted == labels).mean() < (labels == 2).mean()
    assert classification_outcome(labels, np.eye(3)[predicted], NAMES) == []


def test_rare_lenses_below_every_half_are_found_by_weights_not_by_the_largest_probability():
    labels = np.repeat([0, 2], [20, 180])
    p_lens = np.where(labels == 0, 0.4, 0.01)
    rows = np.stack([p_lens, np.zeros(200), 1 - p_lens], axis=1)
    assert classification_outcome(labels, rows, NAMES, (5.0, 1.0, 0.56)) == [
        "validation: never predicted: axion (20 images)"
    ]
    assert len(classification_outcome(labels, rows, NAMES)) == 2


def test_one_class_alone_says_nothing_of_chance():
    assert classification_outcome(np.zeros(9, int), np.eye(3)[np.zeros(9, int)], NAMES) == []


@pytest.mark.parametrize(("right", "named"), [(0.0, True), (0.9, False)])
def test_masses_are_compared_with_their_mean(right, named):
    draw = np.random.default_rng(0)
    true = draw.uniform(-24, -22, 50)
    lines = regression_outcome(true, right * true + (1 - right) * draw.uniform(-24, -22, 50))
    assert bool(lines) == named
    assert all(line.startswith("validation: no better than chance: R² -") for line in lines)


def test_equal_masses_have_no_r2():
    assert regression_outcome(np.full(5, -23.0), np.full(5, -22.0)) == []


def test_what_helps_leaves_out_what_the_run_has():
    config = load_config("finetune", ["finetune.encoder=runs/it", "finetune.fraction=0.1"])
    text = what_helps(config.finetune, weighted=True)
    assert text == (
        "what may help: a larger finetune.fraction, a threshold on p_<class> instead of the "
        "largest probability, more epochs (train.epochs)"
    )
    config = load_config("finetune", ["finetune.encoder=none", "finetune.freeze=true"])
    text = what_helps(config.finetune, weighted=False)
    for words in ("more labels", "--encoder", "class_weight=balanced", "not frozen", "epochs"):
        assert words in text

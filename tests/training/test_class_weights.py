"""Rare classes: when their weights are used, which they are, and what a fine-tuning records."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.saving.keras_files import load_model
from deeplens_tf.training.class_weights import balanced_weights, class_weights
from deeplens_tf.training.finetuning import finetune

CONFIG = load_config("finetune").finetune
NAMES = ("axion", "cdm", "no_sub")


def configured(class_weight):
    return replace(CONFIG, class_weight=class_weight)


def labels_of(*counts):
    return np.repeat(np.arange(len(counts)), counts)


@pytest.mark.parametrize("counts", [(12, 588), (1, 1), (3, 40, 900), (7, 7, 7, 8)])
def test_balanced_weights_are_those_of_scikit_learn(counts):
    labels = labels_of(*counts)
    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    np.testing.assert_allclose(balanced_weights(np.bincount(labels)), expected, rtol=1e-12)


def test_a_class_without_labels_counts_for_nothing():
    np.testing.assert_allclose(balanced_weights(np.array([2, 0, 6])), [2, 1, 2 / 3])


# A fifth of an equal share: 1 in 15 of three classes.
@pytest.mark.parametrize(("counts", "weighted"), [((66, 500, 434), True), ((67, 500, 433), False)])
def test_automatic_weights_start_below_a_fifth_of_an_equal_share(counts, weighted, capsys):
    found = class_weights(configured("auto"), labels_of(*counts), NAMES)
    assert (found is not None) == weighted
    said = capsys.readouterr().out
    assert said.count("class weights in the loss: axion 5.05 (66 labels), cdm 0.667") == weighted
    assert bool(said) == weighted


def test_weights_can_be_left_out_or_always_used():
    rare, even = labels_of(1, 500, 499), labels_of(10, 10, 10)
    assert class_weights(configured("none"), rare, NAMES) is None
    assert class_weights(configured("balanced"), even, NAMES) == (1, 1, 1)
    assert class_weights(configured("balanced"), np.array([-1, 0]), ()) is None  # a regression


@pytest.fixture
def rare(tmp_path, monkeypatch, eager_steps, no_pictures):
    """A configuration of a run of seconds on 4 lenses among 104 images."""
    small = dict(patch_size=4, width=8, depth=0, heads=1, mlp_width=8)
    monkeypatch.setitem(VARIANTS, "vit_nano", small)
    draw = np.random.default_rng(0)
    for name, count in (("lens", 4), ("other", 100)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(count):
            np.save(tmp_path / "images" / name / f"{i}.npy", draw.random((8, 8)))
    words = ("data.image_size=8", f"data.cache={tmp_path / 'cache'}", "finetune.encoder=none")
    fast = ("train.epochs=2", "train.jit_compile=false", "data.validation_fraction=0.25")

    def configure(*more):
        return load_config("finetune", [*words, *fast, *more], str(tmp_path / "images"))

    return configure


def test_a_run_records_its_weights_and_its_model_corrects_for_them(rare, tmp_path):
    run = finetune(rare(), "it", str(tmp_path / "run"))
    expected = [78 / 2 / 3, 78 / 2 / 75]
    assert run.facts()["class_weights"] == pytest.approx(expected)
    assert load_model(run.folder).class_weights == pytest.approx(expected)


@pytest.mark.slow
def test_where_no_class_is_rare_nothing_changes(rare, tmp_path):
    for i in range(4, 40):
        file = tmp_path / "images" / "lens" / f"{i}.npy"
        np.save(file, np.random.default_rng(i).random((8, 8)))
    runs = [
        finetune(rare(f"finetune.class_weight={weight}"), "it", str(tmp_path / weight))
        for weight in ("auto", "none")
    ]
    assert runs[0].history.read_bytes() == runs[1].history.read_bytes()
    assert runs[0].facts()["class_weights"] is None


def test_a_regression_has_no_classes_to_be_weighted(rare, tmp_path):
    words = ("finetune.head=regression", "finetune.class_weight=balanced")
    with pytest.raises(RequestError, match="class_weight balanced: a regression has no classes"):
        finetune(rare(*words), "it", str(tmp_path / "run"))
    assert not (tmp_path / "cache").exists()

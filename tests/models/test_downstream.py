"""The fine-tuned model: an encoder under a head."""

import keras
import numpy as np
import pytest

from deeplens_tf.models import DownstreamModel
from deeplens_tf.models.heads import classification_head
from deeplens_tf.saving.keras_files import load_model
from tests.models.tiny import (
    assert_same_values,
    changed_paths,
    randomise,
    reloaded,
    tiny_images,
    tiny_original,
    tiny_vit,
    values_of,
)

NAMES = ("axion", "cdm", "no_sub")


def make_model(freeze=False, make=tiny_vit, **options):
    keras.utils.set_random_seed(0)
    return DownstreamModel(make(**options), classification_head(3), NAMES, freeze)


def train(model, steps=2):
    # Eager: a few steps on tiny images take less time than tracing a graph.
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True, jit_compile=False)
    for _ in range(steps):
        model.train_on_batch(tiny_images(6), np.arange(6) % 3)


def test_the_output_is_the_softmax_of_a_linear_layer_on_the_features():
    model, images = make_model(), tiny_images()
    kernel, bias = (np.asarray(weight, float) for weight in model.head.weights)
    logits = np.asarray(model.encoder(images), float) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model(images), expected, rtol=1e-4)
    assert model.image_shape == model.encoder.image_shape


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_encoder_stays_as_it_is_while_the_head_learns(freeze):
    model = make_model(freeze, make=tiny_original)
    before = values_of(model)
    train(model)
    # Moving statistics of the original's BatchNorm layers included.
    moved = changed_paths(before, model)
    assert any("head/kernel" in path for path in moved)
    of_the_encoder = {path for path in values_of(model.encoder) if path in moved}
    assert bool(of_the_encoder) != freeze
    assert any("moving_mean" in path for path in of_the_encoder) != freeze


def test_a_frozen_encoder_drops_nothing_in_training():
    images = tiny_images()
    frozen, free = make_model(True, dropout=0.5), make_model(False, dropout=0.5)
    np.testing.assert_array_equal(frozen(images, training=True), frozen(images, training=False))
    assert np.abs(free(images, training=True) - free(images, training=False)).max() > 1e-4


@pytest.mark.parametrize("make", [tiny_vit, tiny_original])
@pytest.mark.parametrize("freeze", [True, False])
def test_a_file_gives_the_same_model_back(freeze, make, tmp_path):
    model = make_model(freeze, make=make)
    train(model)
    randomise(model)
    other = reloaded(model, tmp_path)
    assert type(other) is DownstreamModel
    assert other.class_names == NAMES
    assert other.freeze is freeze
    assert len(other.trainable_variables) == len(model.trainable_variables)
    assert_same_values(model, other)
    np.testing.assert_array_equal(model(tiny_images()), other(tiny_images()))


@pytest.mark.parametrize("freeze", [True, False])
def test_the_encoder_of_a_frozen_models_file_can_be_frozen_or_trained(freeze, tmp_path):
    encoder = reloaded(make_model(freeze=True), tmp_path).encoder
    model = DownstreamModel(encoder, classification_head(3), NAMES, freeze)
    before = values_of(encoder)
    train(model)
    assert bool(changed_paths(before, encoder)) != freeze


WEIGHTS = (20.0, 0.5, 2.0)


def weighted_model(weights=WEIGHTS, **options):
    keras.utils.set_random_seed(0)
    return DownstreamModel(
        tiny_vit(**options), classification_head(3), NAMES, class_weights=weights
    )


def test_at_inference_the_class_weights_are_taken_out_again():
    model, images = weighted_model(), tiny_images()
    learned = np.asarray(model(images, training=True), float)
    expected = learned / WEIGHTS / (learned / WEIGHTS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model(images), expected, rtol=1e-5)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(make_model()(images), learned, rtol=1e-6)


def test_a_classifier_that_learned_under_weights_gives_the_probabilities_of_bayes_rule():
    """Two classes at 0 and 1 with unit variance, one in ten of them at 1; the posterior is known.

    The minimum of the weighted loss is found by Newton's method, in NumPy.
    """
    generator = np.random.default_rng(0)
    labels = (generator.random(200_000) < 0.1).astype(int)
    values = labels + generator.normal(size=len(labels))
    weights = len(labels) / (2 * np.bincount(labels))
    slope, offset = fitted_by_newton(values, labels, weights[labels])
    model = DownstreamModel(
        tiny_vit(), classification_head(2), ("other", "lens"), class_weights=weights
    )
    for value in np.linspace(-1, 2, 7):
        model.head.kernel.assign(np.zeros(model.head.kernel.shape))
        model.head.bias.assign([0, slope * value + offset])
        posterior = 1 / (1 + 9 * np.exp(0.5 - value))  # odds of 1 to 9, times the likelihoods'
        assert float(model(tiny_images(1))[0, 1]) == pytest.approx(posterior, abs=0.01)
        assert float(model(tiny_images(1), training=True)[0, 1]) > posterior + 0.1


def fitted_by_newton(values, labels, weights):
    """Return slope and offset of the weighted logistic regression."""
    columns, found = np.stack([values, np.ones_like(values)], axis=1), np.zeros(2)
    for _ in range(20):
        p = 1 / (1 + np.exp(-columns @ found))
        gradient = columns.T @ (weights * (labels - p))
        found += np.linalg.solve((columns.T * (weights * p * (1 - p))) @ columns, gradient)
    return found


def test_the_loss_is_weighted_in_training_only():
    model, images, labels = weighted_model(), tiny_images(6), np.arange(6) % 3
    model.compile("sgd", "categorical_crossentropy", run_eagerly=True)
    targets = np.eye(3, dtype="float32")[labels]
    learned, corrected = np.asarray(model(images, training=True)), np.asarray(model(images))
    losses = [-np.log(p[np.arange(6), labels].astype(float)) for p in (learned, corrected)]
    found = model.test_on_batch(images, targets)
    assert float(found) == pytest.approx(losses[1].mean(), rel=1e-4)
    found = model.train_on_batch(images, targets)
    assert float(found) == pytest.approx((np.array(WEIGHTS)[labels] * losses[0]).mean(), rel=1e-4)
    own = np.arange(1, 7, dtype="float32")
    loss = model.compute_loss(images, targets, learned, own, training=True)
    expected = (own * np.array(WEIGHTS)[labels] * losses[0]).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_a_file_keeps_the_class_weights_and_without_them_is_as_before(tmp_path):
    model = randomise(weighted_model())
    other = reloaded(model, tmp_path)
    assert other.class_weights == WEIGHTS
    np.testing.assert_array_equal(model(tiny_images()), other(tiny_images()))
    assert "class_weights" not in make_model().get_config()
    assert load_model(tmp_path / "model.keras").class_weights == WEIGHTS


@pytest.mark.parametrize("weights", [(), (1, 2), (1, 2, 0), (1, 2, -1), (1, 2, np.nan)])
def test_class_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="class_weights must be one positive number for each"):
        weighted_model(weights)

"""The fine-tuned model: an encoder under a head."""

import keras
import numpy as np
import pytest

from deeplens_tf.models import DownstreamModel
from deeplens_tf.models.heads import classification_head
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

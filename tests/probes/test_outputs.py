"""Outputs of a model for whole splits: traced once, and those of Keras's own `predict`."""

import logging

import keras
import numpy as np
import pytest

from deeplens_tf.data import from_arrays
from deeplens_tf.data.batches import image_batches
from deeplens_tf.models import build_encoder
from deeplens_tf.probes.outputs import BATCH_SIZE, ExactOutputs, model_outputs

COUNT = BATCH_SIZE + 44  # 270 of them for training: a full batch and a smaller one
SPLITS = ("train", "validation", "train", "validation")


@pytest.fixture(scope="module")
def data():
    images = np.random.default_rng(0).random((COUNT, 8, 8, 1), dtype=np.float32)
    return from_arrays(images, labels=np.arange(COUNT) % 2)


@pytest.fixture
def encoder():
    return build_encoder("vit_nano", (8, 8, 1), patch_size=4)


def test_all_batches_of_all_splits_are_traced_once(encoder, data, monkeypatch):
    traces, step = [], encoder.predict_step
    monkeypatch.setattr(encoder, "predict_step", lambda batch: traces.append(batch) or step(batch))
    for split in SPLITS:
        model_outputs(encoder, data, split, show_progress=False)
    assert len(traces) == 1


def test_the_outputs_are_those_of_predict_bit_for_bit(encoder, data):
    expected = [encoder.predict(image_batches(data, s, BATCH_SIZE), verbose=0) for s in SPLITS]
    encoder.make_predict_function(force=True)
    for split, outputs in zip(SPLITS, expected, strict=True):
        computed = model_outputs(encoder, data, split, show_progress=False)
        np.testing.assert_array_equal(computed, outputs)


def test_a_model_without_a_graph_has_the_same_outputs(encoder, data):
    expected = model_outputs(encoder, data, "validation", show_progress=False)
    encoder.compile(run_eagerly=True)
    computed = model_outputs(encoder, data, "validation", show_progress=False)
    np.testing.assert_allclose(computed, expected, atol=1e-5)


def test_exact_outputs_depend_on_each_image_alone(encoder):
    images = np.random.default_rng(1).random((BATCH_SIZE, 8, 8, 1), dtype=np.float32)
    exact = ExactOutputs(encoder)
    expected = exact(images)
    np.testing.assert_allclose(expected, encoder.predict(images, verbose=0), rtol=1e-4, atol=1e-5)
    assert len(np.unique(expected, axis=0)) == BATCH_SIZE
    order = np.random.default_rng(2).permutation(BATCH_SIZE)
    for size in (1, 37, BATCH_SIZE):
        parts = [exact(images[order[i : i + size]]) for i in range(0, BATCH_SIZE, size)]
        np.testing.assert_array_equal(np.concatenate(parts), expected[order])


def test_with_a_gpu_the_images_are_one_batch(encoder, monkeypatch):
    images = np.random.default_rng(1).random((5, 8, 8, 1), dtype=np.float32)
    expected, sizes, call = ExactOutputs(encoder)(images), [], encoder.call
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(encoder, "call", lambda x, **o: sizes.append(x.shape[0]) or call(x, **o))
    np.testing.assert_allclose(ExactOutputs(encoder)(images), expected, rtol=1e-4, atol=1e-5)
    assert sizes == [None]  # any number of images, not one


def test_a_loop_of_models_is_computed_without_a_warning(caplog):
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    logger = logging.getLogger("tensorflow")
    logger.addHandler(caplog.handler)
    for count in range(1, 9):
        images = np.arange(4.0 * count, dtype=np.float32).reshape(count, 2, 2, 1)
        np.testing.assert_array_equal(ExactOutputs(model)(images), images.reshape(count, 4))
    logger.removeHandler(caplog.handler)
    assert not caplog.records

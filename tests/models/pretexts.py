"""Tiny models of every self-supervised method, and batches that any of them can train on."""

import keras
import numpy as np

from deeplens_tf.config import load_config
from deeplens_tf.training.methods import build_method
from tests.models.tiny import reloaded, tiny_images, tiny_vit

METHODS = ("contrastive", "byol", "twin", "simsiam", "inpainting")
CLASSES = 3
PATCHES = 6  # of 4 by 4 pixels in tiny.IMAGE_SHAPE
SMALL = (
    "pretrain.projection_width=6",
    "pretrain.byol.hidden_width=8",
    "pretrain.simsiam.predictor_width=4",
    "pretrain.inpainting.mask_ratio=0.5",
    "pretrain.inpainting.decoder_width=8",
    "pretrain.inpainting.decoder_depth=1",
    "pretrain.inpainting.decoder_heads=2",
)


def settings(method, *overrides):
    return load_config("defaults", [f"pretrain.method={method}", *SMALL, *overrides]).pretrain


def make_method(method, classes=CLASSES, seed=0, total_steps=10, **options):
    keras.utils.set_random_seed(seed)
    encoder = tiny_vit(**{"depth": 1, **options})
    return build_method(settings(method), encoder, classes, total_steps)


def make_batch(count=8, seed=0):
    generator = np.random.default_rng(seed)
    names = ("view_1", "view_2", "image")
    batch = {name: tiny_images(count, seed=10 * seed + i) for i, name in enumerate(names)}
    batch["label"] = np.arange(count, dtype="int64") % CLASSES
    orders = [generator.permutation(PATCHES) for _ in range(count)]
    return batch | {"patch_order": np.array(orders, "int32")}


def eager(model, optimizer="sgd"):
    """Compile without a graph: a few steps of a tiny model are faster so."""
    model.compile(optimizer=optimizer, run_eagerly=True)
    return model


def scores(model, batch):
    results = eager(model).test_on_batch(batch, return_dict=True)
    return {key: float(value) for key, value in results.items()}


def arrays(tensors):
    return [keras.ops.convert_to_numpy(tensor).astype(float) for tensor in tensors]


def assert_file_keeps_everything(model, folder):
    """Compare variable by variable in order: paths shorten when a nested model is read."""
    other = reloaded(model, folder)
    assert type(other) is type(model)
    assert len(model.weights) == len(other.weights) > 0
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)
    return other

"""The package's models as the parity tests compare them: known weights, and no dropout."""

import keras
import numpy as np

from deeplens_tf.models import BYOLModel, ContrastiveModel, build_encoder
from deeplens_tf.models.heads import batch_norm_mlp, linear_probe, projection_head
from tests.models.tiny import tiny_original

IMAGE_SHAPE = (64, 64, 3)
BATCH = 8


def contrastive_vit():
    encoder = build_encoder("vit_b32_original", IMAGE_SHAPE, dropout=0.0)
    return ContrastiveModel(without_dropout(encoder), projection_head(256), 0.1, linear_probe(3))


def contrastive_resnet():
    encoder = build_encoder("resnet50", IMAGE_SHAPE, top_width=256)
    return ContrastiveModel(without_dropout(encoder), projection_head(256), 0.1, linear_probe(3))


def byol_resnet():
    encoder = without_dropout(build_encoder("resnet50", IMAGE_SHAPE, top_width=128))
    model = BYOLModel(encoder, byol_head("projector"), byol_head("predictor"), beta=0.99)
    without_dropout(model.target_encoder)
    return model


def byol_small():
    """BYOL around a network small enough for its steps to travel as arrays."""
    return BYOLModel(tiny_original(), byol_head("projector"), byol_head("predictor"), beta=0.99)


def byol_head(name):
    return batch_norm_mlp((64, 32), name)


def without_dropout(encoder):
    """Two stacks never draw the same numbers."""
    for layer in encoder.top.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return encoder


PARTS = ("encoder", "projector", "predictor", "probe", "target_encoder", "target_projector")
MODELS = {"vit": contrastive_vit, "resnet": contrastive_resnet, "byol": byol_resnet}


def variables_of(model):
    """A model's variables by part and by their path within it, as the reference names them."""
    return {
        f"{part}/{_within(part, getattr(model, part), variable.path)}": variable
        for part in PARTS
        if getattr(model, part, None) is not None
        for variable in getattr(model, part).weights
    }


def _within(part, layer, path):
    names = path.split("/")
    if layer.name in names:
        names = names[names.index(layer.name) + 1 :]
    elif "top" in names:
        names = names[names.index("top") :]
    return "/".join(names)


def trainable_of(model):
    return {name: v for name, v in variables_of(model).items() if v.trainable}


def randomise(model, seed):
    """Give every variable that starts as a constant a value of its own."""
    generator = np.random.default_rng(seed)
    draws = {
        "bias": lambda shape: generator.normal(0, 0.02, shape),
        "beta": lambda shape: generator.normal(0, 0.05, shape),
        "gamma": lambda shape: generator.uniform(0.8, 1.2, shape),
        "moving_mean": lambda shape: generator.normal(0, 0.1, shape),
        "moving_variance": lambda shape: generator.uniform(0.5, 1.5, shape),
        "class_token": lambda shape: generator.normal(0, 0.02, shape),
    }
    for variable in variables_of(model).values():
        if variable.name in draws:
            variable.assign(draws[variable.name](variable.shape))
    return model


def batch(seed):
    """Two views of images that differ, unlike pure noise, in what a network sees first."""
    generator = np.random.default_rng(seed)
    blocks = generator.random((2, BATCH, 8, 8, 3))
    first = np.kron(blocks[0], np.ones((1, 8, 8, 1)))
    second = 0.6 * first + 0.4 * np.kron(blocks[1], np.ones((1, 8, 8, 1)))
    labels = generator.integers(0, 3, BATCH)
    return {"1": first.astype("float32"), "2": second.astype("float32"), "label": labels}

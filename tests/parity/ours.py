"""The package's models as the parity tests compare them: known weights, and no dropout."""

import contextlib
import io
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd

from deeplens_tf.config import load_config
from deeplens_tf.models import BYOLModel, ContrastiveModel, DownstreamModel, build_encoder
from deeplens_tf.models.heads import batch_norm_mlp, linear_probe, projection_head
from deeplens_tf.training.tasks import build_task
from tests.models.tiny import tiny_original

CLASSES = ("axion", "cdm", "no_sub")
IMAGE_SHAPE = (64, 64, 3)
BATCH = 8
# Neither square nor as many: rows and columns cannot be exchanged unnoticed.
OBLONG_SHAPE, OBLONG_BATCH = (96, 64, 3), 3


ENCODERS = {
    "vit": ("vit_b32_original", {"dropout": 0.0}),
    "resnet": ("resnet50", {"top_width": 256}),
    "byol": ("resnet50", {"top_width": 128}),
    "regression": ("resnet50", {"top_width": 128, "plain_top": True}),
}


def encoder_of(name, image_shape=IMAGE_SHAPE):
    """Return a model's encoder, without dropout: two stacks never draw the same numbers."""
    kind, options = ENCODERS[name]
    return without_dropout(build_encoder(kind, image_shape, **options))


def contrastive(name):
    return ContrastiveModel(encoder_of(name), projection_head(256), 0.1, linear_probe(3))


def byol_resnet():
    encoder, heads = encoder_of("byol"), (byol_head("projector"), byol_head("predictor"))
    model = BYOLModel(encoder, *heads, momentum=0.99)
    without_dropout(model.target_encoder)
    return model


def regression_resnet():
    task = regression_task()
    model = DownstreamModel(encoder_of("regression"), task.head)
    model.compile(loss=task.loss)
    return model


def byol_small():
    """BYOL around a network small enough for its steps to travel as arrays."""
    return BYOLModel(tiny_original(), byol_head("projector"), byol_head("predictor"), momentum=0.99)


def byol_head(name):
    return batch_norm_mlp((64, 32), name)


def without_dropout(encoder):
    for layer in encoder.top.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return encoder


def classification_task():
    """What fine-tuning on the classes trains: head, target, loss and metrics."""
    data = SimpleNamespace(classes=CLASSES)
    return build_task(load_config("original_baseline").finetune, data, "images")


def regression_task():
    """What fine-tuning on the axion's mass trains, as the original's configuration has it."""
    index = pd.DataFrame({"label": [0, 0], "mass_ev": [1e-24, 1e-22]})
    data = SimpleNamespace(classes=CLASSES, seed=0, index=lambda split: index)
    with contextlib.redirect_stdout(io.StringIO()):  # it says how many images carry a mass
        return build_task(load_config("original_regression").finetune, data, "images")


PARTS = (
    "encoder",
    "projector",
    "predictor",
    "probe",
    "head",
    "target_encoder",
    "target_projector",
)
MODELS = {
    "vit": lambda: contrastive("vit"),
    "resnet": lambda: contrastive("resnet"),
    "byol": byol_resnet,
    "regression": regression_resnet,
}


def variables_of(model):
    """A model's variables by part and by their path within it, as the reference names them."""
    return {
        f"{part}/{_within(part, getattr(model, part), variable.path)}": variable
        for part in PARTS
        if getattr(model, part, None) is not None
        for variable in getattr(model, part).weights
    }


def encoder_variables(encoder):
    """An encoder's variables, named as when it is a part of a model."""
    return variables_of(SimpleNamespace(encoder=encoder))


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
    labels, masses = generator.integers(0, 3, BATCH), generator.uniform(-24, -22, BATCH)
    views = {"1": first.astype("float32"), "2": second.astype("float32")}
    return {**views, "label": labels, "mass": masses.astype("float32")}


def oblong(name, seed):
    """Images of another shape, and the weights that depend on it."""
    generator = np.random.default_rng(seed)
    rows, columns, bands = OBLONG_SHAPE
    blocks = generator.random((OBLONG_BATCH, rows // 8, columns // 8, bands))
    arrays = {"images": np.kron(blocks, np.ones((1, 8, 8, 1))).astype("float32")}
    if name == "vit":
        tokens = 1 + (rows // 32) * (columns // 32)
        positions = generator.normal(0, 0.06, (1, tokens, 768))
        arrays["weights/embedding/positions"] = positions.astype("float32")
    return arrays

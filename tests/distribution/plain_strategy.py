"""A program that test_plain_strategy.py runs: plain Keras on one device and on two of this CPU.

It leaves `none-<case>.npz` and `mirrored-<case>.npz` in the folder it is given, for each case that
is named to it, or `refusals.json`. The arguments are a folder and cases.
"""

import contextlib
import functools
import json
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import deeplens_tf as dl
from deeplens_tf.data.batches import view_batches
from deeplens_tf.distribution import connect_replicas
from deeplens_tf.models import BYOLModel, ContrastiveModel, DownstreamModel, VisionTransformer
from deeplens_tf.models.heads import (
    batch_norm_mlp,
    classification_head,
    linear_probe,
    projection_head,
)
from tests.distribution.two_replicas import keep

SHAPE, CLASSES = (8, 8, 2), 3
COUNT = 60  # images, of which 48 are trained on
RATE, CLIP = 0.05, 0.02  # the clip is well below the norms of the gradients
CASES = {
    "contrastive": {"inside": True},
    "one batch an epoch": {"batch_size": 48},
    "byol": {"model": "byol", "sgd": {"clipvalue": CLIP / 100}},
    "masked": {"model": "masked", "sgd": {"global_clipnorm": CLIP}, "between": "compile"},
    "saved": {"sgd": {"global_clipnorm": CLIP}, "probe_rate": 2 * RATE, "between": "save"},
    "downstream": {"model": "downstream", "sgd": {"clipnorm": CLIP}, "between": "connect"},
}


def main(folder, cases):
    strategy = two_devices()
    for case in set(CASES) & set(cases):
        keep(folder / f"none-{case}.npz", *train(case, folder))
        keep(folder / f"mirrored-{case}.npz", *train(case, folder, strategy))
    if "refusals" in cases:
        (folder / "refusals.json").write_text(json.dumps(refusals(strategy)))


def two_devices():
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    # Which would take longer than the few steps here.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices()]
    )


def train(case, folder, strategy=None):
    """Train for two epochs and, after what the case says lies between, for another one."""
    options = CASES[case]
    with scope(strategy):
        model = compiled(options)
        inside = batches(options) if options.get("inside") else None
    data = inside or batches(options)
    if strategy is not None:
        connect_replicas(model)
    model.run_eagerly = strategy is None  # faster for a few steps
    model.fit(data, epochs=2, shuffle=False, verbose=0)
    if strategy is not None and "between" in options:
        model = {"save": saved, "compile": compiled_again, "connect": connected_again}[
            options["between"]
        ](model, strategy, folder / f"{case}.keras")
    history = model.fit(
        data, validation_data=validation(options.get("model")), shuffle=False, verbose=0
    )
    return model, {name: values[-1] for name, values in history.history.items()}


def saved(model, strategy, path):
    with warnings.catch_warnings():  # Keras's way to read a variable of several replicas
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        model.save(path)
    with strategy.scope():
        loaded = keras.saving.load_model(path)
    connect_replicas(loaded)
    return loaded


def compiled_again(model, strategy, path):
    with strategy.scope():
        model.compile(keras.optimizers.SGD(RATE, global_clipnorm=CLIP))
    connect_replicas(model)
    return model


def connected_again(model, strategy, path):
    connect_replicas(model)
    return model


def scope(strategy):
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def compiled(options, **compiling):
    keras.utils.set_random_seed(0)
    model = MODELS[options.get("model", "contrastive")]()
    sgd = keras.optimizers.SGD(RATE, **options.get("sgd", {}))
    if isinstance(model, DownstreamModel):
        compiling["loss"] = "sparse_categorical_crossentropy"
    if "probe_rate" in options:
        compiling["probe_optimizer"] = keras.optimizers.SGD(options["probe_rate"])
    model.compile(sgd, **compiling)
    return model


def contrastive():
    return ContrastiveModel(encoder(), projection_head(16), probe=linear_probe(CLASSES))


def byol():
    heads = (batch_norm_mlp((32, 16), name) for name in ("projector", "predictor"))
    return BYOLModel(encoder(), *heads, probe=linear_probe(CLASSES))


def downstream():
    head = classification_head(CLASSES)
    model = DownstreamModel(encoder(batch_norm=True), head, ("axion", "cdm", "no_sub"))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def masked():
    vit = VisionTransformer(SHAPE, patch_size=2, width=12, depth=0, heads=2, mlp_width=16)
    return ContrastiveModel(vit, projection_head(16), probe=linear_probe(CLASSES), keep_tokens=0.5)


MODELS = {"contrastive": contrastive, "byol": byol, "downstream": downstream, "masked": masked}


def encoder(batch_norm=False):
    image = keras.Input(SHAPE)
    features = keras.layers.Dense(12)(keras.layers.Flatten()(image))
    features = keras.layers.BatchNormalization()(features) if batch_norm else features
    return keras.Model(image, keras.layers.Activation("tanh")(features))


def images():
    return np.random.default_rng(0).normal(size=(COUNT, *SHAPE)).astype("float32")


@functools.cache
def data_set():
    return dl.data.from_arrays(images(), np.arange(COUNT) % CLASSES, validation_fraction=0.2)


def batches(options):
    if options.get("model") == "downstream":
        return labelled(slice(48))
    augment = dl.augment.Augment(["flip", "brightness"])
    return view_batches(
        data_set(), augment, options.get("batch_size", 16), **masks(options.get("model"))
    )


@functools.cache  # a pass in stored order, the same each time
def validation(model):
    if model == "downstream":
        return labelled(slice(48, 60))
    flip = dl.augment.Augment(["flip"])
    return view_batches(data_set(), flip, 6, split="validation", **masks(model))


def masks(model):
    return {"patches": 16, "masked_views": True} if model == "masked" else {}


def labelled(rows):
    pairs = images()[rows], (np.arange(COUNT) % CLASSES)[rows]
    return tf.data.Dataset.from_tensor_slices(pairs).batch(16)


def refusals(strategy):
    """What each wrong use says: the name of the error and its message."""
    data = batches({})
    rows = next(iter(data))

    def fit(model):
        model.fit(data, shuffle=False, verbose=0)

    return {
        "fit": refusal(strategy, fit),
        "evaluate": refusal(strategy, lambda model: model.evaluate(data, verbose=0)),
        "train_on_batch": refusal(strategy, lambda model: model.train_on_batch(rows)),
        "jit_compile": refusal(strategy, connect_replicas, jit_compile=True),
        "steps_per_execution": refusal(strategy, connect_replicas, steps_per_execution=3),
        "gradient_accumulation_steps": refusal(
            strategy, connect_replicas, sgd={"gradient_accumulation_steps": 2}
        ),
        "no scope": refusal(None, connect_replicas),
        "compiled again": refusal(strategy, lambda model: fit(recompiled(model))),
        "odd": refusal(strategy, fit_odd),
        "encoder outside": refused(with_encoder_outside, strategy),
        "optimizer outside": refused(with_optimizer_outside, strategy),
    }


def recompiled(model):
    connect_replicas(model)
    with model.distribute_strategy.scope():
        model.compile("sgd")
    return model


def fit_odd(model):
    connect_replicas(model)
    model.fit(batches({"batch_size": 15}), shuffle=False, verbose=0)


def with_encoder_outside(strategy):
    outside = encoder()
    with strategy.scope():
        model = ContrastiveModel(outside, projection_head(16))
        model.compile("sgd")
    connect_replicas(model)


def with_optimizer_outside(strategy):
    with strategy.scope():
        model = contrastive()
    model.compile("adam")
    connect_replicas(model)


def refusal(strategy, use, sgd=None, **compiling):
    with scope(strategy):
        model = compiled({"sgd": sgd or {}}, **compiling)
    return refused(use, model)


def refused(use, subject):
    try:
        use(subject)
    except Exception as error:  # whatever it is, the test reads it
        return type(error).__name__, str(error)
    return "", "not refused"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""A program that test_keras_matrix.py runs: trainings by plain Keras with various settings.

It leaves `<number>.npz` of each combination in the folder it is given, for each number that is
named to it, and `<method>.npz` of each method's reference: float32, eager, one device.
"""

import contextlib
import itertools
import re
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from deeplens_tf.distribution import connect_replicas
from deeplens_tf.models.encoders import global_policy
from deeplens_tf.training.methods import build_method
from tests.distribution.plain_strategy import two_devices
from tests.models.pretexts import CLASSES, METHODS, make_batch, settings
from tests.models.tiny import dense_encoder, tiny_vit

BATCH, STEPS = 16, 4  # no multiple of 3 steps per execution
# Barlow Twins' loss is steep: after larger steps, a rounding makes all of the next.
RATES = dict.fromkeys(METHODS, 0.005) | {"twin": 0.0005}
LOSS_SCALE = 256.0  # of float16; from Keras's 32,768 the first steps overflow and are left out
WIDTHS = ("projection_width", "byol.hidden_width", "simsiam.predictor_width")


class Combination(NamedTuple):
    method: str
    precision: str
    mode: str
    steps_per_execution: int
    replicas: int
    is_saved: bool

    def __str__(self) -> str:
        return "-".join(map(str, self))


FACTORS = (
    METHODS,
    ("float32", "mixed_bfloat16", "mixed_float16"),
    ("graph", "xla", "eager"),
    (1, 3),
    (1, 2),
    (False, True),
)


def possible(combination):
    """Whether Keras can do it: of several replicas, neither XLA nor several steps at once.

    Replicas without a graph are slow, so only one method shows that they work.
    """
    if combination.replicas == 1:
        return True
    modes = ("graph", "eager") if combination.method == "contrastive" else ("graph",)
    return combination.mode in modes and combination.steps_per_execution == 1


def pairs(combination):
    return {*itertools.combinations(enumerate(combination), 2)}


def covering():
    """The fewest that a greedy choice finds, which contain every possible pair of settings."""
    choice = [*filter(possible, itertools.starmap(Combination, itertools.product(*FACTORS)))]
    missing, chosen = set().union(*map(pairs, choice)), []
    while missing:
        chosen.append(max(choice, key=lambda each: len(pairs(each) & missing)))
        missing -= pairs(chosen[-1])
    return chosen


COMBINATIONS = covering()


def main(folder, numbers):
    strategy = two_devices()
    for number in map(int, numbers):
        combination = COMBINATIONS[number]
        reference = Combination(combination.method, "float32", "eager", 1, 1, is_saved=False)
        if not (folder / f"{reference.method}.npz").exists():
            keep(folder / f"{reference.method}.npz", reference)
        keep(folder / f"{number}.npz", combination, strategy)


def keep(path, combination, strategy=None):
    begun, model, metrics = train(combination, strategy, path.with_suffix(".keras"))
    arrays = {f"begun/{name}": value for name, value in begun.items()}
    arrays |= {f"weights/{name}": value for name, value in weights(model).items()}
    np.savez(path, **arrays, **{f"metrics/{name}": value for name, value in metrics.items()})


def train(combination, strategy, path):
    """Train for two epochs; return the first weights, the model and the last epoch's metrics."""
    with global_policy(combination.precision), scope(strategy, combination):
        model = compiled(combination)
        begun = weights(model)
    first = fit(model, combination)
    if combination.is_saved:
        save(model, path)
        with scope(strategy, combination):
            model = keras.saving.load_model(path)
    history = fit(model, combination)
    assert first.keys() == history.keys()
    return begun, model, history


def scope(strategy, combination):
    return strategy.scope() if combination.replicas > 1 else contextlib.nullcontext()


def compiled(combination):
    keras.utils.set_random_seed(0)
    words = [f"pretrain.{name}=16" for name in WIDTHS]
    encoder = tiny_vit(depth=1) if combination.method == "inpainting" else dense_encoder()
    model = build_method(settings(combination.method, *words), encoder, CLASSES, total_steps=20)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    model.compile(
        optimizer(combination),
        run_eagerly=combination.mode == "eager",
        jit_compile=combination.mode == "xla",
        steps_per_execution=combination.steps_per_execution,
    )
    return model


def optimizer(combination):
    sgd = keras.optimizers.SGD(RATES[combination.method])
    if combination.precision != "mixed_float16":
        return sgd
    return keras.optimizers.LossScaleOptimizer(sgd, initial_scale=LOSS_SCALE)


def fit(model, combination):
    if combination.replicas > 1:
        connect_replicas(model)
    history = model.fit(batches(), shuffle=False, verbose=0)
    return {name: values[-1] for name, values in history.history.items()}


def batches():
    rows = make_batch(BATCH * STEPS)
    bright = np.random.default_rng(1).uniform(0.1, 1, (BATCH * STEPS, 1, 1, 1)).astype("float32")
    for name in ("view_1", "view_2", "image"):
        rows[name] *= bright  # which tells images of noise apart
    return tf.data.Dataset.from_tensor_slices(rows).batch(BATCH)


def save(model, path):
    with warnings.catch_warnings():  # Keras's way to read a variable of several replicas
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        model.save(path)


def weights(model):
    """The weights by place and name, since Keras numbers names by what it has made before."""
    named = ((re.sub("_[0-9]+", "", each.path.split("/")[-1]), each) for each in model.weights)
    return {
        f"{place}/{name}": each.numpy()
        for place, (name, each) in enumerate(named)
        if "seed" not in name
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""`python -m tests.parity.given FOLDER`: our weights and batches, for the original's stack."""

import sys
from pathlib import Path

import keras
import numpy as np

from parity.exchange import named, write
from tests.parity.ours import (
    MODELS,
    batch,
    byol_small,
    oblong,
    randomise,
    trainable_of,
    variables_of,
)

SEED = 7
STEPS = 3


def main(folder):
    folder = Path(folder) / "given"
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        keras.utils.set_random_seed(SEED)
        model = randomise(make(), SEED)
        weights = {path: variable.numpy() for path, variable in variables_of(model).items()}
        arrays = named("weights", weights) | named("batch", batch(SEED))
        write(folder / f"{name}.npz", arrays | named("oblong", oblong(name, SEED)))
    write(folder / "step.npz", step(np.random.default_rng(SEED)))


def step(generator):
    """Weights of an online and a target network, and three gradients, some of them tiny or 0."""
    keras.utils.set_random_seed(SEED)
    trainable = trainable_of(randomise(byol_small(), SEED))
    arrays = {}
    for name, variable in trainable.items():
        value = variable.numpy()
        sizes = 10.0 ** generator.uniform(-9, 1, value.shape)
        arrays[f"online/{name}"] = value
        for i in range(STEPS):
            gradient = (
                sizes * generator.normal(size=value.shape) * (generator.random(value.shape) < 0.95)
            )
            arrays[f"gradient/{i}/{name}"] = gradient.astype("float32")
        if not name.startswith("predictor"):
            noise = generator.normal(0, 0.1, value.shape)
            arrays[f"target/{name}"] = (value + noise).astype("float32")
    return arrays


if __name__ == "__main__":
    main(sys.argv[1])

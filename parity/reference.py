"""`python -m parity.reference FOLDER`: what the original's stack makes of the given arrays.

Reads FOLDER/given/*.npz, which `tests.parity.given` wrote in the package's own environment, and
writes FOLDER/reference/*.npz. What rounding dominates is computed twice, in float32 and in
float64: the second tells how far the first is from the truth.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import tensorflow as tf

from parity import resnet, vision_transformer
from parity.activations import gelu_cases
from parity.areas import area_cases
from parity.exchange import Arrays, read, write
from parity.heads import head_cases
from parity.losses import loss_cases
from parity.rotations import rotation_cases
from parity.steps import adam_steps, byol_steps
from parity.training import bootstrap, contrastive

SEED = 2024
IMAGE_SHAPE = (64, 64, 3)
PACKAGES = ("tensorflow", "keras", "tensorflow-addons", "numpy", "scikit-learn")

FROM_SEED: dict[str, Callable[[np.random.Generator], Arrays]] = {
    "gelu": gelu_cases,
    "rotation": rotation_cases,
    "losses": loss_cases,
    "heads": head_cases,
    "areas": area_cases,
}
Model = Callable[[Mapping[str, np.ndarray], Path], Arrays]


def main(folder: Path) -> None:
    """Write every reference array."""
    tf.get_logger().setLevel("ERROR")
    tf.keras.utils.set_random_seed(SEED)
    out = folder / "reference"
    out.mkdir(parents=True, exist_ok=True)
    for name, cases in FROM_SEED.items():
        write(out / f"{name}.npz", cases(np.random.default_rng(SEED)))
    given = read(folder / "given" / "step.npz")
    write(out / "byol_steps.npz", byol_steps(given))
    write(out / "adam_steps.npz", adam_steps(given))
    for name, model in MODELS.items():
        _both_precisions(name, model, read(folder / "given" / f"{name}.npz"), out)
    (out / "versions.json").write_text(json.dumps({p: metadata.version(p) for p in PACKAGES}))


def _both_precisions(name: str, model: Model, given: Mapping[str, np.ndarray], out: Path) -> None:
    for precision in ("float32", "float64"):
        begun = time.monotonic()
        tf.keras.backend.clear_session()
        tf.keras.backend.set_floatx(precision)
        write(out / f"{name}_{precision}.npz", model(given, out))
        tf.keras.backend.set_floatx("float32")
        print(f"{name}, {precision}: {time.monotonic() - begun:.0f} s", flush=True)


def _vit(given: Mapping[str, np.ndarray], out: Path) -> Arrays:
    encoder = vision_transformer.vision_transformer(IMAGE_SHAPE, dropout=0.0)
    return _contrastive(encoder, vision_transformer.variables(encoder), given, out / "vit.h5")


def _resnet(given: Mapping[str, np.ndarray], out: Path) -> Arrays:
    encoder = resnet.resnet50(IMAGE_SHAPE, 256, dropout=False)
    return _contrastive(encoder, resnet.variables(encoder), given, out / "resnet.h5")


def _contrastive(
    encoder: tf.keras.Model,
    variables: dict[str, tf.Variable],
    given: Mapping[str, np.ndarray],
    weights: Path,
) -> Arrays:
    arrays = contrastive(encoder, variables, given)
    if tf.keras.backend.floatx() == "float32":
        # After the step's forward passes: its moving statistics are those in `arrays`.
        encoder.save_weights(weights)
        arrays["features_of_file"] = encoder(given["batch/1"], training=False).numpy()
    return arrays


def _byol(given: Mapping[str, np.ndarray], out: Path) -> Arrays:
    pair = tuple(resnet.resnet50(IMAGE_SHAPE, 128, dropout=False) for _ in range(2))
    return bootstrap(pair, tuple(resnet.variables(encoder) for encoder in pair), given)


MODELS: dict[str, Model] = {"vit": _vit, "resnet": _resnet, "byol": _byol}

if __name__ == "__main__":
    main(Path(sys.argv[1]))

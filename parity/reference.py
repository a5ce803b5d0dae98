"""`python -m parity.reference FOLDER`: outputs of the original's stack for the given arrays.

Reads FOLDER/given/*.npz, which `tests.parity.given` wrote in the package's own environment, and
writes FOLDER/reference/*.npz. Results that rounding dominates are computed twice, in float32 and
in float64: the float64 result shows how large the rounding error of the float32 result is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import tensorflow as tf

from parity import resnet, vision_transformer
from parity.activations import gelu_cases
from parity.areas import area_cases
from parity.dropout import dropout_cases
from parity.exchange import Arrays, read, write
from parity.heads import head_cases
from parity.losses import accuracy_cases, loss_cases
from parity.rotations import rotation_cases
from parity.steps import adam_steps, byol_steps
from parity.training import bootstrap, contrastive, oblong_features, regression
from parity.variables import Variables

SEED = 2024
IMAGE_SHAPE = (64, 64, 3)
PACKAGES = ("tensorflow", "keras", "tensorflow-addons", "numpy", "scikit-learn")

FROM_SEED: dict[str, Callable[[np.random.Generator], Arrays]] = {
    "gelu": gelu_cases,
    "rotation": rotation_cases,
    "losses": loss_cases,
    "accuracy": accuracy_cases,
    "dropout": dropout_cases,
    "heads": head_cases,
    "areas": area_cases,
}
Given = Mapping[str, np.ndarray]
Model = Callable[[Given, Path], Arrays]
Encoder = tuple[tf.keras.Model, Variables]


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


def _both_precisions(name: str, model: Model, given: Given, out: Path) -> None:
    for precision in ("float32", "float64"):
        started = time.monotonic()
        tf.keras.backend.clear_session()
        tf.keras.backend.set_floatx(precision)
        write(out / f"{name}_{precision}.npz", model(given, out))
        tf.keras.backend.set_floatx("float32")
        print(f"{name}, {precision}: {time.monotonic() - started:.0f} s", flush=True)


def _vit(given: Given, out: Path) -> Arrays:
    encoder, of_encoder = _vit_encoder(IMAGE_SHAPE)
    arrays = contrastive(encoder, of_encoder, given)
    return arrays | _of_encoder(encoder, _vit_encoder, given, out / "vit.h5")


def _vit_encoder(shape: tuple[int, int, int]) -> Encoder:
    encoder = vision_transformer.vision_transformer(shape, dropout=0.0)
    return encoder, vision_transformer.variables(encoder)


def _resnet(given: Given, out: Path) -> Arrays:
    build = partial(_resnet_encoder, width=256)
    encoder, of_encoder = build(IMAGE_SHAPE)
    arrays = contrastive(encoder, of_encoder, given)
    return arrays | _of_encoder(encoder, build, given, out / "resnet.h5")


def _byol(given: Given, out: Path) -> Arrays:
    build = partial(_resnet_encoder, width=128)
    (online, of_online), (target, of_target) = build(IMAGE_SHAPE), build(IMAGE_SHAPE)
    arrays = bootstrap((online, target), (of_online, of_target), given)
    return arrays | _of_encoder(online, build, given, out / "byol.h5")


def _regression(given: Given, out: Path) -> Arrays:
    build = partial(_resnet_encoder, width=128, plain=True)
    encoder, of_encoder = build(IMAGE_SHAPE)
    arrays = regression(encoder, of_encoder, given)
    return arrays | _of_encoder(encoder, build, given, out / "regression.h5")


def _resnet_encoder(shape: tuple[int, int, int], width: int, plain: bool = False) -> Encoder:
    encoder = resnet.resnet50(shape, width, dropout=False, plain=plain)
    return encoder, resnet.variables(encoder)


def _of_encoder(
    encoder: tf.keras.Model, build: Callable[..., Encoder], given: Given, path: Path
) -> Arrays:
    """In float32, save the weights and return features: of the saved encoder, of oblong images.

    This follows the step's forward passes, so the moving statistics in the file are those of
    `moved`.
    """
    if tf.keras.backend.floatx() != "float32":
        return {}
    encoder.save_weights(path)
    other, of_other = build(given["oblong/images"].shape[1:])
    return {
        "features_of_file": encoder(given["batch/1"], training=False).numpy(),
        "oblong": oblong_features(other, of_other, given),
    }


MODELS: dict[str, Model] = {
    "vit": _vit,
    "resnet": _resnet,
    "byol": _byol,
    "regression": _regression,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))

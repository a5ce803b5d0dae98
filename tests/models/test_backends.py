"""Encoders, heads and losses are Keras alone, so that they run on any of its backends."""

import ast
import importlib.util
import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "deeplens_tf"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PURE = [PACKAGE / "losses.py", *sorted((PACKAGE / "models").glob("*.py"))]

FORWARD = """
import keras, numpy as np
from deeplens_tf.losses import contrastive_loss
from deeplens_tf.models import build_encoder
assert keras.backend.backend() == "jax"
encoder = build_encoder("vit_nano", (16, 16, 1))
features = encoder(np.ones((4, 16, 16, 1), "float32"))
assert np.isfinite(np.asarray(contrastive_loss(features, features))).all()
"""


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.stem)
def test_models_and_losses_do_not_know_tensorflow(path):
    imported = set(imported_by(path))
    assert not {name for name in imported if name.split(".")[0] == "tensorflow"}
    # Nor through the rooms of the house that are TensorFlow's.
    assert not {name for name in imported if name.startswith(("deeplens_tf.data",
                                                              "deeplens_tf.training"))}  # fmt: skip


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_lambda_layer_anywhere(path):
    names = {
        getattr(node, "attr", None) or getattr(node, "id", None)
        for node in ast.walk(ast.parse(path.read_text()))
    }
    assert "Lambda" not in names


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_an_encoder_and_the_loss_run_on_jax():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", FORWARD], env=environment, check=True)

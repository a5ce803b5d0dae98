"""Fixtures that more than one test module uses."""

import contextlib
import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from deeplens_tf import registry

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

# What the test modules import stays: to look for garbage in it takes a third of the collection.
gc.disable()

REPOSITORY = Path(__file__).parents[1]
CLASSES = ("axion", "cdm", "no_sub")


def blob_image(generator, label, side=16):
    """Return a noisy image whose bright spot sits where the class has it."""
    rows, columns = np.mgrid[:side, :side]
    centre = (0.25 + 0.25 * label) * side
    spot = np.exp(-((rows - centre) ** 2 + (columns - centre) ** 2) / side)
    return spot + 0.1 * generator.random((side, side))


def write_blobs(folder, count, seed):
    """Write `count` images of each class, as class folders of `.npy` files."""
    generator = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            np.save(folder / name / f"{name}_sim_{i:03d}.npy", blob_image(generator, label))
    return folder


# The modules that take longest, which start first.
DEAREST = (
    "models/test_keras_matrix.py",
    "hostile/test_memory.py",
    "inference/test_exporting.py",
    "distribution/test_plain_strategy.py",
    "training/test_pretraining.py",
    "hostile/test_inputs.py",
    "distribution/test_strategy.py",
    "training/test_neighbour_negatives.py",
    "training/test_exact_resume.py",
    "training/test_positives.py",
    "training/test_head_first.py",
    "data/test_pairs.py",
    "test_chain.py",
    "test_stages.py",
    "evaluation/test_scored_images.py",
    "training/test_methods.py",
    "inference/test_embedding.py",
    "data/test_view_batches.py",
    "hostile/test_format_fuzz.py",
    "models/test_byol.py",
    "data/test_held_split.py",
    "test_readme.py",
)


def pytest_collection_modifyitems(items):
    """Put the dearest modules first: each runs in one process, and the others fill what is left."""
    places = {REPOSITORY / "tests" / module: place for place, module in enumerate(DEAREST)}
    items.sort(key=lambda item: places.get(item.path, len(DEAREST)))


def pytest_collection_finish():
    """Look for garbage from now on, but not in what was imported."""
    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def eagerly():
    """Make steps without graphs: a few steps of a small network take less time than its graph."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings(), row_by_row():
            warnings.filterwarnings("ignore", "Even though the", UserWarning)  # of tf.data
            yield
    finally:
        tf.config.run_functions_eagerly(False)


@contextlib.contextmanager
def row_by_row():
    """Let Keras map a function over rows by a loop, as the area under each class's curve needs it.

    Without a graph, TensorFlow's own way traces one at each call, which takes eight times as long.
    The numbers are the same.
    """
    import keras

    def mapped(function, columns):
        rows = zip(*map(keras.ops.unstack, columns), strict=True)
        return keras.ops.stack([function(row) for row in rows])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras.src.metrics.metrics_utils.backend.vectorized_map", mapped)
        yield


@pytest.fixture
def eager_steps():
    """See `eagerly`."""
    with eagerly():
        yield


@contextlib.contextmanager
def without_pictures():
    """Leave out pictures and TensorBoard's log: of a short training they take a third."""
    import keras

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: path.touch())
        nothing = keras.callbacks.Callback
        patch.setattr("deeplens_tf.training.fitting.tensorboard", lambda *_: nothing())
        yield


@pytest.fixture
def no_pictures():
    """See `without_pictures`; for tests that look at neither."""
    with without_pictures():
        yield


@pytest.fixture(scope="session")
def blobs_folder(tmp_path_factory):
    """A raw folder of 20 images in each of three classes, with a test folder of 7 beside it."""
    root = tmp_path_factory.mktemp("blobs")
    write_blobs(root / "blobs_test", 7, seed=1)
    return write_blobs(root / "blobs", 20, seed=0)


@pytest.fixture
def run_python(tmp_path):
    """Run Python with the package importable, in a folder of the test's own."""

    def run(*words, **options):
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **options,
        )

    return run


@pytest.fixture(scope="session")
def blobs_words(blobs_folder, tmp_path_factory):
    """Overrides that fit a configuration to the blobs: 45 images to train on, 15 to validate."""
    return (
        f"data.path={blobs_folder}",
        f"data.cache={tmp_path_factory.mktemp('cache')}",
        "data.image_size=16",
        "data.validation_fraction=0.25",
    )


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty Hugging Face Hub on this machine, and an empty cache of its files."""
    from tests.files.hub_server import Hub, ask_only, serving

    library = pytest.importorskip("huggingface_hub.file_download")
    monkeypatch.setattr(library.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    hub = Hub()
    with serving(hub) as address:
        ask_only(address, monkeypatch)
        yield hub


@pytest.fixture
def offline(monkeypatch):
    """Cut the hub's connection off when it is called, as HF_HUB_OFFLINE=1 does."""
    library = pytest.importorskip("huggingface_hub.file_download")
    return lambda: monkeypatch.setattr(library.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def forgotten_names():
    """Forget the names that a test registers."""
    known = (registry.encoders, registry.methods, registry.augmentations)
    before = [set(each.plugins()) for each in known]
    yield
    for each, names in zip(known, before, strict=True):
        for name in set(each.plugins()) - names:
            del each._entries[name]

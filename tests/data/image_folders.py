"""Folders of small images for the tests of the data package."""

import hashlib
from pathlib import Path

import numpy as np

from deeplens_tf.data.shards import write_splits

SETTINGS = {"image_size": 16, "fit": "resize", "validation_fraction": 0.1, "seed": 0}


def random_image(seed, shape=(16, 16)):
    return np.random.default_rng(seed).random(shape)


def write_pair(path, image, mass):
    """Write an axion image as it was published."""
    pair = np.empty(2, object)
    pair[0], pair[1] = image, mass
    np.save(path, pair, allow_pickle=True)


def make_folder(root: Path, counts, shape=(16, 16), start=0):
    """Write `counts[class]` images in each class folder; return the root."""
    seed = start
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            np.save(root / name / f"{name}_{i:04d}.npy", random_image(seed, shape))
            seed += 1
    return root


def write_split(folder, name, examples, classes=()):
    """Write examples, at least one, as the shards and the index of one split."""
    return write_splits(folder, classes, ((name, example) for example in examples))[name]


def tree_digest(root: Path):
    """Return a digest of the names, times and contents of everything below a folder."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(f"{path} {path.lstat().st_mtime_ns} {path.lstat().st_mode}".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()

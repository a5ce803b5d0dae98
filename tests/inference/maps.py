"""Embeddings of images with bright spots, whose features are known, for the tests of maps."""

import json
import zipfile

import numpy as np

from tests.conftest import CLASSES, blob_image
from tests.hostile.arrays import npy_bytes


def write_embeddings(path, features, files, about=None, **columns):
    """Write a file of embeddings as another program would."""
    arrays = {"features": np.asarray(features, np.float32), "file": np.array(files)}
    arrays |= {name: np.array(values) for name, values in columns.items()}
    if about is not None:
        arrays["about"] = np.array(json.dumps(about))
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", npy_bytes(array))
    return path


def embedded_blobs(root, count, **about):
    """Write images in class folders, masses of the first class, and embeddings of them.

    The features of a class are around a place of its own.
    """
    generator = np.random.default_rng(0)
    files = [f"{name}/{i:03d}.npy" for name in CLASSES for i in range(count)]
    for name in CLASSES:
        (root / "sample" / name).mkdir(parents=True)
    for file in files:
        np.save(root / "sample" / file, blob_image(generator, CLASSES.index(file.split("/")[0])))
    masses = [f"{i:03d}.npy,{10.0 ** (i - 24)}" for i in range(count)]
    (root / "sample/axion/masses.csv").write_text("\n".join(["file,mass_ev", *masses]))
    labels = np.repeat(np.arange(3), count)
    features = generator.normal(0, 0.1, (3 * count, 6)) + 2 * np.eye(6)[labels] + 5
    about = {"data": str(root / "sample"), "encoder": "e.keras", "selection": {}, **about}
    return write_embeddings(root / "e.npz", features, files, about)

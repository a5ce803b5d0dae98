"""The same images in any format give the same prepared folder, but for the names of the files."""

import gzip
import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image

from deeplens_tf.data.formats.image_formats import mixed_text, rank_name
from deeplens_tf.data.preparing import prepare_folder
from tests.data.image_folders import SETTINGS, random_image


def write_npy(path, array):
    np.save(path, array)


def write_npz(path, array):
    np.savez_compressed(path, array)


def write_fits(path, array):
    fits.writeto(path, array)


def write_packed(path, array):
    fits.writeto(path.with_suffix(""), array)
    path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
    path.with_suffix("").unlink()


def write_tiles(path, array):
    image = fits.CompImageHDU(array, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)


def write_lossless(path, array):
    image = fits.CompImageHDU(array, compression_type="GZIP_2", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)


def write_picture(path, array):
    Image.fromarray(array).save(path)


FLOATS = [
    (".fits", write_fits),
    (".FTS", write_fits),
    (".fits.gz", write_packed),
    (".fits.fz", write_lossless),
    (".tif", write_picture),
]
INTEGERS = [  # 16 bits without a sign, which FITS stores with BZERO
    (".fit", write_fits),
    (".fits.fz", write_tiles),
    (".png", write_picture),
    (".tiff", write_picture),
]


def images(dtype):
    """Two classes, one of them with a copy of an image in it."""
    drawn = [random_image(i, (20, 20)) for i in range(12)]
    drawn[9] = drawn[8]
    return [(60_000 * image).astype(dtype) for image in drawn]


def prepared(tmp_path, suffix, write, dtype):
    for i, array in enumerate(images(dtype)):
        folder = tmp_path / "images" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / f"{i}{suffix}", array)
    out = tmp_path / "out"
    prepare_folder(tmp_path / "images", out, **{**SETTINGS, "validation_fraction": 0.3})
    shutil.rmtree(tmp_path / "images")
    return out


@pytest.mark.parametrize(
    ("dtype", "suffix", "write"),
    [("f4", *each) for each in FLOATS] + [("u2", *each) for each in INTEGERS],
)
def test_the_prepared_folders_are_equal(tmp_path, dtype, suffix, write):
    wanted = prepared(tmp_path / "npy", ".npy", write_npy, dtype)
    found = prepared(tmp_path / "other", suffix, write, dtype)
    for split in ("train", "validation"):
        index, expected = (pd.read_csv(folder / f"{split}-index.csv") for folder in (found, wanted))
        expected["file"] = expected["file"].str.replace(".npy", suffix)
        pd.testing.assert_frame_equal(index, expected)
    assert stored_images(found) == stored_images(wanted)


def stored_images(folder):
    """Bytes of all pixels and labels in the order of the shards."""
    from deeplens_tf.data import open_folder

    data = open_folder(folder)
    return [
        [(each["image"].numpy().tobytes(), each["label"].numpy()) for each in data.examples(split)]
        for split in ("train", "validation")
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/x.npy", "a/x.npy"),
        ("a/x.npz", "a/x.npz"),
        ("a/X.NPY", "a/X.NPY"),
        ("a/x.fits", "a/x.npy"),
        ("a/x.fits.gz", "a/x.npy"),
        ("a.fits/x.1.FITS.FZ", "a.fits/x.1.npy"),
        ("x.jpeg", "x.npy"),
    ],
)
def test_only_the_suffixes_of_later_formats_are_without_effect_on_the_split(name, expected):
    assert rank_name(name) == expected


def test_a_folder_of_several_formats_says_how_many_of_each_are_read(tmp_path, capsys):
    for i in range(6):
        (tmp_path / "images").mkdir(exist_ok=True)
        suffix, write = ((".npy", write_npy), (".fits", write_fits))[i % 2]
        write(tmp_path / "images" / f"{i}{suffix}", random_image(i))
    (tmp_path / "images" / "x.pdf").touch()
    prepare_folder(tmp_path / "images", tmp_path / "out", **SETTINGS)
    assert "3 .fits files, 3 .npy files read" in capsys.readouterr().err


def test_a_folder_of_one_format_says_nothing():
    assert mixed_text(["a.npy", "b.npy"]) == mixed_text([]) == ""


def test_the_content_decides_the_format(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(4):
        write_fits(tmp_path / "images" / f"{i}.fits", random_image(i))
        (tmp_path / "images" / f"{i}.fits").rename(tmp_path / "images" / f"{i}.png")
    assert not prepare_folder(tmp_path / "images", tmp_path / "out", **SETTINGS).rejected

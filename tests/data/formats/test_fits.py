"""FITS images as astropy reads them, which HDU is taken, and what is refused."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from deeplens_tf.config import load_config
from deeplens_tf.data.formats.fits import read_fits
from deeplens_tf.data.image_files import read_image
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.errors import DataError, RequestError, UnusableFile
from deeplens_tf.preprocessing.selection import Selection
from tests.data.image_folders import random_image

PACKINGS = ("plain", "gz", "RICE_1", "GZIP_1", "GZIP_2")


def write(path, array, packing="plain", header=None, **options):
    """Write an array as an image HDU, or as a compressed one after an empty first HDU."""
    if packing in ("plain", "gz"):
        hdus = fits.HDUList([fits.PrimaryHDU(array, header)])
    else:
        image = fits.CompImageHDU(array, header, compression_type=packing, **options)
        hdus = fits.HDUList([fits.PrimaryHDU(), image])
    hdus.writeto(path, overwrite=True)
    if packing == "gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def by_astropy(path):
    return np.asarray(fits.getdata(path))


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8", "u2", "u4", "u8"])
def test_every_type_of_pixel_is_read_as_astropy_reads_it(tmp_path, dtype, packing):
    if dtype in ("i8", "u8") and packing == "RICE_1":
        pytest.skip("RICE has at most 32 bits")
    array = (200 * random_image(0, (20, 30))).astype(dtype)
    path = write(tmp_path / "x.fits", array, packing)
    read, expected = read_fits(path), by_astropy(path)
    assert read.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("dither", [-1, 1, 2])
def test_quantised_pixels_are_those_of_astropy(tmp_path, dither):
    array = random_image(1, (40, 50)).astype("f4")
    array[3, 4], array[5, 6] = np.nan, 0
    options = {"quantize_level": 16, "quantize_method": dither, "dither_seed": 5}
    path = write(tmp_path / "x.fits", array, "RICE_1", **options, tile_shape=(8, 50))
    np.testing.assert_array_equal(read_fits(path), by_astropy(path))


@pytest.mark.parametrize("packing", ["plain", "gz", "RICE_1"])
def test_stored_values_are_scaled_and_blank_is_not_a_number(tmp_path, packing):
    stored = np.arange(-300, 300, dtype="i2").reshape(20, 30)
    header = fits.Header({"BLANK": 7})
    path = write(tmp_path / "x.fits", stored, packing, header)
    data = path.read_bytes() if packing != "gz" else gzip.decompress(path.read_bytes())
    cards = b"BSCALE  =               2.5D-1".ljust(80) + b"BZERO   =                 -3.0".ljust(
        80
    )
    start = data.rindex(b"BLANK")
    # In place of cards that say nothing; astropy would scale the pixels anew on writing.
    data = data[:start] + data[start : start + 80] + cards + data[start + 240 :]
    if not data[start + 240 :].startswith(b"END"):
        data = data[: start + 240] + b"END".ljust(80) + data[start + 320 :]
    path.write_bytes(data if packing != "gz" else gzip.compress(data))
    expected = np.where(stored == 7, np.nan, -3 + 0.25 * stored.astype("f4"))
    np.testing.assert_array_equal(read_fits(path), expected)
    assert read_fits(path).dtype == np.float32


def several(path):
    table = fits.BinTableHDU.from_columns([fits.Column("a", "D", array=np.arange(9.0))])
    images = [fits.ImageHDU(random_image(i), name=name) for i, name in enumerate(("SCI", "ERR"))]
    fits.HDUList([fits.PrimaryHDU(), table, *images]).writeto(path)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_the_first_image_is_read_or_the_one_that_is_chosen(tmp_path, packed):
    path = several(tmp_path / "x.fits")
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    for choice, seed in ((None, 0), (2, 0), ("sci", 0), (3, 1), ("ERR", 1)):
        image, mass = read_image(path, selection=Selection(choice))
        np.testing.assert_array_equal(image[..., 0], random_image(seed))
        assert mass is None


def test_hdus_of_a_band_each_are_the_cube_of_them(tmp_path):
    bands = [random_image(i) for i in range(3)]
    hdus = [fits.ImageHDU(band, name=name) for band, name in zip(bands, "gri", strict=True)]
    hdus.append(fits.ImageHDU(random_image(0, (9, 9)), name="WEIGHT"))
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "x.fits")
    for choice in ("g,r,i", "G, r,3", "1,2,3"):
        image, _ = read_image(tmp_path / "x.fits", selection=Selection(choice))
        np.testing.assert_array_equal(image, np.stack(bands, axis=-1))
    with pytest.raises(UnusableFile, match=r"HDUs g and WEIGHT: shapes .* not of two bands"):
        read_image(tmp_path / "x.fits", selection=Selection("g,WEIGHT"))
    with pytest.raises(UnusableFile, match="no HDU z in it"):
        read_image(tmp_path / "x.fits", selection=Selection("g,z"))


@pytest.mark.parametrize(
    ("choice", "line"),
    [
        (0, "HDU 0 is empty, not an image"),
        (1, "HDU 1 is a table, not an image"),
        (4, "no HDU 4 in it; 0 PRIMARY: empty; 1: a table; 2 SCI: 2-D; 3 ERR: 2-D"),
        ("DQ", "no HDU DQ in it; 0 PRIMARY"),
    ],
)
def test_what_is_chosen_must_be_an_image(tmp_path, choice, line):
    with pytest.raises(UnusableFile, match=line):
        read_image(several(tmp_path / "x.fits"), selection=Selection(choice))


@pytest.mark.parametrize(
    ("shape", "read"),
    [((1, 1, 16, 20), (16, 20, 1)), ((3, 16, 20), (16, 20, 3)), ((3, 1, 16, 20), (16, 20, 3))],
)
def test_cubes_have_bands_and_axes_of_length_one_are_left_out(tmp_path, shape, read):
    array = random_image(0, shape)
    image, _ = read_image(write(tmp_path / "x.fits", array))
    assert image.shape == read
    expected = np.moveaxis(array.reshape(-1, 16, 20), 0, -1)
    np.testing.assert_array_equal(image, expected)


def test_a_table_is_no_image(tmp_path):
    fits.BinTableHDU.from_columns([fits.Column("a", "D", array=np.arange(9.0))]).writeto(
        tmp_path / "x.fits"
    )
    with pytest.raises(UnusableFile, match="no image of 2 or 3 axes in it; 0 PRIMARY: empty; 1: a"):
        read_image(tmp_path / "x.fits")


@pytest.mark.parametrize("algorithm", ["HCOMPRESS_1", "PLIO_1"])
def test_other_compressions_are_named(tmp_path, algorithm):
    array = np.arange(400, dtype="i4").reshape(20, 20)
    path = write(tmp_path / "x.fits.fz", array, algorithm, tile_shape=(20, 20))
    with pytest.raises(UnusableFile, match=f"compressed by '{algorithm}', RICE_1, GZIP_1 and"):
        read_image(path)


def test_only_images_in_tiles_import_astropy(tmp_path):
    write(tmp_path / "x.fits", random_image(0))
    write(tmp_path / "y.fits", np.arange(400, dtype="i2").reshape(20, 20), "RICE_1")
    np.save(tmp_path / "x.npy", random_image(0))
    script = (
        "import sys; from deeplens_tf.data.image_files import read_image\n"
        "for path in sys.argv[1:]:\n    read_image(path); print('astropy' in sys.modules)"
    )
    paths = [str(tmp_path / name) for name in ("x.npy", "x.fits", "y.fits")]
    ended = subprocess.run(
        [sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["False", "False", "True"]


def test_a_folder_or_a_configuration_says_which_hdu_is_prepared(tmp_path):
    images = tmp_path / "images"
    for name in "ab":
        (images / name).mkdir(parents=True)
        for i in range(3):
            hdus = [fits.ImageHDU(random_image(10 * i + ord(name) + j)) for j in range(2)]
            hdus[1].name = "MODEL"
            fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(images / name / f"{i}.fits")
    ensure = {"seed": 0, "cache": tmp_path / "cache", "validation_fraction": 0}

    def content(**choice):
        return open_folder(images, **ensure, **choice).manifest.splits["train"].content

    first, second = content(), content(fits_hdu="model")
    assert first != second
    assert content(fits_hdu=1) == first
    assert content(fits_hdu=2) == second
    with pytest.raises(DataError, match="HDU 0 is empty, not an image of 2 or 3 axes"):
        content(fits_hdu=0)
    (images / "images.yaml").write_text("fits_hdu: MODEL\n")
    assert content() == second
    with pytest.raises(RequestError, match=r"data\.fits_hdu is 1, and .*images has MODEL"):
        content(fits_hdu=1)


@pytest.mark.parametrize("value", ["-1", "true", "1.5", "[1]", "''"])
def test_what_is_neither_a_number_nor_a_name_is_refused(value):
    with pytest.raises(
        RequestError, match=r"data\.fits_hdu must be a whole number of at least 0 or"
    ):
        load_config("defaults", [f"data.fits_hdu={value}"])

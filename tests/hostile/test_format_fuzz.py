"""FITS files and pictures on damaged input: an image within bounds, or one `UnusableFile`."""

import contextlib
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deeplens_tf.data.image_files import image_count, read_image
from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.scaling import resize_and_scale
from deeplens_tf.preprocessing.selection import Selection
from tests.hostile.arrays import good_image, npy_bytes
from tests.hostile.formats import dataset, fits_bytes, hdf5
from tests.hostile.test_fuzz import QUICK, damaged, each_byte_wrong

GREY = (200 * good_image(shape=(8, 8))).astype("u1")


def picture(name, array=GREY, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, name, **options)
    return stream.getvalue()


CORPUS = {
    "fits": fits_bytes(good_image(shape=(8, 8))),
    "scaled.fits": fits_bytes(GREY.astype("u2")),
    "fits.gz": gzip.compress(fits_bytes(good_image(shape=(8, 8))), mtime=0),
    "rice.fits": fits_bytes(GREY.astype("i2"), "RICE_1"),
    "gzip.fits": fits_bytes(GREY.astype("i4"), "GZIP_2"),
    "quantised.fits": fits_bytes(good_image(shape=(8, 8)).astype("f4"), "RICE_1"),
    "h5": hdf5(x=good_image(shape=(8, 8))),
    "gzip.h5": hdf5(x=dataset((8, 8), "f4", data=GREY, compression="gzip", shuffle=True)),
    "png": picture("PNG"),
    "16.png": picture("PNG", GREY.astype("u2")),
    "jpg": picture("JPEG"),
    "tif": picture("TIFF", GREY.astype("f4")),
    "lzw.tif": picture("TIFF", compression="tiff_lzw"),
}


def check(path, data):
    """Read bytes as an image; return its shape, or None if they are refused."""
    path.write_bytes(data)
    with contextlib.suppress(UnusableFile):
        image, _ = read_image(path, selection=Selection())
        assert image.size <= 2**24
        assert image.dtype.kind == "f"
        with contextlib.suppress(UnusableFile):
            scaled = resize_and_scale(image, 8, "resize")
            assert (scaled.min(), scaled.max()) == (0, 1)
        return image.shape
    return None


@pytest.mark.parametrize("kind", CORPUS)
def test_the_undamaged_files_are_read(kind, tmp_path):
    assert check(tmp_path / f"x.{kind}", CORPUS[kind]) == (8, 8, 1)


@pytest.mark.parametrize("kind", CORPUS)
def test_every_byte_that_says_something_may_be_wrong(kind, tmp_path):
    good, shapes = CORPUS[kind], set()
    for place, data in enumerate(each_byte_wrong(good)):
        changed = next(i for i in range(len(good)) if good[i] != data[i])
        if good[changed] not in b" \0" and (len(good) < 2000 or place % 11 == 0):
            shapes.add(check(tmp_path / f"x.{kind}", data))
    assert {None, (8, 8, 1)} <= shapes


@pytest.mark.parametrize("kind", CORPUS)
@given(data=st.data())
@QUICK
def test_a_damaged_file_is_read_or_refused(kind, tmp_path, data):
    check(tmp_path / f"x.{kind}", data.draw(damaged(CORPUS[kind])))


@pytest.mark.parametrize("kind", ["fits", "rice.fits"])
@given(data=st.data())
@QUICK
def test_any_number_in_a_header_is_taken_or_refused(kind, tmp_path, data):
    """The 20 columns that hold the value of a keyword, in one of the cards with a number."""
    good = CORPUS[kind]
    cards = [at for at in range(0, len(good), 80) if good[at + 8 : at + 10] == b"= "]
    at = data.draw(st.sampled_from(cards)) + 10
    number = data.draw(st.integers(-(2**70), 2**70) | st.integers(-3, 3) | st.floats())
    check(tmp_path / "x.fits", good[:at] + str(number)[:20].rjust(20).encode() + good[at + 20 :])


STACKS = {
    "npy": npy_bytes(good_image(shape=(3, 8, 8))),
    "h5": hdf5(x=dataset((3, 8, 8), "f4", data=good_image(shape=(3, 8, 8)), compression="gzip")),
}


@pytest.mark.parametrize("kind", STACKS)
@given(data=st.data())
@QUICK
def test_an_image_of_a_damaged_stack_is_read_or_refused(kind, tmp_path, data):
    path, stacked = tmp_path / f"x.{kind}", Selection(stacks=True)
    path.write_bytes(data.draw(damaged(STACKS[kind])))
    count = image_count(path, stacked)
    assert count is None or 0 < count <= 2**18
    for row in (0, 2, 5):
        with contextlib.suppress(UnusableFile):
            assert read_image(path, selection=stacked, row=row)[0].size <= 2**24

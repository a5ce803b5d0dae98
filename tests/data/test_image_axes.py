"""The band axis of an array, and arrays that hold something else than one image."""

import numpy as np
import pytest

from deeplens_tf.data.image_axes import bands_last
from deeplens_tf.data.image_files import read_image
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.errors import DataError, UnusableFile
from tests.data.image_folders import SETTINGS, make_folder, random_image, write_pair

ITS_OWN = "save each image in a file of its own"
TOGETHER = f"{ITS_OWN}, or all in a .npy file with data.stacks=true"
STACKS = {
    (50, 64, 64): f"a stack of 50 images of 64 x 64 pixels: {TOGETHER}, or set data.bands=50",
    (64, 64, 50): f"a stack of 50 images of 64 x 64 pixels: {TOGETHER}, or set data.bands=50",
    (200, 32, 32): f"a stack of 200 images of 32 x 32 pixels: {TOGETHER}, or set data.bands=200",
    (11, 40, 48): f"a stack of 11 images of 40 x 48 pixels: {TOGETHER}, or set data.bands=11",
    (16, 16, 16): f"a stack of 16 images of 16 x 16 pixels: {TOGETHER}",
    (20, 10, 10): "a stack of 20 images of 10 x 10 pixels",
    (50, 2, 32, 24): f"a stack of 50 images of 32 x 24 pixels and 2 bands: {TOGETHER}",
    (1, 1, 32, 32): "4-D, an image has 2 or 3 dimensions; remove the axis of length 1",
    (5, 5, 64): "the band axis is ambiguous",
    (1024,): "1-D, an image has 2 or 3 dimensions; if these are flattened pixels",
    (200, 1024): f"a table with the pixels of one image a row, {ITS_OWN}",
    (33, 8): "33 x 8 pixels, one side is more than 4 times the other",
}


def save(path, array):
    np.save(path, array)
    return path


@pytest.mark.parametrize("shape", STACKS, ids=str)
def test_what_is_not_one_image_is_named(tmp_path, shape):
    with pytest.raises(UnusableFile) as caught:
        read_image(save(tmp_path / "x.npy", np.random.default_rng(0).random(shape)))
    assert STACKS[shape] in str(caught.value)


@pytest.mark.parametrize("write", ["pair", "npz"])
def test_a_stack_in_a_pair_or_an_archive_is_named_too(tmp_path, write):
    stack = random_image(0, (30, 16, 16))
    if write == "pair":
        write_pair(tmp_path / "x.npy", stack, 1e-23)
    else:
        np.savez(tmp_path / "x.npz", image=stack, mass_ev=1e-23)
    (path,) = tmp_path.iterdir()
    with pytest.raises(UnusableFile, match="a stack of 30 images of 16 x 16 pixels"):
        read_image(path)
    assert read_image(path, bands=30)[0].shape == (16, 16, 30)


def test_a_list_of_images_is_named(tmp_path):
    images = np.empty(5, object)
    images[:] = [random_image(i) for i in range(5)]
    np.save(tmp_path / "x.npy", images, allow_pickle=True)
    with pytest.raises(UnusableFile, match="if it holds several images, save each in a file of"):
        read_image(tmp_path / "x.npy")


def test_a_stack_beyond_the_limit_is_named_without_being_read(tmp_path):
    with (tmp_path / "x.npy").open("wb") as stream:
        shape = (5000, 64, 64)
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        stream.truncate(stream.tell() + 4 * 5000 * 64 * 64)  # a sparse file
    with pytest.raises(UnusableFile, match="at most 16777216 are read; looks like a stack of 5000"):
        read_image(tmp_path / "x.npy")


@pytest.mark.parametrize(("shape", "axis"), [((50, 16, 20), 0), ((20, 16, 50), 2), ((12, 9, 9), 0)])
def test_many_bands_are_read_where_they_are_asked_for(shape, axis):
    array = random_image(1, shape)
    np.testing.assert_array_equal(bands_last(array, shape[axis]), np.moveaxis(array, axis, -1))


@pytest.mark.parametrize("shape", [(3, 16, 20), (16, 20), (12, 12, 30)])
def test_another_shape_than_many_bands_asked_for_is_refused(shape):
    with pytest.raises(UnusableFile, match="not one axis of the 12 bands asked for"):
        bands_last(random_image(0, shape), 12)


def test_few_bands_asked_for_change_nothing():
    assert bands_last(random_image(0, (16, 20)), 3).shape == (16, 20, 1)
    assert bands_last(random_image(0, (1, 9, 9)), 9).shape == (9, 9, 1)


def test_a_folder_of_stacks_is_refused_and_read_as_bands_where_asked_for(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 3, "b": 3}, shape=(16, 32, 32))
    with pytest.raises(DataError, match=r"a/a_0000\.npy: looks like a stack of 16 images of"):
        prepare_folder(root, tmp_path / "out", **SETTINGS)
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS, bands=16)
    assert manifest.image_shape == (16, 16, 16)

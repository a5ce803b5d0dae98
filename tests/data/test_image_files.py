import contextlib
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens_tf.data.formats.image_formats import READ_TEXT
from deeplens_tf.data.image_files import read_image
from deeplens_tf.data.npy import byte_text
from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.preprocessing.scaling import resize_and_scale
from tests.data.image_folders import random_image


def save(path, array):
    np.save(path, array, allow_pickle=True)
    return path


def header_only(path, text, data=b"", version=1):
    body = text.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(body))
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + body + data)
    return path


def plain_header(descr="<f8", shape="(16, 16)"):
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"


def reason(path):
    with pytest.raises(UnusableFile) as caught:
        read_image(path)
    return str(caught.value)


# Valid files


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "i1", "u1", "<i4", ">u2", "u8"])
def test_every_real_type_is_read_exactly(tmp_path, dtype):
    array = np.arange(12 * 10).reshape(12, 10).astype(dtype)
    image, mass = read_image(save(tmp_path / "x.npy", array))
    assert image.dtype.kind == "f"
    assert image.dtype.isnative
    assert mass is None
    np.testing.assert_array_equal(image[..., 0], array.astype("f8"))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(tmp_path, version):
    array = random_image(0)
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array(stream, array, version=version)
    np.testing.assert_array_equal(read_image(tmp_path / "x.npy")[0][..., 0], array)


def test_fortran_order_is_read(tmp_path):
    array = np.asfortranarray(random_image(1, (12, 20)))
    image, _ = read_image(save(tmp_path / "x.npy", array))
    np.testing.assert_array_equal(image[..., 0], array)


def test_a_large_image_is_read_completely(tmp_path):
    array = random_image(2, (300, 200))  # more than the first read returns
    np.testing.assert_array_equal(read_image(save(tmp_path / "x.npy", array))[0][..., 0], array)


def test_the_result_is_writable(tmp_path):
    image, _ = read_image(save(tmp_path / "x.npy", random_image(0)))
    image[0, 0, 0] = 5


@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 12, 20), 0), ((12, 20, 3), 2), ((12, 3, 20), 1), ((1, 9, 9), 0)]
)
def test_the_smallest_axis_becomes_the_bands(tmp_path, shape, axis):
    array = random_image(3, shape)
    image, _ = read_image(save(tmp_path / "x.npy", array))
    np.testing.assert_array_equal(image, np.moveaxis(array, axis, -1))


def test_links_to_files_are_followed(tmp_path):
    save(tmp_path / "real.npy", random_image(0))
    (tmp_path / "link.npy").symlink_to(tmp_path / "real.npy")
    assert read_image(tmp_path / "link.npy")[0].shape == (16, 16, 1)


def test_suffixes_are_read_in_capitals_too(tmp_path):
    np.savez(tmp_path / "x.npz", random_image(0))
    (tmp_path / "x.npz").rename(tmp_path / "x.NPZ")
    assert read_image(tmp_path / "x.NPZ")[0].shape == (16, 16, 1)


# Rejected files


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (random_image(0) * 1j, "complex numbers"),
        (random_image(0) > 0.5, "true/false values"),
        (np.full((16, 16), "star"), "text values"),
        (np.full((16, 16), b"star"), "text values"),
        (np.zeros((16, 16), "M8[s]"), "dates"),
        (
            np.zeros((16, 16), [("a", "f8"), ("b", "i4")]),
            "the header declares no plain array",
        ),
        (np.zeros((16, 16), "V8"), "raw bytes"),
        (random_image(0).astype(np.longdouble), "values of type '<f16' instead of real numbers"),
        (random_image(0, (100,)), "1-D, an image has 2 or 3 dimensions"),
        (np.array(3.0), "0-D, an image has 2 or 3 dimensions"),
        (random_image(0, (2, 8, 9, 10)), "4-D, an image has 2 or 3 dimensions"),
        (random_image(0, (1,) * 60 + (8, 9)), "62-D, an image has 2 or 3 dimensions"),
        (random_image(0, (16, 7, 7)), "the band axis is ambiguous"),
        (random_image(0, (7, 16)), "7 x 16 pixels, at least 8 per side are needed"),
        (random_image(0, (3, 5, 9)), "5 x 9 pixels, at least 8 per side are needed"),
        (np.zeros((8, 16385), "i1"), "8 x 16385 pixels, at most 16384 per side are read"),
        (np.zeros((4096, 4097), "i1"), "16781312 values, at most 16777216 are read"),
        (np.zeros((0, 16)), "an array without values"),
        (np.zeros((16, 16, 0)), "an array without values"),
        (np.full((16, 16), None), "an object array of shape (16, 16)"),
        (np.array([1.0, None, "x"], object), "an object array of shape (3,)"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_other_arrays_are_refused_with_a_reason(tmp_path, array, expected):
    assert expected in reason(save(tmp_path / "x.npy", array))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"just a note\nabout galaxies\n", f"text, not an image: {READ_TEXT}"),
        (b"x", f"text, not an image: {READ_TEXT}"),
        (b"PK\3\4\0\0\0\0", "not an archive as NumPy and Keras write it"),
        (b"\x93NUM", f"not an image: {READ_TEXT}"),
        (b"\x93NUMPY", "an unknown version of the .npy format"),
        (b"\x93NUMPY\1\0", "truncated inside its header"),
        (b"\x93NUMPY\x09\0\x10\0" + b" " * 100, "an unknown version of the .npy format"),
        (b"\x93NUMPY\1\0\x76\0{'descr'", "truncated inside its header"),
        (b"\x93NUMPY\2\0\xff\xff\xff\x7f{", "a header of 2.1 GB, at most 4 kB are read"),
    ],
)
def test_other_content_is_refused_with_a_reason(tmp_path, content, expected):
    (tmp_path / "x.npy").write_bytes(content)
    assert reason(tmp_path / "x.npy") == expected


def test_a_truncated_file_is_refused(tmp_path):
    complete = save(tmp_path / "x.npy", random_image(0)).read_bytes()
    (tmp_path / "x.npy").write_bytes(complete[:-1000])
    assert reason(tmp_path / "x.npy") == "the header declares 2.0 kB, the file holds 1.0 kB"


def test_bytes_after_the_array_are_refused(tmp_path):
    path = save(tmp_path / "x.npy", random_image(0))
    path.write_bytes(path.read_bytes() + b"more")
    assert "the header declares" in reason(path)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("(1000000, 1000000)", "the header declares 8.0 TB, the file holds 200 bytes"),
        (f"({'9' * 400}, {'9' * 400})", "the header declares over 1 EB, the file holds 200 bytes"),
        ("(-1, 16)", "the header declares no plain array"),
        ("(1e9, 2)", "the header declares no plain array"),
        ("__import__('os').getcwd()", "the header declares no plain array"),
        (f"({'8, ' * 1000})", "1000-D, an image has 2 or 3 dimensions"),
        (f"(0, {'9' * 100})", "an array without values"),
    ],
    ids=["TB", "EB", "negative", "float", "code", "many axes", "zero"],
)
def test_hostile_headers_take_no_memory(tmp_path, shape, expected):
    path = header_only(tmp_path / "x.npy", plain_header(shape=shape), b"\0" * 200)
    tracemalloc.start()
    assert reason(path) == expected
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("text", ["(" * 4000, "-" * 4000, "[" * 4000, "{'descr': " * 400])
def test_headers_are_never_evaluated(tmp_path, text):
    assert reason(header_only(tmp_path / "x.npy", text)) == "the header declares no plain array"


def test_a_file_beyond_the_limit_is_not_opened(tmp_path):
    with (tmp_path / "x.npy").open("wb") as stream:
        stream.truncate(10**9 + 1)  # a sparse file takes no space on the disk
    assert reason(tmp_path / "x.npy") == "a file of 1.0 GB, at most 1.0 GB are read"


def test_broken_links_pipes_and_missing_files_are_refused(tmp_path):
    (tmp_path / "link.npy").symlink_to(tmp_path / "nowhere.npy")
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    assert reason(tmp_path / "link.npy") == "a broken link"
    assert "symbolic links" in reason(tmp_path / "loop.npy")
    assert reason(tmp_path / "pipe.npy") == "not a regular file"
    assert reason(tmp_path / "missing.npy") == "no such file"
    assert reason(tmp_path) == "not a regular file"


@given(data=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + data)
    with pytest.raises(UnusableFile):
        read_image(path)


@given(position=st.integers(0, 127), value=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_a_damaged_header_raises_no_other_error(tmp_path_factory, position, value):
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    data = bytearray(save(path, random_image(0)).read_bytes())
    data[position] = value
    path.write_bytes(data)
    with contextlib.suppress(UnusableFile):
        assert read_image(path)[0].size == 256


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (32768, "32.8 kB"),
        (8 * 10**12, "8.0 TB"),
        (10**99, "over 1 EB"),
    ],
)
def test_byte_text(count, text):
    assert byte_text(count) == text


# Resizing and scaling


def naive_triangle(image, size):
    """Resize by the definition of a triangle filter as wide as the reduction, pixel by pixel."""
    side = len(image)
    scale = side / size
    reach = max(scale, 1.0)
    matrix = np.zeros((size, side))
    for i in range(size):
        centre = (i + 0.5) * scale
        for j in range(side):
            matrix[i, j] = max(0.0, 1 - abs(j + 0.5 - centre) / reach)
        matrix[i] /= matrix[i].sum()
    return matrix @ image @ matrix.T


def unit(image):
    return (image - image.min()) / (image.max() - image.min())


def test_an_image_of_the_right_size_keeps_its_pixels_to_the_bit():
    image = random_image(0, (16, 16, 3)) * 1e-7
    for fit in ("resize", "crop"):
        np.testing.assert_array_equal(resize_and_scale(image, 16, fit), unit(image).astype("f4"))


@pytest.mark.parametrize(("side", "size"), [(64, 16), (50, 32), (16, 40), (33, 64)])
def test_resizing_is_the_triangle_filter(side, size):
    image = random_image(1, (side, side))
    expected = unit(naive_triangle(image, size))
    np.testing.assert_allclose(
        resize_and_scale(image[..., None], size, "resize")[..., 0], expected, atol=3e-6
    )


def test_resizing_cuts_the_central_square_first():
    image = random_image(2, (20, 33, 1))
    expected = resize_and_scale(image[:, 6:26], 16, "resize")
    np.testing.assert_array_equal(resize_and_scale(image, 16, "resize"), expected)
    turned = resize_and_scale(image.transpose(1, 0, 2), 16, "resize")
    np.testing.assert_allclose(turned, expected.transpose(1, 0, 2), atol=1e-6)


def test_a_linear_ramp_stays_linear_inside():
    ramp = np.tile(np.arange(64.0), (64, 1))[..., None]
    steps = np.diff(resize_and_scale(ramp, 16, "resize")[8, 1:-1, 0])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)


def test_cropping_takes_the_central_pixels():
    image = random_image(3, (21, 30, 2))
    expected = unit(image[2:18, 7:23]).astype("f4")
    np.testing.assert_array_equal(resize_and_scale(image, 16, "crop"), expected)


def test_cropping_resizes_small_images_up():
    image = random_image(4, (12, 30, 1))
    expected = unit(naive_triangle(image[:, 9:21, 0], 16))
    np.testing.assert_allclose(resize_and_scale(image, 16, "crop")[..., 0], expected, atol=3e-6)


def test_scaling_is_over_all_bands_together():
    image = np.stack([random_image(5), 10 * random_image(6)], axis=-1)
    result = resize_and_scale(image, 16, "resize")
    np.testing.assert_array_equal(result, unit(image).astype("f4"))
    assert result[..., 0].max() < 0.2


@pytest.mark.parametrize("factor", [1e-310, 1e-150, 1e150, 1e308])
def test_any_finite_range_is_scaled(factor):
    image = (random_image(7, (32, 32, 1)) - 0.5) * 2
    expected = resize_and_scale(image, 16, "resize")
    np.testing.assert_allclose(resize_and_scale(image * factor, 16, "resize"), expected, atol=1e-5)


def test_an_image_constant_after_cropping_is_refused():
    image = np.zeros((32, 32, 1))
    image[0, 0] = 1
    with pytest.raises(UnusableFile, match="constant after cropping"):
        resize_and_scale(image, 16, "crop")


def test_an_image_constant_after_resizing_is_refused():
    image = np.zeros((64, 64, 1))
    # Zero sum and slope between the kinks of a triangle filter, which removes it.
    image[:, 12:52, 0] = np.tile([-0.5, 1, -0.5, -0.5, 1, -0.5, 0, 0], 5)
    assert resize_and_scale(image, 64, "resize").max() == 1
    with pytest.raises(UnusableFile, match="constant after"):
        resize_and_scale(image, 8, "resize")


def test_an_unknown_fit_is_a_wrong_request():
    with pytest.raises(RequestError, match="Received: fit='pad'"):
        resize_and_scale(random_image(0, (16, 16, 1)), 16, "pad")


@given(
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    size=st.integers(8, 40),
    bands=st.integers(1, 3),
    fit=st.sampled_from(["resize", "crop"]),
)
@settings(max_examples=60, deadline=None)
def test_the_result_always_spans_zero_to_one(height, width, size, bands, fit):
    result = resize_and_scale(random_image(8, (height, width, bands)), size, fit)
    assert result.shape == (size, size, bands)
    assert result.dtype == np.float32
    assert (result.min(), result.max()) == (0, 1)

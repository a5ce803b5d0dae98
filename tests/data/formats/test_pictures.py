"""PNG, JPEG and TIFF: the stored values, and what is refused by its name."""

import io

import numpy as np
import pytest
from PIL import Image

from deeplens_tf.data.image_files import read_image
from deeplens_tf.errors import UnusableFile


def grey(dtype="u1", shape=(16, 20), top=255):
    return (np.random.default_rng(0).random(shape) * top).astype(dtype)


def with_alpha(bands, varies=False):
    array = grey(shape=(16, 20, bands))
    array[..., -1] = grey() if varies else 255
    return array


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("x.png", grey()),
        ("x.png", grey("u2", top=65535)),
        ("x.png", grey(shape=(16, 20, 3))),
        ("x.png", with_alpha(2)),
        ("x.png", with_alpha(4)),
        ("x.tif", grey()),
        ("x.tiff", grey("u2", top=65535)),
        ("x.tif", grey("i4", top=2**31 - 1)),
        ("x.tif", grey("f4")),
        ("x.tif", grey(shape=(16, 20, 3))),
    ],
)
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_values_are_read_as_they_are_stored(tmp_path, name, array, options):
    Image.fromarray(array).save(tmp_path / name, **options if "tif" in name else {})
    image, mass = read_image(tmp_path / name)
    np.testing.assert_array_equal(image, array.reshape(image.shape))
    assert mass is None


def test_big_endian_and_unsigned_integers_are_read(tmp_path):
    """Written by hand: Pillow writes neither."""
    import struct

    for order, values in (("<", grey("<u4", top=2**32 - 1)), (">", grey(">u2", top=65535))):
        bits, mark = values.dtype.itemsize * 8, b"II*\0" if order == "<" else b"MM\0*"
        tags = [(256, 20), (257, 16), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1)]
        tags += [(278, 16), (279, values.nbytes), (339, 1)]
        entries = b"".join(struct.pack(f"{order}HHLL", tag, 4, 1, value) for tag, value in tags)
        start = struct.pack(f"{order}L", 8 + values.nbytes)
        count = struct.pack(f"{order}H", len(tags))
        data = mark + start + values.tobytes() + count + entries + bytes(4)
        (tmp_path / "x.tif").write_bytes(data)
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif")[0][..., 0], values)


def test_a_jpeg_is_read_as_pillow_decodes_it_and_not_turned(tmp_path):
    array = grey(shape=(16, 20, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(array).save(tmp_path / "x.jpg", exif=exif)
    with Image.open(tmp_path / "x.jpg") as opened:
        expected = np.asarray(opened)
    np.testing.assert_array_equal(read_image(tmp_path / "x.jpg")[0], expected)


def saved(image, name, **options):
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


RGB = Image.fromarray(grey(shape=(16, 20, 3)))
PAGES = {"save_all": True, "append_images": [RGB]}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (saved(RGB.quantize(8), "PNG"), "a palette of colours"),
        (saved(RGB.convert("1"), "PNG"), "true/false values"),
        (saved(RGB.convert("CMYK"), "JPEG"), "a picture in CMYK"),
        (saved(RGB.convert("LAB"), "TIFF"), "pixels of the kind 'LAB'"),
        (saved(RGB, "TIFF", **PAGES), "several frames or pages"),
        (saved(RGB, "PNG", **PAGES), "several frames or pages"),
        (saved(RGB, "MPO", **PAGES), "several frames or pages"),
        (saved(Image.fromarray(with_alpha(4, True)), "PNG"), "an alpha channel that varies"),
        (saved(RGB, "TIFF", big_tiff=True), "a BigTIFF"),
        (saved(RGB.convert("L"), "TIFF", tiffinfo={262: 0}), "in which white is 0"),
        (saved(RGB, "PNG")[:90], "a damaged picture"),
        (saved(RGB, "BMP"), "not an image: only .npy"),
        (saved(RGB, "GIF"), "not an image: only .npy"),
    ],
)
def test_other_pictures_are_refused_by_their_name(tmp_path, data, line):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(UnusableFile, match=line):
        read_image(tmp_path / "x.png")


def test_sixteen_bits_of_several_bands_are_refused(tmp_path):
    """Pillow would keep the upper 8 of them."""
    import struct
    import zlib

    rows = b"".join(b"\0" + row.tobytes() for row in grey(">u2", (8, 8, 3), top=65535))

    def chunk(name, data):
        return (
            struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))
        )

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2L5B", 8, 8, 16, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(png)
    with pytest.raises(UnusableFile, match="16 bits in each of several bands"):
        read_image(tmp_path / "x.png")


def test_a_damaged_tiff_is_refused_without_a_word_of_libtiff(tmp_path, capfd):
    data = saved(Image.fromarray(grey()), "TIFF", compression="tiff_lzw")
    (tmp_path / "x.tif").write_bytes(data.replace(data[200:300], bytes(100)))
    with pytest.raises(UnusableFile, match="a damaged picture"):
        read_image(tmp_path / "x.tif")
    assert capfd.readouterr().err == ""

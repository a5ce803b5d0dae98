"""Hostile FITS and HDF5 files and pictures: name -> (bytes or what makes them, the line)."""

import gzip
import io
import struct
import zlib

import h5py
import numpy as np
from astropy.io import fits
from PIL import Image

from tests.hostile.arrays import good_image

BLOCK = 2880


def cards(*lines):
    """A header of these lines, which END follows."""
    text = b"".join(line.encode().ljust(80) for line in (*lines, "END"))
    return text + b" " * (-len(text) % BLOCK)


def primary(*axes, bits=-64, more=()):
    sides = [f"NAXIS{i + 1}  = {side:>20}" for i, side in enumerate(axes)]
    start = ["SIMPLE  =                    T", f"BITPIX  = {bits:>20}"]
    return cards(*start, f"NAXIS   = {len(axes):>20}", *sides, *more)


def fits_bytes(array, packing=None, **options):
    stream, hdus = io.BytesIO(), [fits.PrimaryHDU(array)]
    if packing:
        image = fits.CompImageHDU(array, compression_type=packing, **options)
        hdus = [fits.PrimaryHDU(), image]
    fits.HDUList(hdus).writeto(stream)
    return stream.getvalue()


def tiles(**changes):
    """A good file of tiles with some values of its header replaced, after a keyword's `= `."""
    data = fits_bytes((200 * good_image()).astype("i2"), changes.pop("packing", "RICE_1"))
    for key, value in changes.items():
        at = data.index(f"{key:<8}= ".encode())
        data = data[:at] + f"{key:<8}= {value:>20}".encode().ljust(80) + data[at + 80 :]
    return data


def far_tile():
    """The descriptor of the first tile points beyond the file."""
    data = tiles()
    at = data.index(b"END ", data.index(b"ZIMAGE")) // BLOCK * BLOCK + BLOCK
    return data[:at] + struct.pack(">2i", 10, 2**31 - 1) + data[at + 8 :]


def tile_bomb():
    """Tiles of 32 bytes, each of which is replaced by one that unpacks to 300 MB."""
    data = tiles(packing="GZIP_1")
    header = data.index(b"END ", data.index(b"ZIMAGE")) // BLOCK * BLOCK + BLOCK
    bomb = gzip.compress(bytes(300 * 10**6), 1)
    rows = b"".join(struct.pack(">2i", len(bomb), 0) for _ in range(16))
    at = data.index(b"PCOUNT  = ")
    data = data[:at] + f"PCOUNT  = {len(bomb):>20}".encode().ljust(80) + data[at + 80 : header]
    return data + rows + bomb


def png(*chunks):
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        check = zlib.crc32(name + body)
        data += struct.pack(">L", len(body)) + name + body + struct.pack(">L", check)
    return data


def png_header(width, height):
    return b"IHDR", struct.pack(">2L5B", width, height, 8, 0, 0, 0, 0)


def tiff(*tags, count=None):
    """A TIFF of (tag, type, number of values, value or its place)."""
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count or len(tags)) + entries + bytes(4)


def picture(name, **options):
    stream = io.BytesIO()
    Image.fromarray((200 * good_image()).astype("u1")).save(stream, name, **options)
    return stream.getvalue()


def hdf5(**arrays):
    """A file of arrays, or of what functions of the open file and a name make."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, content in arrays.items():
            if callable(content):
                content(file, name)
            else:
                file[name] = content
    return stream.getvalue()


def dataset(shape=(3, 16, 16), dtype="f4", **options):
    return lambda file, name: file.create_dataset(name, shape, dtype, **options)


def virtual(file, name):
    layout = h5py.VirtualLayout((3, 16, 16), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (3, 16, 16))
    file.create_virtual_dataset(name, layout)


def unknown_filter(file, name):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1, 16, 16))
    properties.set_filter(h5py.h5z.FILTER_SCALEOFFSET, h5py.h5z.FLAG_OPTIONAL, (2, 0))
    space = h5py.h5s.create_simple((3, 16, 16))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_I32LE, space, properties)


def chunk_bomb(file, name):
    """A chunk that unpacks to 300 MB."""
    options = {"chunks": (30, 256, 256), "compression": "gzip"}
    array = file.create_dataset(name, (30, 256, 256), "f4", **options)
    array.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(300 * 10**6)))


END_OF_HEADER = b"".join(f"HISTORY {i}".encode().ljust(80) for i in range(15_000))
FITS = {
    "8 TB announced": (primary(10**6, 10**6) + bytes(BLOCK), "1000000000000 values, at most"),
    "an axis beyond any integer": (primary(10**40, 9) + bytes(BLOCK), "not a whole number"),
    "a negative axis": (primary(-16, 16) + bytes(BLOCK), "an axis of length -16"),
    "sixty axes": (primary(*[1] * 60) + bytes(BLOCK), "60 axes, at most 8"),
    "no pixels": (primary(0, 16) + bytes(BLOCK), "an image without values"),
    "7 bits": (primary(16, 16, bits=7) + bytes(BLOCK), "BITPIX is 7"),
    "truncated pixels": (primary(16, 16) + bytes(99), "truncated"),
    "a truncated header": (primary(16, 16)[:999], "truncated inside its header"),
    "a header without end": (primary(16, 16)[:400] + END_OF_HEADER, "a header of more than"),
    "a scale that is no number": (
        primary(16, 16, more=["BSCALE  =                  NaN"]) + bytes(BLOCK),
        "BSCALE is 'NAN', not a number",
    ),
    "a name to obey": (
        cards(
            "SIMPLE  =                    T",
            "BITPIX  =                    8",
            "NAXIS   =                    0",
            "EXTNAME = '\x1b[31mred'",
        ),
        "0 \\x1b[31mred: empty",
    ),
    "random groups": (
        primary(0, 16, more=["GROUPS  =                    T"]) + bytes(BLOCK),
        "an image without values",
    ),
    "2000 empty HDUs": (
        primary()
        + 2000
        * cards(
            "XTENSION= 'TABLE   '",
            "BITPIX  =                    8",
            "NAXIS   =                    0",
            "PCOUNT  =                    0",
            "GCOUNT  =                    1",
        ),
        "more than 1000 HDUs",
    ),
    "pixels before the first byte": (
        primary(more=["PCOUNT  =                -2880"]) + bytes(BLOCK),
        "PCOUNT -2880",
    ),
    "gzip: no FITS within": (gzip.compress(b"text"), "not a FITS file"),
    "gzip: truncated": (gzip.compress(fits_bytes(good_image()))[:1200], "truncated"),
    "gzip: damaged": (gzip.compress(fits_bytes(good_image()))[:50] + bytes(9999), "a damaged gzip"),
    "gzip: a bomb before the image": (
        lambda: gzip.compress(primary(2 * 10**9, bits=8) + bytes(2 * 10**8) * 6, 1),
        "unpacks to more than 1 GB",
    ),
    "tiles: another algorithm": (tiles(ZCMPTYPE="'HCOMPRESS_1'"), "compressed by 'HCOMPRESS_1'"),
    "tiles: a block of no pixel": (tiles(ZVAL1=0), "compressed with BLOCKSIZE 0"),
    "tiles: values of 99 bytes": (tiles(ZVAL2=99), "compressed with BYTEPIX 99"),
    "tiles: 8 TB announced": (tiles(ZNAXIS1=10**6, ZNAXIS2=10**6), "1000000000000 values"),
    "tiles: a tile beyond the image": (tiles(ZTILE1=10**9), "compressed in tiles of"),
    "tiles: a tile of no pixel": (tiles(ZTILE1=0), "compressed in tiles of"),
    "tiles: too few rows": (tiles(ZTILE1=1), "a table that is not of 256 tiles"),
    "tiles: 4 GB of heap": (tiles(PCOUNT=4 * 10**9), "a compressed image of 4.0 GB"),
    "tiles: a heap before the table": (tiles(PCOUNT=-1), "PCOUNT -1"),
    "tiles: a column of texts": (tiles(TFORM1="'99A'"), "a column 'COMPRESSED_DATA' of '99A'"),
    "tiles: 99 columns": (tiles(TFIELDS=99), "a compressed image with a column"),
    "tiles: a far tile": (far_tile, "a tile outside of its data"),
    "tiles: a bomb in a tile": (tile_bomb, "a tile that unpacks to more than it declares"),
}
HDF5 = {
    "a virtual array": (hdf5(x=virtual), "x is stored in another file"),
    "external storage": (
        hdf5(x=dataset(external=[("/etc/hostname", 0, 3072)])),
        "x is stored in another file",
    ),
    "an external link": (hdf5(x=h5py.ExternalLink("/etc/hostname", "x")), "no array of images"),
    "a link to itself": (hdf5(x=h5py.SoftLink("/x")), "no array of images"),
    "another filter": (hdf5(x=unknown_filter), "x is compressed by other filters than"),
    "8 TB announced": (hdf5(x=dataset((10**5, 1000, 1000), chunks=(1, 64, 64))), "of which the"),
    "a billion images": (hdf5(x=dataset((10**9, 8, 8), "u1", chunks=(1, 8, 8))), "a stack of 1000"),
    "an image of 4 billion pixels": (
        hdf5(x=dataset((1, 2**16, 2**16), "u1", chunks=(1, 64, 64))),
        "4294967296 values an image",
    ),
    "a bomb in a chunk": (lambda: hdf5(x=chunk_bomb), "a chunk that unpacks to more than it"),
    "texts": (
        hdf5(x=dataset(dtype=h5py.string_dtype())),
        "no array of images in it; its arrays: x",
    ),
    "objects": (
        hdf5(x=dataset(dtype=h5py.vlen_dtype("f4"))),
        "no array of images in it; its arrays: x",
    ),
    "complex numbers": (hdf5(x=dataset(dtype="c8")), "no array of images in it; its arrays: x"),
    "records": (hdf5(x=dataset(dtype=[("a", "f4")])), "no array of images in it; its arrays: x"),
    "two stacks": (
        hdf5(x=np.ones((3, 16, 16)), y=np.ones((3, 16, 16))),
        "several arrays of images: x, y; set data.hdf5_dataset to one",
    ),
    "no image": (hdf5(x=dataset((0, 16, 16))), "an array without values"),
    "nothing": (hdf5(), "no array of images in it; it has no array"),
    "truncated": (hdf5(x=np.ones((3, 16, 16)))[:-5000], "a damaged HDF5 file"),
    "a name to obey": (hdf5(**{"\x1b[31mred": np.ones(3)}), "its arrays: \\x1b[31mred"),
}
PICTURES = {
    "png: 4 billion pixels": (
        png(png_header(2**16, 2**16), (b"IDAT", b""), (b"IEND", b"")),
        "4294967296 values, at most",
    ),
    "png: a side of no pixel": (
        png(png_header(0, 16), (b"IDAT", b""), (b"IEND", b"")),
        "a damaged picture",
    ),
    "png: a bomb of text": (
        lambda: png(
            png_header(16, 16),
            (b"zTXt", b"a\0\0" + zlib.compress(bytes(300 * 10**6))),
            (b"IEND", b""),
        ),
        "a damaged picture",
    ),
    "png: a bomb of pixels": (
        lambda: png(
            png_header(16, 16), (b"IDAT", zlib.compress(bytes(300 * 10**6))), (b"IEND", b"")
        ),
        "constant",
    ),
    "png: truncated": (picture("PNG")[:120], "a damaged picture"),
    "jpeg: truncated": (picture("JPEG")[:-200], "a damaged picture"),
    "tiff: truncated": (picture("TIFF")[:-100], "a damaged picture"),
    "tiff: truncated and packed": (
        picture("TIFF", compression="tiff_lzw")[:100],
        "a damaged picture",
    ),
    "tiff: 4 GB of offsets": (tiff((273, 4, 2**30, 8)), "a tag 273 of 1073741824 values"),
    "tiff: 4 GB of text": (tiff((270, 2, 2**32 - 1, 8)), "a tag 270 of 4294967295 values"),
    "tiff: 60000 tags": (tiff(count=60_000), "a TIFF of 60000 tags"),
    "tiff: no tag": (tiff(), "a damaged picture"),
    "tiff: 4 billion pixels": (
        tiff(
            *((256, 4, 1, 2**16), (257, 4, 1, 2**16), (258, 3, 1, 8), (262, 3, 1, 1)),
            *((273, 4, 1, 8), (278, 4, 1, 2**16), (279, 4, 1, 2**32 - 1)),
        ),
        "4294967296 values, at most",
    ),
}

"""Hostile image files. Each function writes one file and returns nothing."""

import builtins
import io
import os
import pickle
import struct
import zipfile

import numpy as np

SENTINEL = "ran"  # what code would leave in the working folder
TOUCH = f"__import__('pathlib').Path('{SENTINEL}').touch()"


def good_image(seed=0, shape=(16, 16)):
    return np.random.default_rng(seed).random(shape)


def npy(header, data=b"", version=b"\1\0"):
    """The bytes of a `.npy` file with any header."""
    width = "<H" if version == b"\1\0" else "<I"
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack(width, len(text)) + text + data


def header(shape="(16, 16)", descr="'<f8'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def pickled(body):
    return npy(header("(2,)", "'|O'"), body)


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def pair_with(thing, protocol=4, image=None):
    pair = np.empty(2, object)
    pair[0], pair[1] = good_image() if image is None else image, thing
    return pickle.dumps(pair, protocol)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


SHELL = f"touch {SENTINEL}"
EVAL = Calls(builtins.eval, TOUCH)


def long_text(size):
    """A pickle of one text, all of it ASCII but one letter that makes Python keep it as UCS-4."""
    letter = "\N{MILKY WAY}".encode()
    return pickled(b"\x80\3X" + struct.pack("<I", size) + letter.rjust(size, b"a") + b".")


NPY = {
    "an empty file": (b"", "empty file"),
    "a page of text": (b"<html>\n", "text, not an image"),
    "a truncated header": (npy(header())[:60], "truncated inside its header"),
    "a header of 2 GB": (b"\x93NUMPY\2\0\xff\xff\xff\x7f{", "a header of 2.1 GB"),
    "code in the header": (npy(header(TOUCH)), "declares no plain array"),
    "8 TB announced": (npy(header("(1000000, 1000000)"), bytes(80)), "declares 8.0 TB"),
    "a shape beyond any integer": (npy(header(f"({10**40}, 9)"), bytes(80)), "over 1 EB"),
    "a negative shape": (npy(header("(-16, 16)"), bytes(2048)), "declares no plain array"),
    "sixty axes": (npy(header(f"({'1, ' * 60})"), bytes(8)), "60-D"),
    "text values": (npy(header(descr="'<U8'"), bytes(80)), "text values"),
    "records": (npy(header(descr="[('a', '<f8')]"), bytes(80)), "declares no plain array"),
    "truncated values": (npy(header(), bytes(2000)), "the file holds 2.0 kB"),
    "more values than announced": (npy(header(), bytes(4096)), "the file holds 4.1 kB"),
    "a value that is no number": (npy(header(), b"\xff" * 2048), "not finite"),
    "an image of one value": (npy(header(), bytes(2048)), "constant"),
    "a pickle that calls the shell": (
        pickled(pair_with(Calls(os.system, SHELL))),
        "system, which is not allowed",
    ),
    "a pickle that evaluates": (pickled(pickle.dumps(EVAL, 0)), "a pickle"),
    "a pickle in place of the image": (pickled(pickle.dumps(EVAL, 4)), "eval, which is not"),
    "a pickle with INST": (pickled(b"(S'" + SHELL.encode() + b"'\nios\nsystem\n."), "STRING"),
    "a pickle with OBJ": (pickled(b"(cos\nsystem\n" + text(SHELL) + b"o."), "OBJ"),
    "a pickle with NEWOBJ": (pickled(b"cbuiltins\neval\n" + text(TOUCH) + b"\x85\x81."), "NEWOBJ"),
    "a pickle with a dotted name": (
        pickled(b"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.system\x93" + text(SHELL) + b"\x85R."),
        "numpy.f2py.os.system, which is not allowed",
    ),
    "a pickle of numpy's own runner": (
        pickled(b"cnumpy.testing._private.utils\nrunstring\n(" + text(TOUCH) + b"}tR."),
        "which is not read",
    ),
    "a pickle that sets state": (
        pickled(b"\x80\x02cnumpy\nndarray\n}X\1\0\0\0aK\1sb."),
        "a pickle",
    ),
    "a pickle of an outside object": (pickled(b"\x80\x02K\x01Q."), "BINPERSID"),
    "a pickle of an extension": (pickled(b"\x80\x02\x82\x01."), "EXT1"),
    "a pickle of 8 EB": (pickled(b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f."), "BINBYTES8"),
    "a pickle with a far memo": (pickled(b"\x80\x03Nr\xff\xff\xff\x0f."), "too complex"),
    "a pickle of a text of 130 MB": (lambda: long_text(130 * 10**6), "too complex"),
    "a pickle of a name of 1 MB": (pickled(b"\x80\3c" + b"a" * 2**20 + b"\n\n."), "damaged pickle"),
    "a pickle of one frame": (
        pickled(b"\x80\4\x95" + struct.pack("<Q", 2**21) + bytes(2**21)),
        "too complex",
    ),
    "a pickle without end": (pickled(b"\x80\x03" + b"(" * 10**6 + b"."), "too complex"),
}


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def bomb(size):
    """An archive of a few hundred kB with one array of `size` bytes."""
    return zipped(("image.npy", npy(header(f"({size // 8192}, 1024)")) + bytes(size)))


def two_directories(count):
    """An archive whose second, larger directory overrules the first: `count` members."""
    whole = zipped(("image.npy", npy_bytes(good_image())))
    start = whole.rindex(b"PK\1\2")
    entry, end = whole[start:-22], whole[-22:]
    body = whole[:start] + entry * count
    record = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, *2 * (count,), len(entry) * count, start
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1)
    return body + record + locator + end


def encrypted():
    data = bytearray(zipped(("image.npy", npy_bytes(good_image()))))
    data[6] |= 1
    data[data.rindex(b"PK\1\2") + 8] |= 1
    return bytes(data)


IMAGE = npy_bytes(good_image())
NPZ = {
    "no archive": (lambda: b"PK\3\4text", "not an archive"),
    "a bomb of 100 MB": (lambda: bomb(100 * 2**20), "unpacks to 104.9 MB"),
    "a member that climbs out": (lambda: zipped(("../x.npy", IMAGE)), "a member named '../x.npy'"),
    "an absolute member": (lambda: zipped(("/tmp/x.npy", IMAGE)), "a member named '/tmp/x.npy'"),
    "an archive in an archive": (
        lambda: zipped(("a.npy", zipped(("a.npy", IMAGE)))),
        "not a NumPy",
    ),
    "a second directory": (lambda: two_directories(200_000), "not an archive as NumPy"),
    "a hundred members": (
        lambda: zipped(*((f"{i}.npy", IMAGE) for i in range(100))),
        "an archive of 100 members",
    ),
    "a mass that is no number": (
        lambda: zipped(("image.npy", IMAGE), ("mass_ev.npy", bytes(10**4))),
        "a mass_ev that is not one number",
    ),
    "an encrypted member": (encrypted, "a damaged archive"),
    "a pickle within": (
        lambda: zipped(("image.npy", pickled(pickle.dumps(EVAL, 4)))),
        "eval, which is not allowed",
    ),
    "another way of packing": (
        lambda: zipped(("image.npy", IMAGE), method=zipfile.ZIP_LZMA),
        "in a way that NumPy does not use",
    ),
    "a truncated archive": (lambda: zipped(("image.npy", IMAGE))[:-30], "not an archive"),
}

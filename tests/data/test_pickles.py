"""Object arrays: the published pairs are read, and nothing in a pickle is ever run."""

import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens_tf.data import pickles
from deeplens_tf.data.image_files import read_image
from deeplens_tf.data.published_pickles import split_published
from deeplens_tf.errors import UnusableFile
from tests.data.image_folders import random_image, write_pair


def write_npy(path, body, shape="(2,)"):
    """Write any pickle as the data of an object array."""
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + body)
    return path


def pair(image, mass):
    array = np.empty(2, object)
    array[0], array[1] = image, mass
    return array


def reason(path):
    with pytest.raises(UnusableFile) as caught:
        read_image(path)
    return str(caught.value)


# Valid pickles


@pytest.mark.parametrize("mass", [np.float64(3.25e-23), 3.25e-23, np.array(3.25e-23)])
def test_pairs_are_read_exactly(tmp_path, mass):
    image = random_image(0, (20, 20))
    write_pair(tmp_path / "x.npy", image, mass)
    read, mass_ev = read_image(tmp_path / "x.npy")
    np.testing.assert_array_equal(read[..., 0], image)
    assert mass_ev == 3.25e-23


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("spelling", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_both_spellings_of_numpy_are_read(tmp_path, protocol, spelling):
    body = pickle.dumps(pair(random_image(0), np.float64(1e-23)), protocol)
    written = b"numpy._core.multiarray"
    if protocol == 3:
        body = body.replace(written, spelling)
    else:  # here a byte before each name contains its length
        body = body.replace(bytes([len(written)]) + written, bytes([len(spelling)]) + spelling)
        body = body.replace(body[2:11], b"")  # the frame's length, which has changed
    assert spelling in body
    image, mass_ev = read_image(write_npy(tmp_path / "x.npy", body))
    assert image.shape == (16, 16, 1)
    assert mass_ev == 1e-23


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "u1"])
def test_pairs_of_other_types_and_orders_are_read(tmp_path, dtype):
    array = np.asfortranarray((random_image(1, (9, 12)) * 100).astype(dtype))
    write_pair(tmp_path / "x.npy", array, 2e-24)
    np.testing.assert_array_equal(read_image(tmp_path / "x.npy")[0][..., 0], array.astype("f8"))


def test_pairs_of_several_bands_are_read(tmp_path):
    write_pair(tmp_path / "x.npy", random_image(2, (3, 10, 12)), 2e-24)
    assert read_image(tmp_path / "x.npy")[0].shape == (10, 12, 3)


def published(image, mass):
    """A pickle as NumPy 1 writes it, which is read by its layout."""
    return pickle.dumps(pair(image, mass), 3).replace(b"numpy._core", b"numpy.core")


def outcome(body):
    try:
        image, mass = pickles.unpickle_pair(body)
    except UnusableFile as error:
        return str(error)
    mass = mass if isinstance(mass, float) else struct.unpack("<d", mass.data)[0]
    return image, struct.pack("<d", mass)


@pytest.mark.parametrize("shape", [(8, 8), (20, 30), (150, 150), (255, 9), (16, 300)])
def test_a_published_pickle_is_read_as_any_other(monkeypatch, shape):
    body = published(random_image(3, shape), np.float64(2.5e-23))
    assert (split_published(body) is not None) == (max(shape) < 256)
    fast = outcome(body)
    monkeypatch.setattr(pickles, "split_published", lambda _: None)
    assert fast == outcome(body)


def test_a_changed_published_pickle_is_read_as_any_other(monkeypatch):
    body = published(random_image(4, (8, 8)), np.float64(2.5e-23))
    bodies = [body[:i] + bytes([body[i] ^ 1 << i % 8]) + body[i + 1 :] for i in range(len(body))]
    bodies += [body[:i] for i in range(len(body))] + [body + b"more"]
    fast = [outcome(each) for each in bodies]
    monkeypatch.setattr(pickles, "split_published", lambda _: None)
    assert fast == [outcome(each) for each in bodies]


# Pickles that contain code


class Runs:
    """Pickles to a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def sentinel_pickles(sentinel):
    """Return pickles that would create a file, each in a different way."""
    import builtins
    import os

    write = f"__import__('pathlib').Path({str(sentinel)!r}).touch()"
    command = f"touch {sentinel}".encode()
    text = write.encode()
    memo = pickle.dumps(pair(random_image(0), Runs(os.system, command.decode())), 4)
    return {
        "reduce os.system": memo,
        "reduce eval": pickle.dumps(pair(random_image(0), Runs(builtins.eval, write)), 3),
        "reduce in place of the pair": pickle.dumps(Runs(builtins.eval, write), 4),
        "protocol 0": pickle.dumps(Runs(builtins.eval, write), 0),
        "protocol 2": pickle.dumps(Runs(builtins.eval, write), 2),
        "inst": b"(S'touch " + str(sentinel).encode() + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nV" + command + b"\no.",
        "newobj": b"\x80\x02cbuiltins\neval\nX"
        + struct.pack("<I", len(text))
        + text
        + b"\x85\x81.",
        "newobj_ex": pickle.dumps(Runs(builtins.eval, write), 4)[:-2] + b"}\x92.",
        "global, reduce": b"cos\nsystem\n(X" + struct.pack("<I", len(command)) + command + b"tR.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93X"
        + struct.pack("<I", len(command))
        + command
        + b"\x85R.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.system\x93.",
        "numpy's own": b"cnumpy.testing._private.utils\nrunstring\n(X"
        + struct.pack("<I", len(text))
        + text
        + b"}tR.",
        "persistent": b"Pwhatever\n.",
        "binary persistent": b"\x80\x02K\x01Q.",
        "extension": b"\x80\x02\x82\x01.",
        "build on a record": b"\x80\x02cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",
        "state sets attributes": b"\x80\x02cnumpy\nndarray\nN}X\x01\x00\x00\x00aK\x01s\x86b.",
        "call of an element": b"\x80\x02cnumpy\nndarray\n)R)R.",
    }


@pytest.mark.parametrize("kind", sentinel_pickles("/nowhere"))
def test_nothing_in_a_pickle_is_run(tmp_path, kind):
    sentinel = tmp_path / "ran"
    before = {
        name: dict(vars(record))
        for name, record in vars(pickles).items()
        if name[0] == "_" and isinstance(record, type)
    }
    refusal = reason(write_npy(tmp_path / "x.npy", sentinel_pickles(sentinel)[kind]))
    assert "pickle" in refusal
    assert not sentinel.exists()
    for name, attributes in before.items():
        assert dict(vars(getattr(pickles, name))) == attributes


def test_these_pickles_do_run_in_python(tmp_path):
    """The control: Python's unpickler runs them."""
    for kind in ("reduce eval", "global, reduce", "stack global", "inst", "obj"):
        sentinel = tmp_path / kind
        pickle.loads(sentinel_pickles(str(sentinel).replace(" ", "_"))[kind])
        assert (tmp_path / kind.replace(" ", "_")).exists()


def test_the_reason_names_the_object_or_the_operation(tmp_path):
    body = sentinel_pickles(tmp_path / "ran")
    path = tmp_path / "x.npy"
    assert reason(write_npy(path, body["stack global"])) == (
        "a pickle that refers to os.system, which is not allowed"
    )
    assert reason(write_npy(path, body["inst"])) == (
        "a pickle with the operation STRING, which is not read"
    )


# Pickles that declare large sizes


def pickled_array(shape, data=b"\0" * 8):
    """Return a pickle of `[array, 1.0]` in which the array declares any shape."""
    head = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R"
    minus_one = b"J\xff\xff\xff\xff"
    dtype = b"cnumpy\ndtype\nX\2\0\0\0%s\x89\x88\x87R"
    dtype += b"(K\3X\1\0\0\0%sNNN" + 2 * minus_one + b"K\0tb"
    sides = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in shape) + b"t"
    inner = head[2:] + b"(K\1" + sides + dtype % (b"f8", b"<") + b"\x89"
    inner += b"B" + struct.pack("<I", len(data)) + data + b"tb"
    elements = b"](" + inner + b"G" + struct.pack(">d", 1.0) + b"e"
    return head + b"(K\1K\2\x85" + dtype % (b"O8", b"|") + b"\x89" + elements + b"tb."


def test_the_hand_written_pickle_is_right(tmp_path):
    data = random_image(0).tobytes()
    image, mass_ev = read_image(write_npy(tmp_path / "x.npy", pickled_array((16, 16), data)))
    np.testing.assert_array_equal(image[..., 0], random_image(0))
    assert mass_ev == 1.0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (pickled_array((2**31 - 1, 2**31 - 1)), "the header declares over 1 EB"),
        (pickled_array((30000, 30000)), "the header declares 7.2 GB, the file holds 8 bytes"),
        (pickled_array((-4, -4)), "a negative side"),
        (pickled_array((1,) * 60), "60-D"),
        (pickled_array((0, 2**31 - 1), b""), "an array without values"),
        (b"\x80\x03B\xff\xff\xff\x7f.", "truncated or damaged"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "pickle"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "the operation BINBYTES8"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "the operation BYTEARRAY8"),
        (b"\x80\x03Nr\xff\xff\xff\x0f.", "too complex"),
        (b"\x80\x03" + b"(" * 100_000 + b".", "too complex"),
        (b"\x80\x03N" + b"\x85" * 100_000 + b".", "too complex"),
        (b"\x80\x03N" + b"2\x86" * 200 + b".", "the operation DUP"),
        (b"\x80\x03L" + b"9" * 5000 + b"L\n.", "pickle"),
        (b"", "pickle"),
        (b".", "pickle"),
        (b"\x80\x03N.", "a pickle that is not [image, mass_ev]"),
    ],
    ids=range(17),
)
def test_declared_sizes_take_no_memory(tmp_path, body, expected):
    path = write_npy(tmp_path / "x.npy", body)
    tracemalloc.start()
    assert expected in reason(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_a_pickle_beyond_the_limit_is_not_read(tmp_path):
    path = write_npy(tmp_path / "x.npy", b"\x80\x03N.")
    with path.open("r+b") as stream:
        stream.truncate(300 * 10**6)
    assert reason(path) == "a pickle of 300.0 MB, at most 134.2 MB are read"


# Other objects


@pytest.mark.parametrize(
    ("image", "mass", "expected"),
    [
        (random_image(0), "heavy", "a pickled mass that is not a number"),
        (random_image(0), None, "a pickled mass that is not a number"),
        (random_image(0), True, "a pickle"),
        (random_image(0), np.array([1e-23, 2e-23]), "a pickled mass that is not one number"),
        (random_image(0), np.complex128(1j), "complex numbers"),
        (random_image(0) * 1j, 1e-23, "complex numbers"),
        ("image", 1e-23, "a pickle that is not [image, mass_ev]"),
        (None, 1e-23, "a pickle that is not [image, mass_ev]"),
        ([[1.0, 2.0]], 1e-23, "a pickle that is not [image, mass_ev]"),
        (np.array([None, None]), 1e-23, "a pickle that is not [image, mass_ev]"),
        (np.float64(1.0), 1e-23, "0-D, an image has 2 or 3 dimensions"),
        (random_image(0, (300,)), 1e-23, "1-D"),
    ],
)
def test_other_pairs_are_refused_with_a_reason(tmp_path, image, mass, expected):
    write_pair(tmp_path / "x.npy", image, mass)
    assert expected in reason(tmp_path / "x.npy")


def test_a_truncated_pair_is_refused(tmp_path):
    write_pair(tmp_path / "x.npy", random_image(0), 1e-23)
    data = (tmp_path / "x.npy").read_bytes()
    for length in (130, 500, len(data) - 1):
        (tmp_path / "x.npy").write_bytes(data[:length])
        assert reason(tmp_path / "x.npy") == "a truncated or damaged pickle"


@given(position=st.integers(0, 300), value=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_damaged_pickle_raises_no_other_error(tmp_path_factory, position, value):
    body = bytearray(pickle.dumps(pair(random_image(0, (8, 8)), np.float64(1e-23)), 4))
    body[position] = value
    path = write_npy(tmp_path_factory.getbasetemp() / "damaged.npy", bytes(body))
    try:
        image, _ = read_image(path)
    except UnusableFile:
        return
    assert image.size == 64

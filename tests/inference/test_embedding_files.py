"""Files of embeddings: as NumPy writes and reads them, of any size, and hostile ones."""

import io
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference.embedding_files import read_embeddings
from deeplens_tf.inference.embedding_npz import write_npz
from deeplens_tf.inference.embedding_rows import EmbeddingRows
from tests.hostile.arrays import EVAL, header, npy, npy_bytes, pair_with


def arrays(count=5, dim=3):
    features = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return {"features": features, "file": np.array([f"{i}.npy" for i in range(count)])}


def written(path, count, dim=3, at_once=1000):
    rows = EmbeddingRows(io.BytesIO())
    features = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    for start in range(0, count, at_once):
        part = features[start : start + at_once]
        rows.add(part, [f"é{start + i}.npy" for i in range(len(part))], {})
    write_npz(path, rows, {"layer": None})
    return features


@pytest.mark.parametrize("count", [1, 20000])
def test_numpy_reads_what_is_written(tmp_path, count):
    features = written(tmp_path / "e.npz", count)
    names = [f"é{i}.npy" for i in range(count)]
    with np.load(tmp_path / "e.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["features"], features)
        assert found["file"].tolist() == names
        assert json.loads(str(found["about"])) == {"layer": None}
    ours = read_embeddings(tmp_path / "e.npz")
    np.testing.assert_array_equal(ours.features, features)
    assert ours.columns["file"].tolist() == names
    assert ours.features.ctypes.data % 64 == 0  # products of unaligned arrays copy them first


def test_the_arrays_of_another_program_are_read(tmp_path):
    archived(tmp_path / "e.npz", whole())
    found = read_embeddings(tmp_path / "e.npz")
    np.testing.assert_array_equal(found.features, arrays()["features"])
    assert found.about == {}


def test_reading_takes_no_memory_for_the_features(tmp_path):
    features = written(tmp_path / "e.npz", 100_000, dim=64)
    tracemalloc.start()
    found = read_embeddings(tmp_path / "e.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.features.nbytes == features.nbytes == 25_600_000
    assert peak < 6e6


def whole():
    return {f"{key}.npy": npy_bytes(value) for key, value in arrays().items()}


def member(name, data):
    return {**whole(), name: data}


def archived(path, members, how=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", how) as archive:
        for key, data in members.items():
            archive.writestr(key, data)


HOSTILE = {
    "a pickle": (member("file.npy", npy(header("(5,)", "'|O'"), pair_with(EVAL))), "instead of te"),
    "a header of 2 GB": (
        member("features.npy", b"\x93NUMPY\2\0\xff\xff\xff\x7f{"),
        "a header of 2.1 GB",
    ),
    "8 TB announced": (
        member("features.npy", npy(header("(1000000, 1000000)", "'<f4'"), bytes(80))),
        "does not match its size",
    ),
    "no array": (member("features.npy", b"text"), "not a NumPy array"),
    "doubles": (member("features.npy", npy_bytes(np.ones((5, 3)))), "instead of float32"),
    "one axis": (member("features.npy", npy_bytes(np.ones(5, np.float32))), r"need \(images, dim"),
    "too few names": (member("file.npy", npy_bytes(np.array(["a"]))), r"the others \(images,\)"),
    "no characters": (
        member("file.npy", npy(header("(5,)", "'<U1'"), b"\xff" * 20)),
        "not characters",
    ),
    "another array": (member("weights.npy", npy_bytes(np.ones(5))), "it holds features, file"),
    "NaN": (
        member("features.npy", npy_bytes(np.full((5, 3), np.nan, np.float32))),
        "features of row 0 are not finite",
    ),
    "about that is no JSON": (member("about.npy", npy_bytes(np.array("{"))), "about is no JSON"),
    "about that is a list": (member("about.npy", npy_bytes(np.array("[]"))), "no JSON object"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line(tmp_path, name):
    members, reason = HOSTILE[name]
    archived(tmp_path / "e.npz", members)
    with pytest.raises(DataError, match=reason) as error:
        read_embeddings(tmp_path / "e.npz")
    assert error.value.exit_code == 3
    assert "\n" not in str(error.value)


def test_damaged_compressed_and_missing_files_are_refused(tmp_path):
    written(tmp_path / "e.npz", 9)
    content = (tmp_path / "e.npz").read_bytes()
    place = content.index(struct.pack("<f", read_embeddings(tmp_path / "e.npz").features[1, 1]))
    (tmp_path / "e.npz").write_bytes(content[:place] + b"\0" + content[place + 1 :])
    with pytest.raises(DataError, match="not embeddings: Bad CRC"):
        read_embeddings(tmp_path / "e.npz")
    (tmp_path / "e.npz").write_bytes(content[:-30])
    with pytest.raises(DataError, match="not an archive"):
        read_embeddings(tmp_path / "e.npz")
    archived(tmp_path / "c.npz", whole(), zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="is compressed"):
        read_embeddings(tmp_path / "c.npz")
    with pytest.raises(RequestError, match="no such file of embeddings"):
        read_embeddings(tmp_path / "none.npz")

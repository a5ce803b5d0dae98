"""Embeddings in Parquet: as pandas reads them, the same as in `.npz`, and hostile ones."""

import io
import json
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference import embedding_parquet, embedding_rows
from deeplens_tf.inference.embedding_files import is_embeddings, read_embeddings, write_embeddings
from deeplens_tf.inference.embedding_parquet import require_utf8
from deeplens_tf.inference.embedding_rows import EmbeddingRows

COUNT = 5


def written(path, count, dim=3, ra=lambda i: f"{i / 7}"):
    rows = EmbeddingRows(io.BytesIO())
    features = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    names = [f"é{i}.npy" for i in range(count)]
    places = {"id": [f"lens {i % 3}" for i in range(count)], "ra": [ra(i) for i in range(count)]}
    rows.add(features, names, places)
    write_embeddings(path, path, rows, {"layer": "block_1"})
    return features


@pytest.mark.parametrize("count", [1, 7, 50])
def test_pandas_reads_what_is_written_in_groups_of_rows(tmp_path, monkeypatch, count):
    monkeypatch.setattr(embedding_rows, "BLOCK_ROWS", 8)
    features = written(tmp_path / "e.parquet", count)
    table = pd.read_parquet(tmp_path / "e.parquet")
    assert list(table) == ["file", "id", "ra", "features"]
    np.testing.assert_array_equal(np.stack(table["features"]), features)
    assert table["file"].tolist() == [f"é{i}.npy" for i in range(count)]
    np.testing.assert_array_equal(table["ra"], np.arange(count) / 7)
    file = parquet.ParquetFile(tmp_path / "e.parquet")
    assert file.schema_arrow.field("features").type == pa.list_(pa.float32(), 3)
    assert json.loads(file.schema_arrow.metadata[b"about"]) == {"layer": "block_1"}
    assert file.metadata.num_row_groups == -(-count // 8)


@pytest.mark.parametrize("ra", [lambda i: "" if i % 2 else "1.5", lambda i: "12h30m"])
def test_both_formats_give_the_same_embeddings(tmp_path, ra):
    for suffix in ("npz", "parquet"):
        written(tmp_path / f"e.{suffix}", 20_000, ra=ra)
    first, second = (read_embeddings(tmp_path / f"e.{suffix}") for suffix in ("npz", "parquet"))
    np.testing.assert_array_equal(first.features, second.features)
    assert second.features.dtype == np.float32
    assert {**first.columns}.keys() == {**second.columns}.keys()
    for name, values in first.columns.items():
        np.testing.assert_array_equal(second.columns[name], values)
    assert (first.about, first.checksum) == (second.about, second.checksum)
    before = (tmp_path / "e.parquet").read_bytes()
    written(tmp_path / "e.parquet", 20_000, ra=ra)
    assert (tmp_path / "e.parquet").read_bytes() == before


def test_reading_takes_no_memory_for_the_features(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_parquet, "MAX_BATCH_VALUES", 1 << 17)
    monkeypatch.setattr(embedding_rows, "BLOCK_ROWS", 1024)
    features = written(tmp_path / "e.parquet", 20_000, dim=128)
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    found = read_embeddings(tmp_path / "e.parquet")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    pa.set_memory_pool(before)
    assert found.features.nbytes == features.nbytes == 10_240_000
    assert peak < 7e6  # the names, and a batch of rows
    assert 1e5 < pool.max_memory() < 5e6


def table(**columns):
    """A table of five rows as another program would write it, with some columns changed."""
    lists = pa.array(np.arange(3 * COUNT, dtype=np.float32).reshape(COUNT, 3).tolist(),
                     pa.list_(pa.float32()))  # fmt: skip
    given = {"file": [f"{i}.npy" for i in range(COUNT)], "features": lists, **columns}
    return pa.table({name: values for name, values in given.items() if values is not None})


def test_the_lists_of_another_program_are_read(tmp_path):
    parquet.write_table(table(ra=[1.0, None, 2, 3, 4]), tmp_path / "e.parquet")
    found = read_embeddings(tmp_path / "e.parquet")
    np.testing.assert_array_equal(found.features, np.arange(15).reshape(5, 3))
    np.testing.assert_array_equal(found.columns["ra"], [1, np.nan, 2, 3, 4])
    assert found.about == {}


def floats(rows, kind=None):
    return pa.array(rows, kind or pa.list_(pa.float32()))


ROW, MANY = [1.0, 2.0, 3.0], 2_000_000
HOSTILE = {
    "doubles": (table(features=floats([ROW] * 5, pa.list_(pa.float64()))), "instead of lists of"),
    "no lists": (table(features=[1.0] * 5), "instead of lists of float32"),
    "lists of two lengths": (table(features=floats([[1.0], *[ROW] * 3, [1.0] * 5])), "row are not"),
    "a remainder": (table(features=floats([[1.0], *[ROW] * 4])), "not lists of one length"),
    "a row without features": (table(features=floats([None, [1.0] * 6, *[ROW] * 3])), "not lists"),
    "a missing number": (table(features=floats([[None, 1, 2], *[ROW] * 4])), "are not 3 numbers"),
    "NaN": (table(features=floats([*[ROW] * 4, [float("nan"), 0, 0]])), "row 4 are not finite"),
    "no names": (table(file=None), "it holds features; embeddings hold"),
    "another column": (table(label=["a"] * 5), "it holds file, features, label"),
    "a row without a name": (table(file=["a", None, "b", "c", "d"]), "a row has no file"),
    "numbers for names": (table(file=[1, 2, 3, 4, 5]), "file of the type int64 instead of text"),
    "coordinates of another type": (table(ra=[1, 2, 3, 4, 5]), "ra of the type int64"),
    "bytes for names": (table(file=[b"\xff"] * 5), "file of the type binary"),
    "names that are not UTF-8": (
        table(file=pa.array([b"\xff"] * 5, pa.binary()).view(pa.string())),
        "file is not UTF-8",
    ),
    "no rows": (table().slice(0, 0), "not lists of one length"),
    "features that unpack to 24 MB": (
        pa.table({"file": ["a"] * MANY, "features": pa.FixedSizeListArray.from_arrays(
            np.zeros(3 * MANY, np.float32), 3)}),
        "it states 24000000 bytes of features",
    ),
    "names that unpack to 5 MB": (table(file=["a" * 10**6] * 5), "100 times its size"),
    "about that is no JSON": (table().replace_schema_metadata({"about": "{"}), "about is no JSON"),
    "about that is a list": (table().replace_schema_metadata({"about": "[]"}), "no JSON object"),
    "about of 1 MB": (table().replace_schema_metadata({"about": " " * 10**6}), "about is no text"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line(tmp_path, name):
    content, reason = HOSTILE[name]
    parquet.write_table(content, tmp_path / "e.parquet", compression="zstd")
    with pytest.raises(DataError, match=reason) as error:
        read_embeddings(tmp_path / "e.parquet")
    assert error.value.exit_code == 3
    assert "\n" not in str(error.value)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "e.parquet"
    features = written(path, 9)
    content = path.read_bytes()
    place = content.index(features[4, 1].tobytes())
    for damaged in (content[:place] + b"\0" + content[place + 1 :], content[:-9], b"text"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="not a Parquet table"):
            read_embeddings(path)
    assert not is_embeddings(path)
    for content, is_own in ((table(), True), (table(label=["a"] * 5), False)):
        parquet.write_table(content, path)
        assert is_embeddings(path) == is_own


def test_names_that_parquet_cannot_hold_and_a_missing_extra_are_named(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match=r"which Parquet needs: write \.npz instead of e\.parqu"):
        require_utf8("e.parquet", ["a", "caf\udce9.npy"])
    written(tmp_path / "e.parquet", 3)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(RequestError, match=r"pip install 'deeplens_tf\[parquet\]'"):
        read_embeddings(tmp_path / "e.parquet")

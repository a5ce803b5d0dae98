"""An index of embeddings: what it finds beside the exact answer, and which files are refused."""

import json

import numpy as np
import pytest

from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference import cells as cells_module
from deeplens_tf.inference.cells import build_cells
from deeplens_tf.inference.embedding_files import Embeddings
from deeplens_tf.inference.index_files import index_of, write_index
from deeplens_tf.inference.nearest import most_similar
from tests.inference.test_embedding_files import archived, npy_bytes

ROWS = 4000


def clustered(rows=ROWS, dim=24, seed=0):
    """Rows about forty directions, with lengths between 0.1 and 10."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(40, dim))
    rows = centres[generator.integers(0, 40, rows)] + 0.3 * generator.normal(size=(rows, dim))
    return (rows * np.exp(generator.uniform(-2, 2, (len(rows), 1)))).astype(np.float32)


@pytest.fixture(scope="module")
def features():
    found = clustered()
    found[[5, 1234, 3999]] = found[77]
    return found


@pytest.fixture(scope="module")
def cells(features):
    return build_cells(features)


def exact(features, query, top):
    rows = features.astype(np.float64)
    cosines = rows @ query / np.linalg.norm(rows, axis=1)
    return np.argsort(-cosines, kind="stable")[:top]


def test_each_row_is_in_the_cell_whose_direction_is_nearest(features, cells):
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = np.argmax(units @ cells.centres.T, axis=1)
    assert len(cells.centres) == 102  # 39 rows each
    for cell in range(102):
        rows = cells.order[cells.starts[cell] : cells.starts[cell + 1]]
        assert rows.tolist() == np.flatnonzero(nearest == cell).tolist()


def test_the_recall_is_that_of_rows_that_were_not_measured(features, cells):
    assert 2 <= cells.looked_at < 40
    found = 0
    for row in range(0, ROWS, 10):
        expected = {*exact(features, features[row], 101)} - {row}
        found += len(expected & {*cells.rows_near(features[row], 1)}) / 100
    assert found / (ROWS / 10) == pytest.approx(cells.recall, abs=0.02)
    assert cells.recall > 0.97


def test_rows_without_clusters_have_more_cells_looked_at(cells):
    random = np.random.default_rng(0).normal(size=(ROWS, 24)).astype(np.float32)
    assert build_cells(random).looked_at > 2 * cells.looked_at


def test_copies_come_first_and_similarities_are_exact(features, cells):
    rows, similarities = most_similar(features, features[77], 12, 77,
                                      cells.rows_near(features[77], 13))  # fmt: skip
    assert rows[:3].tolist() == [5, 1234, 3999]
    np.testing.assert_allclose(similarities[:3], 1, rtol=0, atol=1e-15)
    expected, values = most_similar(features, features[77], 12, 77)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_array_equal(similarities, values)


def test_more_cells_are_looked_at_for_more_rows(features, cells):
    assert len(cells.rows_near(features[0], 3000)) >= 3000
    assert cells.rows_near(features[0], 10**6).tolist() == list(range(ROWS))


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_few_rows_are_all_found(rows):
    features = clustered(rows)
    cells = build_cells(features)
    assert cells.rows_near(features[0], 1).tolist() == list(range(rows))
    assert cells.recall == 1


def embeddings(path, features, checksum=7):
    return Embeddings(path, features, {}, {}, checksum)


def test_an_index_is_built_once_with_the_same_bytes(features, cells, tmp_path, monkeypatch):
    found = embeddings(tmp_path / "e.npz", features)
    first = index_of(found)
    content = (tmp_path / "e.index.npz").read_bytes()
    (tmp_path / "e.index.npz").unlink()
    index_of(found)
    assert (tmp_path / "e.index.npz").read_bytes() == content
    monkeypatch.setattr(cells_module, "build_cells", None)
    second = index_of(found)
    assert (first.looked_at, first.recall) == (second.looked_at, second.recall)
    for name in ("centres", "order", "starts"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        np.testing.assert_array_equal(np.load(tmp_path / "e.index.npz")[name], getattr(first, name))


def test_an_index_of_other_embeddings_is_refused(features, cells, tmp_path):
    write_index(tmp_path / "e.index.npz", cells, 7)
    with pytest.raises(RequestError, match=r"the index of other embeddings \(CRC-32 7\) than"):
        index_of(embeddings(tmp_path / "e.npz", features, 8))


def arrays(cells, **changed):
    about = {"features_crc32": 7, "looked_at": cells.looked_at, "recall": cells.recall}
    about |= {name: changed.pop(name) for name in [*changed] if name in about}
    members = {name: getattr(cells, name) for name in ("centres", "order", "starts")}
    return {**members, "about": np.array(json.dumps(about)), **changed}


def changed(values, place, value):
    values = np.array(values)
    values[place] = value
    return values


HOSTILE = {
    "a row beyond the last": (lambda c: {"order": changed(c.order, 3, ROWS)}, "rows that are none"),
    "a negative row": (lambda c: {"order": changed(c.order, 3, -1)}, "rows that are none"),
    "a row twice": (lambda c: {"order": changed(c.order, 3, c.order[4])}, "a row twice"),
    "too few rows": (lambda c: {"order": c.order[:-1]}, "other shapes"),
    "cells that overlap": (lambda c: {"starts": changed(c.starts, 3, 0)}, "follow each other"),
    "an end beyond": (lambda c: {"starts": changed(c.starts, -1, ROWS + 1)}, "follow each other"),
    "starts of another shape": (lambda c: {"starts": c.starts[:, None]}, "other shapes"),
    "directions of another length": (lambda c: {"centres": c.centres[:, :5]}, "other shapes"),
    "NaN": (lambda c: {"centres": changed(c.centres, 0, np.nan)}, "none of an index"),
    "doubles": (lambda c: {"centres": c.centres.astype(float)}, "of the type '<f8'"),
    "no cells looked at": (lambda _: {"looked_at": 0}, "none of an index"),
    "cells as a text": (lambda _: {"looked_at": "3"}, "none of an index"),
    "a recall above 1": (lambda _: {"recall": 1.5}, "none of an index"),
    "another array": (lambda c: {"file": c.order}, "it holds about, centres, file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line(features, cells, tmp_path, name):
    change, reason = HOSTILE[name]
    members = arrays(cells, **change(cells))
    archived(tmp_path / "e.index.npz", {f"{k}.npy": npy_bytes(v) for k, v in members.items()})
    with pytest.raises(DataError, match=reason) as error:
        index_of(embeddings(tmp_path / "e.npz", features))
    assert "\n" not in str(error.value)


def test_another_file_in_the_place_and_a_missing_extra_are_named(features, tmp_path, monkeypatch):
    (tmp_path / "e.index.npz").write_bytes(b"mine")
    with pytest.raises(DataError, match="not an index: not an archive"):
        index_of(embeddings(tmp_path / "e.npz", features))
    (tmp_path / "e.index.npz").unlink()
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(RequestError, match=r"pip install 'deeplens_tf\[faiss\]'"):
        index_of(embeddings(tmp_path / "e.npz", features))
    assert not list(tmp_path.iterdir())

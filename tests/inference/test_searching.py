"""A search among embeddings: planted copies come first, and what is asked for wrongly is named."""

import hashlib
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

import deeplens_tf as dl
from deeplens_tf import prepare
from deeplens_tf import search as stage
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference import searching
from deeplens_tf.inference.embedding import embed
from deeplens_tf.inference.searching import search
from tests.conftest import blob_image, write_blobs
from tests.hostile.arrays import npy_bytes
from tests.models.tiny import tiny_vit


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    write_blobs(folder / "lenses", 2, seed=0)
    data = dl.data.open_folder(folder / "lenses", image_size=16, cache=folder / "cache")
    dl.save_encoder(tiny_vit(data.image_shape), folder / "e.keras", data.preprocessing)
    return folder / "e.keras"


@pytest.fixture
def embedded(encoder, tmp_path, monkeypatch):
    """Thirty images, three of which have the pixels of 07.npy, with identifiers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "survey").mkdir()
    generator = np.random.default_rng(0)
    images = [blob_image(generator, i % 3) for i in range(30)]
    for i, image in enumerate(images):
        np.save(f"survey/{i:02d}.npy", images[7] if i in (3, 19, 28) else image)
    rows = [(f"{i:02d}.npy", f"lens {i}", f"{i / 3}", "-1") for i in range(30)]
    pd.DataFrame(rows, columns=["file", "id", "ra", "dec"]).to_csv("c.csv", index=False)
    return embed(encoder, "survey", "e.npz", catalog="c.csv").file


def test_planted_copies_come_first_and_the_image_itself_is_left_out(embedded):
    found = search(embedded, "07.npy")
    table = pd.read_csv(found.table)
    assert list(table) == ["rank", "file", "similarity", "id", "ra", "dec"]
    assert table["rank"].tolist() == list(range(1, 13))
    assert table["file"][:3].tolist() == ["03.npy", "19.npy", "28.npy"]
    np.testing.assert_allclose(table["similarity"][:3], 1, atol=1e-12)
    assert table["similarity"][3] < 1 - 1e-9
    assert "07.npy" not in table["file"].tolist()
    assert table["id"][1] == "lens 19"
    features = np.load("e.npz")["features"].astype(float)
    other = NearestNeighbors(n_neighbors=13, metric="cosine", algorithm="brute").fit(features)
    _, rows = other.kneighbors(features[7:8])
    assert set(table["file"]) == {f"{row:02d}.npy" for row in rows[0]} - {"07.npy"}
    assert found.picture.read_bytes().startswith(b"\x89PNG")


def test_an_id_names_a_row_and_a_repeat_replaces_the_result_alone(embedded, capsys, tmp_path):
    stage.main(["--embeddings", "e.npz", "--top", "5", "--out", "found", "--like", "lens 7"])
    out = capsys.readouterr().out
    assert "lens 7: row 7 of e.npz, which is left out of its neighbours" in out
    assert "neighbours: found/neighbours.csv, of 5 images" in out
    assert "picture: found/neighbours.png" in out
    first = (tmp_path / "found/neighbours.csv").read_bytes()
    search("e.npz", "07.npy", "found", top=5)
    assert (tmp_path / "found/neighbours.csv").read_bytes() == first
    (tmp_path / "found/notes").touch()
    with pytest.raises(RequestError, match="found contains something else"):
        search("e.npz", "07.npy", "found")


def test_an_image_that_is_none_of_them(embedded, encoder, tmp_path):
    np.save("new.npy", np.load("survey/07.npy"))
    table = pd.read_csv(search("e.npz", "new.npy", run=encoder).table)
    assert sorted(table["file"][:4]) == ["03.npy", "07.npy", "19.npy", "28.npy"]
    np.testing.assert_allclose(table["similarity"][:4], 1, atol=1e-6)
    other = tmp_path / "other.keras"
    data = dl.load_encoder(encoder).preprocessing
    dl.save_encoder(tiny_vit((16, 16, 1)), other, data)
    np.save("rgb.npy", np.random.default_rng(0).random((16, 16, 3)))
    for like, run, error, line in (
        ("new.npy", other, RequestError, r"other\.keras \(SHA-256 .*\): not the encoder of e\.npz"),
        ("none.npy", encoder, RequestError, "none.npy: no such image file"),
        ("rgb.npy", encoder, DataError, r"rgb\.npy: .*3 bands"),
    ):
        with pytest.raises(error, match=line):
            search("e.npz", like, run=run)


def test_a_file_of_the_embeddings_is_the_first_neighbour_of_itself(embedded, encoder, monkeypatch):
    monkeypatch.setattr(searching, "neighbour_grid", lambda *_: None)
    for like in ("survey/11.npy", "survey/22.npy"):
        table = pd.read_csv(search("e.npz", like, "found", run=encoder).table)
        assert f"survey/{table['file'][0]}" == like
        np.testing.assert_allclose(table["similarity"][0], 1, rtol=0, atol=1e-6)
        assert table["similarity"][1] < 1 - 1e-6


def test_parquet_and_an_index_give_the_same_neighbours(embedded, encoder, monkeypatch, capsys):
    monkeypatch.setattr(searching, "neighbour_grid", lambda *_: None)
    expected = pd.read_csv(search("e.npz", "07.npy", "a").table)
    embed(encoder, "survey", "e.parquet", catalog="c.csv")
    pd.testing.assert_frame_equal(pd.read_csv(search("e.parquet", "07.npy", "b").table), expected)
    words = ["--embeddings", "e.npz", "--like", "07.npy", "--out", "c", "--index"]
    stage.main(words)
    out = capsys.readouterr().out
    assert "index: building e.index.npz, once for these embeddings" in out
    assert "approximate: its index finds 1.000 of the 100 nearest images" in out
    stage.main(words)
    assert "building" not in capsys.readouterr().out
    found = pd.read_csv("c/neighbours.csv")
    assert (found.pop("index_recall") == 1).all()
    pd.testing.assert_frame_equal(found, expected)
    opened = dl.inference.read_embeddings("e.parquet")  # of the same features, so of one index
    assert search(opened, "07.npy", "d", index=True).recall == 1
    with pytest.raises(RequestError, match="--top 101: an index is measured for the 100 nearest"):
        search(opened, "07.npy", "d", index=True, top=101)
    embed(encoder, "survey", "e.npz", layer="block_0")
    with pytest.raises(RequestError, match=r"e\.index\.npz: the index of other embeddings"):
        search("e.npz", "07.npy", index=True)


def test_an_encoder_that_has_changed_is_named_by_its_digest(embedded, encoder, tmp_path):
    known = dl.load_encoder(encoder)
    content = encoder.read_bytes()
    before = hashlib.sha256(content).hexdigest()[:12]
    dl.save_encoder(tiny_vit((16, 16, 1)), encoder, known.preprocessing)
    after = hashlib.sha256(encoder.read_bytes()).hexdigest()[:12]
    with pytest.raises(RequestError) as error:
        search("e.npz", "survey/07.npy", run=encoder)
    encoder.write_bytes(content)
    assert f"{encoder} (SHA-256 {after}): not the encoder of e.npz, which is" in str(error.value)
    assert f"(SHA-256 {before})" in str(error.value)


def savez(path, features, files):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", npy_bytes(features))
        archive.writestr("file.npy", npy_bytes(np.array(files)))


def test_wrong_requests_end_in_one_line(embedded):
    np.save("new.npy", np.load("survey/07.npy"))
    for like, line in (
        ("99.npy", r"99\.npy: no file or id of e\.npz, whose first file is 00\.npy$"),
        ("new.npy", r"e\.npz; give --run, the encoder, to search for an image file"),
        ("survey/07.npy", r"no file or id of e\.npz: did you mean 07\.npy\?$"),
    ):
        with pytest.raises(RequestError, match=line):
            search("e.npz", like)
    with pytest.raises(RequestError, match="--top must be 1 or more"):
        search("e.npz", "07.npy", top=0)
    features = np.zeros((3, 2), np.float32)
    savez("zero.npz", features, ["a", "b", "c"])
    with pytest.raises(RequestError, match="a: query must have 2 features that are not all zero"):
        search("zero.npz", "a")
    features[:, 0] = [1, 2, 1]
    savez("two.npz", features, ["a", "a", "c"])
    with pytest.raises(RequestError, match=r"a: the file of 2 rows of two\.npz"):
        search("two.npz", "a")
    found = search("two.npz", "c")  # of another program: no folder, so no picture
    assert (found.count, found.picture) == (2, None)


def test_pictures_are_of_the_folder_that_was_embedded(embedded, encoder, tmp_path):
    prepare.main(["survey", "--out", "prepared", "--image-size", "16"])
    embed(encoder, "prepared", "p.npz")
    assert search("p.npz", "06.npy").picture is not None
    (tmp_path / "survey").rename(tmp_path / "moved")
    assert search("e.npz", "07.npy").picture is None

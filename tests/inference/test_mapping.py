"""A map of embeddings: its files, read by other programs, and hostile embeddings."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from google.protobuf import text_format
from tensorboard.plugins.projector import ProjectorConfig, projector_plugin

import deeplens_tf as dl
from deeplens_tf import map as stage
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference import mapping
from deeplens_tf.inference.map_page import evenly
from deeplens_tf.inference.mapping import map_embeddings
from tests.inference.maps import embedded_blobs, write_embeddings

HOSTILE = "</script><script>alert(1)</script>.npy"


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """Thirty images with embeddings, and a map of them with a stand-in for UMAP."""
    root = tmp_path_factory.mktemp("blobs")
    file = embedded_blobs(root, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "umap_coordinates", lambda features: features[:, 2:4].astype(float))
        patch.setattr(mapping, "require_umap", lambda asked: True)
        map_embeddings(file, root / "map")
    return root


def data_of(page):
    """The data in a page, as a browser parses them."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def test_the_table_has_both_maps(blobs):
    table = pd.read_csv(blobs / "map/map.csv")
    assert list(table) == ["file", "pca_1", "pca_2", "umap_1", "umap_2"]
    with np.load(blobs / "e.npz") as found:
        assert table["file"].tolist() == found["file"].tolist()
        features = found["features"].astype(float)
    np.testing.assert_allclose(table[["umap_1", "umap_2"]], features[:, 2:4], rtol=1e-14)
    centered = features - features.mean(axis=0)
    lengths = np.linalg.svd(centered, compute_uv=False)[:2]
    np.testing.assert_allclose(np.linalg.norm(table[["pca_1", "pca_2"]], axis=0), lengths)


def test_tensorboard_reads_the_projector(blobs):
    folder = blobs / "map/projector"
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    tensor = projector_plugin._read_tensor_tsv_file(str(folder / embedding.tensor_path))
    with np.load(blobs / "e.npz") as found:
        np.testing.assert_allclose(tensor, found["features"], rtol=1e-5)
    table = pd.read_csv(folder / embedding.metadata_path, sep="\t")
    assert list(table) == ["file", "class", "mass_ev"]
    assert table["class"].tolist() == ["axion"] * 10 + ["cdm"] * 10 + ["no_sub"] * 10
    assert (folder / embedding.sprite.image_path).read_bytes().startswith(b"\x89PNG")
    assert [*embedding.sprite.single_image_dim] == [32, 32]


def test_the_page_has_the_points_their_images_and_no_address(blobs):
    page = (blobs / "map/map.html").read_text()
    data = data_of(page)
    assert [plane["title"] for plane in data["planes"]] == ["Principal components", "UMAP"]
    table = pd.read_csv(blobs / "map/map.csv")
    for plane, column in zip(data["planes"], ("pca", "umap"), strict=True):
        for axis, k in (("x", 1), ("y", 2)):
            values = table[f"{column}_{k}"]
            shares = (values - values.min()) / (values.max() - values.min())
            np.testing.assert_allclose(plane[axis], shares, atol=1e-4)
    assert data["sprite"]["cells"] == list(range(30))
    assert [coloring["name"] for coloring in data["colorings"]] == ["class", "mass_ev"]
    assert data["colorings"][1]["logarithmic"] and data["colorings"][1]["places"][10:] == [-1] * 20
    assert re.findall(r'(?:src|href)="(.{0,23})', page) == ["data:image/jpeg;base64,"]
    assert "://" not in page
    pictures = {path.name for path in (blobs / "map").glob("*.png")}
    assert pictures == {"map.png", "images.png"}


@pytest.mark.usefixtures("no_pictures")
def test_the_stage_says_what_it_drew_and_replaces_only_a_map(blobs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f"axion/{i:03d}.npy,cdm,{i / 10}" for i in range(4)]
    (tmp_path / "predictions.csv").write_text("\n".join(["file,predicted,p_cdm", *rows]))
    words = ["--embeddings", str(blobs / "e.npz"), "--out", "m", "--method", "pca"]
    stage.main([*words, "--table", "predictions.csv", "--color-by", "predicted"])
    out = capsys.readouterr().out
    assert "map: m, of 30 images, colored by predicted" in out
    assert re.search(r"principal components: \d\d\.\d% and \d\d\.\d% of the variance", out)
    assert "predicted: 26 images without a value, drawn gray" in out
    assert "thumbnails: 30 of 30 images" in out
    first = (tmp_path / "m/map.html").read_bytes()
    how = {"method": "pca", "color_by": ["predicted"], "tables": ["predictions.csv"]}
    again = dl.inference.map_embeddings(blobs / "e.npz", "m", **how)
    assert (tmp_path / "m/map.html").read_bytes() == first
    assert (again.count, again.umap, again.colorings) == (30, False, ("predicted",))
    (tmp_path / "m/projector/notes").touch()
    with pytest.raises(RequestError, match="m contains something else"):
        map_embeddings(blobs / "e.npz", "m", method="pca")


@pytest.mark.usefixtures("no_pictures")
def test_of_many_images_some_are_drawn_evenly(blobs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("deeplens_tf.inference.map_page.MAX_THUMBNAILS", 4)
    found = map_embeddings(blobs / "e.npz", tmp_path / "m", method="pca", points=7)
    assert (found.count, found.images) == (7, 7)
    assert "7 of 30 images, evenly drawn" in capsys.readouterr().out
    page = (tmp_path / "m/map.html").read_text()
    assert "7 of 30 images, evenly drawn" in page
    assert "4 of the 7 images are in this page and are shown." in page
    assert data_of(page)["sprite"]["cells"] == [0, -1, 1, -1, 2, -1, 3]
    assert evenly(30, 7).tolist() == [0, 5, 10, 14, 19, 24, 29]


@pytest.mark.usefixtures("no_pictures")
def test_without_umap_or_with_few_images_a_line_says_why(tmp_path, monkeypatch, capsys):
    features = np.random.default_rng(0).normal(size=(6, 3))
    six = write_embeddings(tmp_path / "six.npz", features, list("abcdef"))
    monkeypatch.setattr(mapping, "require_umap", lambda asked: False)
    found = map_embeddings(six, tmp_path / "m")
    out = capsys.readouterr().out
    assert not found.umap and "umap-learn is not installed (pip install 'deeplens_tf[map]')" in out
    assert "nothing is known of the images, so all have one color: give --table" in out
    page = (tmp_path / "m/map.html").read_text()
    assert "The images cannot be read again, so none is shown." in page
    assert not (tmp_path / "m/images.png").exists()
    monkeypatch.setattr(mapping, "require_umap", lambda asked: True)
    two = write_embeddings(tmp_path / "two.npz", features[:2], ["a", "b"])
    assert map_embeddings(two, tmp_path / "m").explained == pytest.approx((1, 0))
    assert "UMAP needs 5 images or more, and there are 2" in capsys.readouterr().out
    with pytest.raises(RequestError, match="--method umap: UMAP needs 5 images"):
        map_embeddings(two, tmp_path / "m", method="umap")


@pytest.mark.parametrize(
    ("features", "how", "error", "line"),
    [
        (np.ones((1, 3)), {}, DataError, "a map needs 2 images or more"),
        (np.ones((9, 3)), {}, DataError, "all images have the same features"),
        (np.eye(3), {"points": 1}, RequestError, "--points must be from 2 to 50000. Received: 1"),
        (np.eye(3), {"method": "tsne"}, RequestError, "--method must be pca or umap"),
        (np.eye(3), {"color_by": ["z"]}, RequestError, "--color-by z: nothing is known"),
        (np.eye(3), {"tables": ["none.csv"]}, RequestError, "none.csv: no such catalogue"),
        (np.diag([np.inf, 1, 1]), {}, DataError, "the features of row 0 are not finite"),
    ],
)
def test_wrong_requests_end_in_one_line(tmp_path, features, how, error, line):
    names = [f"{i}.npy" for i in range(len(features))]
    path = write_embeddings(tmp_path / "e.npz", features, names)
    with pytest.raises(error, match=line):
        map_embeddings(path, **{"method": "pca", **how})
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("no_pictures")
def test_hostile_names_stay_text(tmp_path):
    names = [HOSTILE, "a\tb\n.npy", "{{ 7 * 7 }}.npy"]
    about = {"data": "<img src=x onerror=alert(1)>", "encoder": HOSTILE}
    path = write_embeddings(tmp_path / "e.npz", np.eye(3), names, about, id=[HOSTILE] * 3)
    map_embeddings(path, method="pca")
    page = (tmp_path / "e-map/map.html").read_text()
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img src=x" not in page and "&lt;img src=x" in page
    file, of_id, of_class = data_of(page)["columns"]
    assert file["texts"] == [HOSTILE, r"a\tb\n.npy", "{{ 7 * 7 }}.npy"]
    assert of_id["names"] == [HOSTILE]
    assert of_class["texts"] == [HOSTILE.split("/")[-2], "", ""]
    lines = (tmp_path / "e-map/projector/features_columns.tsv").read_text().split("\n")
    assert [len(line.split("\t")) for line in lines] == [3, 3, 3, 3, 1]
    assert pd.read_csv(tmp_path / "e-map/map.csv")["file"].tolist() == names

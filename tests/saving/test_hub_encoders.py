"""Encoders of the Hugging Face Hub: an exported folder as it is uploaded and loaded by name."""

import copy
from pathlib import Path

import numpy as np
import pytest

import deeplens_tf as dl
from deeplens_tf.errors import RequestError
from deeplens_tf.files.hub_files import RECORDS, hub_name
from deeplens_tf.files.products import encoder_file, published_name
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from tests.hostile.models import LAMBDA, members_of, with_recipe
from tests.models.tiny import randomise, tiny_vit

library = pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder that `export --format keras` writes of a small encoder, and the encoder."""
    folder = tmp_path_factory.mktemp("exported")
    how = Preprocessing(8, "crop", 2, source_side=8)
    encoder = randomise(tiny_vit(image_shape=how.image_shape))
    dl.save_encoder(encoder, folder / "encoder.keras", how)
    return dl.inference.export(folder, "keras").parent, encoder


def test_an_exported_folder_is_loaded_back_as_it_was_uploaded(hub, exported, offline):
    folder, encoder = exported
    commit = hub.commit_folder("lab/lenses", folder)
    images = np.random.default_rng(0).normal(10, 1, (3, 9, 9, 2))
    for after in (lambda: None, offline):
        loaded = dl.load_encoder("hf://lab/lenses")
        np.testing.assert_array_equal(loaded.features(images), encoder.features(images))
        after()
    assert library.ModelCard.load(folder / "README.md").data.library_name == "keras"
    # The card is for people: it is not fetched.
    files = [path for _, path, _ in hub.requests if "/resolve/" in path]
    asked = {path.rpartition("/")[2] for path in files}
    assert asked == {"encoder.keras", "model.keras", *RECORDS}
    assert f"/lab/lenses/resolve/{commit}/model.keras" in files


def test_what_is_fetched_is_untrusted(hub):
    hub.commit("lab/lenses", {"model.keras": b"PK\3\4"})
    with pytest.raises(RequestError, match=r"model\.keras: not a model that can be loaded safely"):
        dl.load_encoder("hf://lab/lenses")


def test_nothing_is_written_into_the_cache(hub, exported, tmp_path, monkeypatch):
    hub.commit_folder("lab/lenses", exported[0])
    monkeypatch.chdir(tmp_path)
    path = dl.inference.export("hf://lab/lenses", "keras")
    assert path == Path("exports", "lenses", "keras", "model.keras")
    assert "\n# lenses\n" in path.with_name("README.md").read_text()
    assert published_name(encoder_file("hf://lab/lenses")) == "lenses"
    assert published_name(path) is hub_name(path) is None


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda recipe: {"network": LAMBDA}, "requests Lambda, which no model of deeplens_tf has"),
        (lambda recipe: {"network": recipe}, "describes a model without a valid network"),
        (lambda recipe: {"about": recipe["config"]["network"]}, "within another network"),
    ],
)
def test_an_exported_file_holds_one_network_and_nothing_else(hub, exported, change, line):
    members = members_of(exported[0] / "model.keras")

    def changed(recipe):
        recipe["config"].update(change(copy.deepcopy(recipe)))

    hostile = with_recipe(members, changed)
    hub.commit("lab/lenses", {"model.keras": hostile})
    with pytest.raises(RequestError, match=line):
        dl.load_encoder("hf://lab/lenses")

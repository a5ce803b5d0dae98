"""Encoders that come with the package: their names, their digests and what is refused."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest

import deeplens_tf as dl
from deeplens_tf.errors import RequestError
from deeplens_tf.files import shipped
from deeplens_tf.files.products import ENCODER, encoder_file
from deeplens_tf.files.shipped import CARD, card_head, place_of, shipped_encoders
from deeplens_tf.runs.run_folder import Run

NAMES = sorted(shipped_encoders())
NAME = "vit_nano_same_lens"


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the shipped folders, which the package then uses."""
    shutil.copytree(shipped.SHIPPED, tmp_path / "weights")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "weights"


def test_the_noise_free_encoder_is_shipped():
    assert NAME in dl.shipped_encoders()


@pytest.mark.parametrize("name", NAMES)
def test_the_card_has_the_digest_of_every_file(name):
    card = shipped_encoders()[name]
    head = card_head(card)
    files = {path.name: path.read_bytes() for path in card.parent.iterdir() if path != card}
    assert head["name"] == name
    assert {ENCODER, "config.yaml", "environment.json", "images.csv"} == files.keys()
    digests = {key: hashlib.sha256(value).hexdigest() for key, value in files.items()}
    assert head["sha256"] == digests
    assert encoder_file(name).read_bytes() == files[ENCODER]


@pytest.mark.parametrize("file", [ENCODER, "images.csv"])
def test_a_changed_file_is_refused(copied, file):
    path = copied / NAME / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RequestError, match=rf"{file}: not the published file: its SHA-256 is "):
        dl.load_encoder(NAME)


def test_a_missing_file_is_refused(copied):
    (copied / NAME / "images.csv").unlink()
    with pytest.raises(RequestError, match=r"images\.csv: not the published file.* missing"):
        place_of(NAME)


def test_a_name_that_is_also_a_path_is_refused_and_a_path_is_a_path(copied):
    assert place_of(NAME) == copied / NAME
    Path(NAME).mkdir()
    with pytest.raises(RequestError, match=rf"here also a path: write \./{NAME} for the path"):
        place_of(NAME)
    assert place_of(f"./{NAME}") == place_of(Path(NAME)) == Path(NAME)


def test_a_wrong_name_is_told_the_names():
    with pytest.raises(RequestError, match=rf"{', '.join(NAMES)} \(did you mean {NAME}\?\)$"):
        encoder_file("vit_nano_samelens")
    with pytest.raises(RequestError, match=rf"shipped encoder: {', '.join(NAMES)}$"):
        encoder_file("runs/x")


def test_a_report_does_not_go_into_the_package():
    with pytest.raises(RequestError, match=f"to probe it, cp -r .*{NAME} runs/{NAME}"):
        Run(Path(NAME)).load_config()


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_names_no_place_of_its_making(name):
    folder = shipped_encoders()[name].parent
    texts = [(folder / file).read_text() for file in (CARD, "environment.json", "config.yaml")]
    assert re.findall(r"(?<![\w.])/(?!device:)\w+", "\n".join(texts)) == []  # absolute paths
    assert "data_path" not in Run(folder).facts()
    assert Run(folder).load_config().data.path == "data/model_ii"

"""The stages start from a shipped encoder by its name, and record which it was."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import deeplens_tf as dl
from deeplens_tf import finetune, pretrain
from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError
from deeplens_tf.files.shipped import card_head
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.runs.seen_images import PRETRAINED, read_images
from deeplens_tf.training.starting_encoder import initial_file

NAME = "vit_nano_same_lens"
CARD = dl.shipped_encoders()[NAME]
QUICK = ("train.epochs=1", "train.batch_size=8", "train.jit_compile=false")
WINDOW = ("data.image_size=32", "data.fit=crop", "encoder.patch_size=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the data that a stage takes where it is told none."""
    folder = tmp_path_factory.mktemp("work")
    dl.simulation.simulate(folder / "data" / "model_ii", 8, seed=5)
    return folder


def run_of(stage, *words):
    stage.main(["--run-dir", "run", *words])
    return Run(Path("run"))


def settings(*words):
    return [part for word in words for part in ("--set", word)]


def assert_recorded(run):
    """The origin has the published digest, and the images are those of the encoder's run."""
    origin = run.facts()["encoder"]
    assert origin["sha256"] == card_head(CARD)["sha256"]["encoder.keras"]
    assert (origin["method"], origin["seed"]) == ("contrastive", 0)
    assert NAME in origin["path"]
    published = pd.read_csv(CARD.with_name("images.csv"))["content"]
    images = read_images(run)
    assert set(published) <= set(images["content"][images["use"] == PRETRAINED])


def test_a_fine_tuning_takes_its_input_and_the_default_data(folder, monkeypatch):
    monkeypatch.chdir(folder)
    run = run_of(finetune, "--encoder", NAME, "--freeze", *settings(*QUICK))
    assert_recorded(run)
    data = run.load_config().data
    assert (data.path, data.image_size, data.fit) == ("data/model_ii", 32, "crop")
    weights = dl.load_model("run").encoder.get_weights()
    published = dl.load_encoder(NAME).get_weights()
    assert all(np.array_equal(*pair) for pair in zip(weights, published, strict=True))


def test_a_pretraining_starts_from_it(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = settings(*QUICK, *WINDOW, f"pretrain.encoder={NAME}")
    run = run_of(pretrain, "--data", str(folder / "data" / "model_ii"), *words)
    assert_recorded(run)
    assert run.initial_encoder.read_bytes() == CARD.with_name("encoder.keras").read_bytes()


def test_a_fine_tuning_from_the_hub_keeps_the_commit(folder, hub, monkeypatch):
    monkeypatch.chdir(folder)
    commit = hub.commit_folder("lab/lenses", CARD.parent, "v1")
    words = ["--run-dir", "from_hub", "--encoder", "hf://lab/lenses", "--freeze", *settings(*QUICK)]
    finetune.main(words)
    run, name = Run(Path("from_hub")), f"hf://lab/lenses@{commit}/encoder.keras"
    assert run.load_config().finetune.encoder == run.facts()["encoder"]["path"] == name
    assert run.facts()["encoder"]["sha256"] == card_head(CARD)["sha256"]["encoder.keras"]
    assert run.load_config().data.image_size == 32
    published = pd.read_csv(CARD.with_name("images.csv"))["content"]
    assert set(published) <= set(read_images(run)["content"])

    finetune.main([*words[:3], f"hf://lab/lenses@{commit}/encoder.keras", *words[4:]])  # finished
    hub.commit("lab/lenses", {"encoder.keras": b"other"})
    with pytest.raises(RequestError, match=re.escape(f"finetune.encoder {name}")):
        finetune.main(words)


def test_a_pretraining_from_the_hub_keeps_the_commit(hub):
    commit = hub.commit_folder("lab/lenses", CARD.parent)
    config = load_config("contrastive", ["pretrain.encoder=hf://lab/lenses"])
    config = pretrain.with_pinned_encoder(config)
    assert config.pretrain.encoder == f"hf://lab/lenses@{commit}/encoder.keras"
    published = CARD.with_name("encoder.keras")
    assert initial_file(config, None).read_bytes() == published.read_bytes()


def test_a_configuration_of_the_hub_names_no_place_of_this_machine(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "repository").mkdir()
    text = CARD.with_name("config.yaml").read_text()
    text = re.sub(r"( path| cache): .*", r"\1: /elsewhere", text)
    (tmp_path / "repository" / "config.yaml").write_text(text)
    shutil.copy(CARD.with_name("encoder.keras"), "repository")
    hub.commit_folder("lab/lenses", tmp_path / "repository")
    (tmp_path / "mine").mkdir()
    words = ["--encoder", "hf://lab/lenses", "--data", "mine", "--config", "finetune"]
    config = finetune.resolve_config(finetune.build_parser().parse_args(words))
    assert config.data.image_size == 32
    assert "/elsewhere" in text
    assert "/elsewhere" not in str(config)

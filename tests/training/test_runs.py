"""The run folder: what is written before anything happens, and how runs are found again."""

import hashlib
import json
import os
import re

import pytest

from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError
from deeplens_tf.training.runs import (
    ENCODER,
    MODEL,
    Run,
    create_run,
    encoder_origin,
    newest_run,
    run_of,
)


@pytest.fixture
def config():
    return load_config("defaults", ["seed=5", "train.epochs=3", "augment.views=[rotation]"])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_product(folder, product, time):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / product).write_bytes(b"weights")
    os.utime(folder / product, (time, time))


def test_a_new_run_has_a_complete_configuration(config, tmp_path):
    run = create_run("pretrain", "contrastive", config, str(tmp_path / "a" / "b"), {})
    assert run.folder == tmp_path / "a" / "b"
    assert run.load_config() == config
    assert load_config(str(run.config)) == config


def test_a_new_run_says_what_it_depends_on(config, tmp_path):
    facts = {"dataset_fingerprint": "f00", "labels_used": 3}
    run = create_run("pretrain", "contrastive", config, str(tmp_path / "run"), facts)
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["dataset_fingerprint"] == "f00"
    assert environment["labels_used"] == 3
    assert environment["packages"]["tensorflow"].startswith("2.")
    assert environment["packages"]["keras"].startswith("3.")
    assert environment["devices"]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|None", str(environment["git_revision"]))


@pytest.mark.parametrize("name", ["contrastive", "some/where/contrastive.yaml"])
def test_a_run_without_a_folder_is_named_for_stage_configuration_and_time(config, elsewhere, name):
    run = create_run("pretrain", name, config, None, {})
    assert re.fullmatch(r"runs/pretrain-contrastive-\d{8}-\d{6}", str(run.folder))
    assert (elsewhere / run.folder / "config.yaml").is_file()


@pytest.mark.parametrize("make", ["a file in it", "a file"])
def test_a_folder_in_use_is_refused_and_left_alone(config, tmp_path, make):
    folder = tmp_path / "run"
    if make == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match="run is already in use: give --run-dir a new folder"):
        create_run("pretrain", "contrastive", config, str(folder), {})
    assert (folder if make == "a file" else folder / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.rglob("*"))) == (1 if make == "a file" else 2)


def test_an_empty_folder_may_become_a_run(config, tmp_path):
    assert create_run("pretrain", "c", config, str(tmp_path), {}).config.is_file()


def test_the_newest_run_is_the_one_with_the_newest_product(elsewhere):
    assert newest_run(ENCODER) is None
    make_product(elsewhere / "runs" / "z", ENCODER, 100)
    make_product(elsewhere / "runs" / "a", ENCODER, 300)
    make_product(elsewhere / "runs" / "m", ENCODER, 200)
    make_product(elsewhere / "runs" / "z", MODEL, 400)
    (elsewhere / "runs" / "unfinished").mkdir()
    assert newest_run(ENCODER).folder.name == "a"
    assert newest_run(MODEL).folder.name == "z"


def test_the_run_of_a_folder_or_of_a_file_in_it(config, tmp_path):
    run = create_run("pretrain", "c", config, str(tmp_path / "run"), {})
    assert run_of(run.folder) == run
    assert run_of(run.encoder) == run
    assert run_of(tmp_path) is None
    assert run_of(tmp_path / "stray.keras") is None


def test_a_folder_without_a_configuration_is_no_run(tmp_path):
    with pytest.raises(RequestError, match=r"is no run folder: it has no config\.yaml"):
        Run(tmp_path).load_config()


def test_the_origin_of_an_encoder_is_its_digest_and_its_runs_settings(config, tmp_path):
    run = create_run("pretrain", "c", config, str(tmp_path / "run"), {})
    run.encoder.write_bytes(b"weights")
    expected = {
        "sha256": hashlib.sha256(b"weights").hexdigest(),
        "method": "contrastive",
        "pretexts": ["rotation"],
        "epochs": 3,
        "seed": 5,
    }
    for path in (run.folder, run.encoder):
        assert encoder_origin(str(path)) == {"path": str(path), **expected}


def test_the_origin_of_a_stray_file_is_its_digest_alone(tmp_path):
    (tmp_path / "stray.keras").write_bytes(b"x")
    origin = encoder_origin(str(tmp_path / "stray.keras"))
    assert origin["method"] == "unknown"
    assert origin["sha256"] == hashlib.sha256(b"x").hexdigest()
    assert encoder_origin("none") == {"method": None}

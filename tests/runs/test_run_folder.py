"""Run folders: what a new one contains, and how runs are found."""

import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError
from deeplens_tf.files.products import ENCODER, MODEL
from deeplens_tf.runs.new_run import create_run
from deeplens_tf.runs.provenance import encoder_origin
from deeplens_tf.runs.run_folder import Run, newest_run, run_of


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


def test_a_new_run_records_what_its_result_depends_on(config, tmp_path):
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
def test_a_run_without_a_folder_is_named_after_stage_configuration_and_time(
    config, elsewhere, name
):
    run = create_run("pretrain", name, config, None, {})
    assert re.fullmatch(r"runs/pretrain-contrastive-\d{8}-\d{6}", str(run.folder))
    assert (elsewhere / run.folder / "config.yaml").is_file()


@pytest.mark.parametrize("make", ["a file in it", "a file"])
def test_a_folder_in_use_is_refused_and_unchanged(config, tmp_path, make):
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


def test_the_newest_run_of_earlier_versions_is_the_one_with_the_newest_product(elsewhere):
    assert newest_run(ENCODER) is None
    make_product(elsewhere / "runs" / "z", ENCODER, 100)
    make_product(elsewhere / "runs" / "a", ENCODER, 300)
    make_product(elsewhere / "runs" / "m", ENCODER, 200)
    make_product(elsewhere / "runs" / "z", MODEL, 400)
    (elsewhere / "runs" / "unfinished").mkdir()
    assert newest_run(ENCODER).folder.name == "a"
    assert newest_run(MODEL).folder.name == "z"


def started(name, time, product_time):
    """A run that recorded when it started, or one of an earlier version for None."""
    folder = Path("runs") / name
    make_product(folder, ENCODER, product_time)
    if time is not None:
        (folder / "environment.json").write_text(json.dumps({"started": time}))


def test_a_new_run_records_when_it_started_and_where_its_data_are(config, elsewhere):
    before = datetime.now(UTC)
    facts = create_run("pretrain", "c", config, "run", {}).facts()
    assert before <= datetime.fromisoformat(facts["started"]) <= datetime.now(UTC)
    assert facts["data_path"] == str(elsewhere / "data" / "model_ii")


@pytest.mark.parametrize("product_times", [(100, 200, 300), (300, 200, 100), (50, 50, 50)])
def test_a_copy_that_changes_the_times_of_files_does_not_change_the_newest_run(
    elsewhere, product_times
):
    times = ("2026-03-01T00:00:00+00:00", "2026-03-01T01:30:00+02:00", "2026-02-28T00:00:00+00:00")
    for name, time, product_time in zip("abc", times, product_times, strict=True):
        started(name, time, product_time)
    assert newest_run(ENCODER).folder.name == "a"  # b started at 23:30 UTC, the day before


def test_runs_of_earlier_versions_are_ordered_by_the_time_in_their_names(elsewhere):
    started("pretrain-byol-20260101-120000", None, 900)
    started("pretrain-byol-20260101-120000-2", None, 100)
    started("pretrain-twin-20250101-120000", None, 999)
    assert newest_run(ENCODER).folder.name == "pretrain-byol-20260101-120000-2"
    started("mine", "2026-06-01T00:00:00", 1)
    assert newest_run(ENCODER).folder.name == "mine"


@pytest.mark.parametrize("time", ["yesterday", 3, None, ["x"], "9999-99-99"])
def test_a_start_that_is_no_time_is_passed_over(elsewhere, time):
    started("a", time, 100)
    started("b", time, 200)
    assert newest_run(ENCODER).folder.name == "b"


def test_a_run_is_found_by_its_folder_or_a_file_in_it(config, tmp_path):
    run = create_run("pretrain", "c", config, str(tmp_path / "run"), {})
    assert run_of(run.folder) == run
    assert run_of(run.encoder) == run
    assert run_of(tmp_path) is None
    assert run_of(tmp_path / "stray.keras") is None


def test_a_folder_without_a_configuration_is_not_a_run(tmp_path):
    with pytest.raises(RequestError, match=r"not a run folder: it has no config\.yaml"):
        Run(tmp_path).load_config()


def digest(content):
    return hashlib.sha256(content).hexdigest()


def finetuning(folder, encoder, config):
    run = create_run("finetune", "f", config, str(folder), {"encoder": encoder_origin(encoder)})
    run.model.write_bytes(b"with a head")
    return run


@pytest.fixture
def pretraining(config, tmp_path):
    facts = {"dataset_fingerprint": "f00"}
    run = create_run("pretrain", "c", config, str(tmp_path / "run"), facts)
    run.encoder.write_bytes(b"weights")
    return run


def test_the_origin_of_an_encoder_has_its_digest_and_the_settings_of_its_run(pretraining):
    for path in (pretraining.folder, pretraining.encoder):
        origin = encoder_origin(str(path))
        settings = origin.pop("settings")
        assert origin == {
            "path": str(path),
            "sha256": digest(b"weights"),
            "method": "contrastive",
            "pretexts": ["rotation"],
            "epochs": 3,
            "seed": 5,
        }
        assert (settings["train.epochs"], settings["data"]) == (3, "f00")


def test_the_origin_of_a_fine_tuned_encoder_contains_that_of_the_pretrained_one(
    pretraining, config, tmp_path
):
    tuned = finetuning(tmp_path / "tuned", str(pretraining.folder), config)
    origin = encoder_origin(str(tuned.folder))
    assert (origin["method"], origin["pretexts"]) == ("contrastive", ["rotation"])
    assert origin["supervised"] is True
    assert origin["sha256"] == digest(b"with a head")
    assert origin["before"] == encoder_origin(str(pretraining.folder))


def test_a_network_trained_from_scratch_has_no_pretraining_method(config, tmp_path):
    baseline = finetuning(tmp_path / "baseline", "none", config)
    for path in (baseline.folder, baseline.model):
        origin = encoder_origin(str(path))
        assert (origin["method"], origin["supervised"]) == (None, True)
        assert origin["sha256"] == digest(b"with a head")
    baseline.model.write_bytes(b"trained again")
    assert encoder_origin(str(baseline.folder))["sha256"] == digest(b"trained again")


def test_the_origin_of_a_file_without_a_run_is_its_digest(tmp_path):
    (tmp_path / "stray.keras").write_bytes(b"x")
    origin = encoder_origin(str(tmp_path / "stray.keras"))
    assert origin["method"] == "unknown"
    assert origin["sha256"] == digest(b"x")
    assert encoder_origin("none") == {"method": None}


def test_a_run_without_facts_has_an_unknown_method(pretraining):
    pretraining.environment.unlink()
    assert encoder_origin(str(pretraining.folder))["method"] == "unknown"


def test_a_missing_encoder_has_no_origin(tmp_path):
    with pytest.raises(RequestError, match="no such file or run folder"):
        encoder_origin(str(tmp_path / "none.keras"))

"""Which run is resumed, whether it may be, and with what configuration."""

import json
import os

import pytest

from deeplens_tf import finetune, pretrain
from deeplens_tf.config import load_config, save_config
from deeplens_tf.errors import DataError, RequestError, ResourceError
from deeplens_tf.runs.checkpoints import CHECKPOINT_FORMAT
from deeplens_tf.runs.lock import Holder, hold
from deeplens_tf.runs.provenance import thread_count
from deeplens_tf.runs.resuming import (
    OpenedRun,
    claim_run,
    finish,
    open_run,
    point_to_run,
    report_if_finished,
)
from deeplens_tf.runs.run_folder import Run

FACTS = {
    "split_contents": {"train": "a", "validation": "b", "test": "c"},
    "split_orders": {"train": "d", "validation": "e", "test": "f"},
}


def config_of(*overrides):
    sizes = ("data.image_size=64", "data.fit=resize", "data.validation_fraction=0.1")
    return load_config("defaults", ["train.epochs=5", "train.batch_size=128", *sizes, *overrides])


def resumed_config(*overrides):
    """Return the configuration with which a pretraining in runs/it is resumed."""
    opened = open_run("pretrain", config_of(*overrides), "runs/it")
    assert not opened.finished
    return opened.config


@pytest.fixture
def run(tmp_path, monkeypatch):
    """An interrupted run."""
    monkeypatch.chdir(tmp_path)
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS) as claimed:
        pass
    return claimed


def test_a_new_run_and_one_killed_while_starting_take_the_requested_configuration(tmp_path):
    config = config_of()
    for folder in (None, str(tmp_path / "new"), str(tmp_path)):
        assert open_run("pretrain", config, folder) == OpenedRun(config, finished=False)
    for name in (".lock", "environment.json", ".config.yaml.12.partial"):
        (tmp_path / name).touch()
    with claim_run("pretrain", "contrastive", config, str(tmp_path), FACTS) as run:
        assert run.load_config() == config
        assert run.facts()["split_contents"] == FACTS["split_contents"]
        assert run.facts()["stage"] == "pretrain"


def test_a_run_is_resumed_with_its_own_configuration(run):
    assert resumed_config() == config_of()
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS) as again:
        assert again == run
    assert run.load_config() == config_of()


def test_a_batch_size_that_is_left_open_is_that_of_the_run(run):
    assert resumed_config("train.batch_size=null") == config_of()


def test_a_run_without_class_weights_does_not_get_some_halfway(run):
    facts = {**FACTS, "class_weights": [25.0, 0.51]}
    with (
        pytest.raises(RequestError, match="earlier version, without the class weights"),
        claim_run("pretrain", "contrastive", config_of(), "runs/it", facts),
    ):
        pass


@pytest.mark.parametrize(
    ("overrides", "differences"),
    [
        (["seed=1"], ["seed 0 (requested: 1)"]),
        (
            ["train.batch_size=3", "augment.views=[flip]"],
            [
                "augment.views ['flip', 'rot90'] (requested: ['flip'])",
                "train.batch_size 128 (requested: 3)",
            ],
        ),
        (["train.epochs=4"], ["train.epochs 5 (requested: 4)"]),
        (["encoder.dropout=0.1"], ["encoder.dropout null (requested: 0.1)"]),
        (["optimizer.schedule_epochs=9"], ["optimizer.schedule_epochs 5 (requested: 9)"]),
    ],
)
def test_another_configuration_is_refused_by_the_keys_that_differ(run, overrides, differences):
    with pytest.raises(RequestError) as caught:
        resumed_config(*overrides)
    listed = ", ".join(differences)
    assert f"another configuration, with {listed}: repeat its command, or give" in str(caught.value)


def test_a_configuration_that_changes_before_the_lock_is_held_is_refused(run):
    config = resumed_config()
    save_config(config_of("seed=1"), run.config)  # as another process would in the meantime
    with (
        pytest.raises(RequestError, match=r"with seed 1 \(requested: 0\)"),
        claim_run("pretrain", "contrastive", config, "runs/it", FACTS),
    ):
        pytest.fail("claimed")
    assert run.load_config() == config_of("seed=1")


def test_checkpoints_may_be_kept_differently(run):
    config = resumed_config("checkpoint.every_steps=7")
    with claim_run("pretrain", "contrastive", config, "runs/it", FACTS):
        pass
    assert run.load_config().checkpoint.every_steps == 7


def test_images_may_be_held_in_memory_or_not(run):
    config = resumed_config("data.in_memory=false")
    with claim_run("pretrain", "contrastive", config, "runs/it", FACTS):
        pass
    assert run.load_config().data.in_memory is False


def test_more_epochs_keep_the_schedule_of_the_first_command(run, capsys):
    config = resumed_config("train.epochs=8")
    assert (config.train.epochs, config.schedule_epochs) == (8, 5)
    assert open_run("pretrain", config, "runs/it").config == config
    finish(run, config_of(), run.encoder)
    with claim_run("pretrain", "contrastive", config, "runs/it", FACTS):
        assert run.load_config() == config
        assert run.facts()["finished"] is None
    assert "the schedule has 5 epochs" in capsys.readouterr().out
    # The command with more epochs again, then with even more, then the first one.
    assert resumed_config("train.epochs=8") == config
    assert resumed_config("train.epochs=9").schedule_epochs == 5
    with pytest.raises(RequestError, match=r"train\.epochs 8 \(requested: 5\)"):
        resumed_config()


def test_a_schedule_is_not_stretched_by_a_run_that_another_process_started(run):
    """Opened while there was no run, and claimed when another process had started one."""
    with (
        pytest.raises(RequestError, match=r"schedule_epochs 5 \(requested: 8\)"),
        claim_run("pretrain", "contrastive", config_of("train.epochs=8"), "runs/it", FACTS),
    ):
        pytest.fail("claimed")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_other_images_are_refused(run, split):
    other = FACTS | {"split_contents": FACTS["split_contents"] | {split: "x"}}
    with (
        pytest.raises(DataError, match=f"started with other images, its {split} split"),
        claim_run("pretrain", "contrastive", config_of(), "runs/it", other),
    ):
        pytest.fail("claimed")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_same_images_in_another_order_are_refused(run, split):
    other = FACTS | {"split_orders": FACTS["split_orders"] | {split: "x"}}
    with (
        pytest.raises(DataError, match=f"started with its {split} images in another order"),
        claim_run("pretrain", "contrastive", config_of(), "runs/it", other),
    ):
        pytest.fail("claimed")


def test_other_values_of_the_target_are_refused(run):
    values = {"train": "g", "validation": "h"}
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS):
        pass  # a run of an earlier version, which did not record them
    run.add_facts({"target_values": values})
    for split in values:
        other = FACTS | {"target_values": values | {split: "x"}}
        with (
            pytest.raises(DataError, match=rf"other values of finetune\.target for its {split} im"),
            claim_run("pretrain", "contrastive", config_of(), "runs/it", other),
        ):
            pytest.fail("claimed")
    same = FACTS | {"target_values": values}
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", same):
        pass


def test_images_with_another_margin_are_refused(run):
    run.add_facts({"image_margin": 0})
    with (
        pytest.raises(DataError, match="images with a margin of 0 pixels, now 7"),
        claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS | {"image_margin": 7}),
    ):
        pytest.fail("claimed")
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS | {"image_margin": 0}):
        pass


def test_a_run_without_a_record_of_the_order_is_resumed(run):
    facts = json.loads(run.environment.read_text())
    del facts["split_orders"]
    run.environment.write_text(json.dumps(facts))
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS):
        pass


def test_a_test_split_may_be_added_later(run):
    other = {fact: splits | {"test": "x"} for fact, splits in FACTS.items()}
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", other):
        pass


def test_another_encoder_is_refused(tmp_path):
    facts = FACTS | {"encoder": {"path": "e.keras", "sha256": "1"}}
    with claim_run("finetune", "finetune", config_of(), str(tmp_path), facts):
        pass
    facts = FACTS | {"encoder": {"path": "e.keras", "sha256": "2"}}
    with (
        pytest.raises(RequestError, match=r"started with another encoder than e\.keras is now"),
        claim_run("finetune", "finetune", config_of(), str(tmp_path), facts),
    ):
        pytest.fail("claimed")


def test_a_run_of_another_stage_and_one_without_checkpoints_are_refused(run):
    with pytest.raises(RequestError, match="contains a pretrain run: give --run-dir a new folder"):
        open_run("finetune", config_of(), "runs/it")
    run.environment.write_text("{}")
    with pytest.raises(RequestError, match="already in use, by a run without checkpoints"):
        resumed_config()


def test_a_run_with_checkpoints_of_another_format_is_refused(run):
    run.add_facts({"checkpoint_format": CHECKPOINT_FORMAT + 1})
    formats = f"of format {CHECKPOINT_FORMAT + 1}, .* reads format {CHECKPOINT_FORMAT}"
    with pytest.raises(RequestError, match=f"{formats}: resume with the version that started it"):
        resumed_config()


def test_a_finished_run_is_reported(run, capsys):
    resumed_config()
    finish(run, config_of(), run.encoder)
    resumed_config()  # its product was removed
    assert capsys.readouterr().out == ""
    run.encoder.touch()
    assert open_run("pretrain", config_of(), "runs/it") == OpenedRun(config_of(), finished=True)
    report = "runs/it/encoder.keras: finished, 5 epochs; nothing to do\n"
    assert capsys.readouterr().out == report
    assert report_if_finished(run, config_of())
    assert capsys.readouterr().out == report
    resumed_config("train.epochs=6")


def test_drafts_of_a_killed_run_are_removed(run):
    for name in (".partial-encoder.keras", ".history.csv.12.partial"):
        (run.folder / name).touch()
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS):
        names = {path.name for path in run.folder.iterdir()}
    assert names == {"config.yaml", "environment.json", ".lock"}


def arguments(*argv):
    return pretrain.build_parser().parse_args(["--resume", *argv])


def test_resume_finds_the_newest_unfinished_run_of_its_stage(run, capsys):
    for i, (name, stage) in enumerate(
        [("older", "pretrain"), ("done", "pretrain"), ("other", "finetune")]
    ):
        with claim_run(stage, stage, config_of(), f"runs/{name}", FACTS) as made:
            made.add_facts({"started": f"2026-01-0{i + 1}T00:00:00+00:00"})
            os.utime(made.config, (2e9, 2e9))  # as a copy of the folder may have it
    finish(Run(run.folder.parent / "done"), config_of(), run.encoder)
    given = arguments()
    point_to_run(given, "pretrain", pretrain.PRETRAIN_CONFIG)
    assert (given.run_dir, given.config) == ("runs/it", "runs/it/config.yaml")
    assert capsys.readouterr().out == "run: runs/it, the newest pretrain run to resume\n"
    finish(run, config_of(), run.encoder)
    given = arguments()
    point_to_run(given, "pretrain", pretrain.PRETRAIN_CONFIG)
    assert given.run_dir == "runs/older"


def test_resume_ignores_runs_that_cannot_be_resumed(run):
    for name, form in (("before", None), ("later", CHECKPOINT_FORMAT + 1)):
        with claim_run("pretrain", "pretrain", config_of(), f"runs/{name}", FACTS) as made:
            made.add_facts({"checkpoint_format": form})
    given = arguments()
    point_to_run(given, "pretrain", pretrain.PRETRAIN_CONFIG)
    assert given.run_dir == "runs/it"


def test_resume_uses_the_configuration_of_the_run_unless_another_is_given(run):
    given = arguments("--run-dir", "runs/it")
    point_to_run(given, "pretrain", pretrain.PRETRAIN_CONFIG)
    assert load_config(given.config) == config_of()
    given = arguments("--run-dir", "runs/it", "--config", "byol")
    point_to_run(given, "pretrain", pretrain.PRETRAIN_CONFIG)
    assert given.config == "byol"
    # The default by name is another one too: the stage then compares it with the run's.
    given = arguments("--run-dir", "runs/it", "--config", pretrain.PRETRAIN_CONFIG)
    point_to_run(given, "pretrain", pretrain.PRETRAIN_CONFIG)
    assert given.config == pretrain.PRETRAIN_CONFIG


@pytest.mark.parametrize("stage", [pretrain, finetune])
def test_resume_without_a_run_is_a_wrong_request(stage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="to resume: start one, or give --run-dir"):
        stage.main(["--resume"])
    with pytest.raises(RequestError, match="nowhere: no run to resume in it"):
        stage.main(["--resume", "--run-dir", "nowhere"])
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_ends_before_the_data_is_checked(run, capsys):
    finish(run, config_of(), run.encoder)
    run.encoder.touch()
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    pretrain.main(["--resume", "--run-dir", "runs/it"])  # there is no data
    assert "finished, 5 epochs; nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}


def test_a_run_in_use_is_refused_before_the_data_is_checked(run):
    (run.folder / ".lock").write_text(json.dumps(vars(Holder.this_process())))
    with pytest.raises(ResourceError, match=f"runs/it is in use by process {os.getpid()} on"):
        pretrain.main(["--resume", "--run-dir", "runs/it"])


def test_a_run_is_held_while_it_is_claimed(run):
    with (
        claim_run("pretrain", "c", config_of(), "runs/it", FACTS),
        pytest.raises(ResourceError, match="in use by process"),
        hold(run.folder),
    ):
        pytest.fail("held twice")


def test_another_number_of_threads_is_reported(run, capsys, monkeypatch):
    before = run.facts()["threads"]
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS):
        assert capsys.readouterr().out == ""
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", str(before + 1))
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS):
        line = f"runs/it started with {before} threads and goes on with {before + 1}: "
        assert capsys.readouterr().out.startswith(line)


def test_a_run_that_did_not_record_its_threads_is_resumed_without_a_word(run, capsys):
    run.add_facts({"threads": None})
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS):
        assert capsys.readouterr().out == ""


def test_the_threads_are_the_cores_that_a_process_may_use(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setattr("deeplens_tf.cores.os.sched_getaffinity", lambda pid: {3, 5, 6})
    assert thread_count() == 3
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    assert thread_count() == 2

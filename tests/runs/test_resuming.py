"""Which run goes on, whether it may, and with what configuration."""

import json
import os

import pytest

from deeplens_tf import finetune, pretrain
from deeplens_tf.config import load_config, save_config
from deeplens_tf.errors import DataError, RequestError, ResourceError
from deeplens_tf.runs.checkpoints import FORMAT
from deeplens_tf.runs.lock import Holder, hold
from deeplens_tf.runs.resuming import claim_run, continued, finish, is_finished, point_to_run
from deeplens_tf.runs.run_folder import Run

FACTS = {
    "split_contents": {"train": "a", "validation": "b", "test": "c"},
    "split_orders": {"train": "d", "validation": "e", "test": "f"},
}


def config_of(*words):
    return load_config("defaults", ["train.epochs=5", *words])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that was broken off."""
    monkeypatch.chdir(tmp_path)
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS) as claimed:
        pass
    return claimed


def test_a_new_run_and_one_that_died_at_its_start_take_what_is_asked(tmp_path):
    config = config_of()
    assert continued("pretrain", config, None) is config
    assert continued("pretrain", config, str(tmp_path / "new")) is config
    for name in (".lock", "environment.json", ".config.yaml.12.partial"):
        (tmp_path / name).touch()
    with claim_run("pretrain", "contrastive", config, str(tmp_path), FACTS) as run:
        assert run.load_config() == config
        assert run.facts()["split_contents"] == FACTS["split_contents"]
        assert run.facts()["stage"] == "pretrain"


def test_a_run_goes_on_with_its_own_configuration(run):
    assert continued("pretrain", config_of(), "runs/it") == config_of()
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS) as again:
        assert again == run
    assert run.load_config() == config_of()


@pytest.mark.parametrize(
    ("words", "differences"),
    [
        (["seed=1"], ["seed 0 there, 1 asked for"]),
        (
            ["train.batch_size=3", "augment.views=[flip]"],
            [
                "augment.views ['flip', 'rot90'] there, ['flip'] asked for",
                "train.batch_size 128 there, 3 asked for",
            ],
        ),
        (["train.epochs=4"], ["train.epochs 5 there, 4 asked for"]),
        (["encoder.dropout=0.1"], ["encoder.dropout null there, 0.1 asked for"]),
        (
            ["optimizer.schedule_epochs=9"],
            ["optimizer.schedule_epochs null there, 9 asked for"],
        ),
    ],
)
def test_another_configuration_is_refused_by_the_keys_that_differ(run, words, differences):
    with pytest.raises(RequestError) as caught:
        continued("pretrain", config_of(*words), "runs/it")
    assert f"by {', '.join(differences)}: repeat its command, or give" in str(caught.value)


def test_a_configuration_that_changes_before_the_lock_is_held_is_refused(run):
    config = continued("pretrain", config_of(), "runs/it")
    save_config(config_of("seed=1"), run.config)  # as of another process that came in between
    with (
        pytest.raises(RequestError, match="by seed 1 there, 0 asked for"),
        claim_run("pretrain", "contrastive", config, "runs/it", FACTS),
    ):
        pytest.fail("claimed")
    assert run.load_config() == config_of("seed=1")


def test_checkpoints_may_be_kept_differently(run):
    config = continued("pretrain", config_of("checkpoint.every_steps=7"), "runs/it")
    with claim_run("pretrain", "contrastive", config, "runs/it", FACTS):
        pass
    assert run.load_config().checkpoint.every_steps == 7


def test_more_epochs_keep_the_schedule_of_the_first_command(run, capsys):
    config = continued("pretrain", config_of("train.epochs=8"), "runs/it")
    assert (config.train.epochs, config.schedule_epochs) == (8, 5)
    assert continued("pretrain", config, "runs/it") == config
    finish(run, config_of(), run.encoder)
    with claim_run("pretrain", "contrastive", config, "runs/it", FACTS):
        assert run.load_config() == config
        assert run.facts()["finished"] is None
    assert "the schedule keeps its 5 epochs" in capsys.readouterr().out
    # The raised command again, then once more raised, then the first one.
    assert continued("pretrain", config_of("train.epochs=8"), "runs/it") == config
    assert continued("pretrain", config_of("train.epochs=9"), "runs/it").schedule_epochs == 5
    with pytest.raises(RequestError, match=r"train\.epochs 8 there, 5 asked for"):
        continued("pretrain", config_of(), "runs/it")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_other_images_are_refused(run, split):
    other = FACTS | {"split_contents": FACTS["split_contents"] | {split: "x"}}
    with (
        pytest.raises(DataError, match=f"began with other images, its {split} split"),
        claim_run("pretrain", "contrastive", config_of(), "runs/it", other),
    ):
        pytest.fail("claimed")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_same_images_in_another_order_are_refused(run, split):
    other = FACTS | {"split_orders": FACTS["split_orders"] | {split: "x"}}
    with (
        pytest.raises(DataError, match=f"began with its {split} images in another order"),
        claim_run("pretrain", "contrastive", config_of(), "runs/it", other),
    ):
        pytest.fail("claimed")


def test_a_run_of_before_the_order_was_recorded_goes_on(run):
    facts = json.loads(run.environment.read_text())
    del facts["split_orders"]
    run.environment.write_text(json.dumps(facts))
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS):
        pass


def test_a_test_split_may_come_later(run):
    other = {fact: splits | {"test": "x"} for fact, splits in FACTS.items()}
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", other):
        pass


def test_another_encoder_is_refused(tmp_path):
    facts = FACTS | {"encoder": {"path": "e.keras", "sha256": "1"}}
    with claim_run("finetune", "finetune", config_of(), str(tmp_path), facts):
        pass
    facts = FACTS | {"encoder": {"path": "e.keras", "sha256": "2"}}
    with (
        pytest.raises(RequestError, match=r"began with another encoder than e\.keras is now"),
        claim_run("finetune", "finetune", config_of(), str(tmp_path), facts),
    ):
        pytest.fail("claimed")


def test_a_run_of_another_stage_and_one_without_checkpoints_are_left_alone(run):
    with pytest.raises(RequestError, match="holds a pretrain run: give --run-dir a new folder"):
        continued("finetune", config_of(), "runs/it")
    run.environment.write_text("{}")
    with pytest.raises(RequestError, match="already in use, by a run without checkpoints"):
        continued("pretrain", config_of(), "runs/it")


def test_a_run_with_checkpoints_of_another_format_is_left_alone(run):
    run.add_facts({"checkpoint_format": FORMAT + 1})
    with pytest.raises(
        RequestError, match=f"of format {FORMAT + 1}, and this version reads format {FORMAT}: go on"
    ):
        continued("pretrain", config_of(), "runs/it")


def test_a_finished_run_says_so(run, capsys):
    assert not is_finished(config_of(), "runs/it")
    assert not is_finished(config_of(), None)
    finish(run, config_of(), run.encoder)
    assert not is_finished(config_of(), "runs/it")  # the product was removed
    run.encoder.touch()
    assert is_finished(config_of(), "runs/it")
    assert capsys.readouterr().out == ("runs/it/encoder.keras: finished, 5 epochs; nothing to do\n")
    assert not is_finished(config_of("train.epochs=6"), "runs/it")


def test_what_a_killed_run_left_half_written_is_swept(run):
    for name in (".partial-encoder.keras", ".history.csv.12.partial"):
        (run.folder / name).touch()
    with claim_run("pretrain", "contrastive", config_of(), "runs/it", FACTS):
        names = {path.name for path in run.folder.iterdir()}
    assert names == {"config.yaml", "environment.json", ".lock"}


def arguments(*words):
    return pretrain.parser().parse_args(["--resume", *words])


def test_resume_finds_the_newest_unfinished_run_of_its_stage(run, capsys):
    for i, (name, stage) in enumerate(
        [("older", "pretrain"), ("done", "pretrain"), ("other", "finetune")]
    ):
        with claim_run(stage, stage, config_of(), f"runs/{name}", FACTS) as made:
            os.utime(made.config, (1000 + i, 1000 + i))
    finish(Run(run.folder.parent / "done"), config_of(), run.encoder)
    given = arguments()
    point_to_run(given, "pretrain", pretrain.CONFIG)
    assert (given.run_dir, given.config) == ("runs/it", "runs/it/config.yaml")
    assert capsys.readouterr().out == "run: runs/it, the newest pretrain run to go on with\n"
    finish(run, config_of(), run.encoder)
    given = arguments()
    point_to_run(given, "pretrain", pretrain.CONFIG)
    assert given.run_dir == "runs/older"


def test_resume_passes_over_runs_that_it_cannot_go_on_with(run):
    for name, form in (("before", None), ("later", FORMAT + 1)):
        with claim_run("pretrain", "pretrain", config_of(), f"runs/{name}", FACTS) as made:
            made.add_facts({"checkpoint_format": form})
            os.utime(made.config, (2e9, 2e9))
    given = arguments()
    point_to_run(given, "pretrain", pretrain.CONFIG)
    assert given.run_dir == "runs/it"


def test_resume_takes_the_runs_own_configuration_unless_told_otherwise(run):
    given = arguments("--run-dir", "runs/it")
    point_to_run(given, "pretrain", pretrain.CONFIG)
    assert load_config(given.config) == config_of()
    given = arguments("--run-dir", "runs/it", "--config", "byol")
    point_to_run(given, "pretrain", pretrain.CONFIG)
    assert given.config == "byol"


@pytest.mark.parametrize("stage", [pretrain, finetune])
def test_resume_without_a_run_is_a_wrong_request(stage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="to resume: start one, or give --run-dir"):
        stage.main(["--resume"])
    with pytest.raises(RequestError, match="nowhere: no run to resume in it"):
        stage.main(["--resume", "--run-dir", "nowhere"])
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_ends_before_anything_is_looked_at(run, capsys):
    finish(run, config_of(), run.encoder)
    run.encoder.touch()
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    pretrain.main(["--resume", "--run-dir", "runs/it"])  # there is no data
    assert "finished, 5 epochs; nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}


def test_a_run_in_use_is_refused_before_anything_is_looked_at(run):
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

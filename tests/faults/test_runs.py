"""A run folder that is in use, finished, or was started with something else."""

import shutil
import signal

import numpy as np
import pytest

from tests.conftest import write_blobs
from tests.faults.conftest import checkpoints, command, outcome


def one_line(err):
    assert err.startswith("deeplens_tf: ")
    assert err.count("\n") == 1
    return err


def test_a_second_run_in_a_folder_is_refused_and_the_first_continues(
    nursery, options, finished, tmp_path
):
    run = command("finetune", options, tmp_path / "run")
    first = nursery.start(*run)
    first.wait_for((tmp_path / "run" / ".lock").exists)
    code, _, err = nursery.run(*run)
    assert code == 4
    assert f"{tmp_path / 'run'} is in use by process {first.pid} on " in one_line(err)
    assert first.wait() == 0
    assert outcome(tmp_path / "run") == outcome(finished("finetune"))


def test_two_runs_that_start_in_a_new_folder_together(nursery, options, finished, tmp_path):
    run = command("finetune", options, tmp_path / "run")
    both = [nursery.start(*run) for _ in range(2)]
    # Either may be ahead, although the first is forked before the second.
    codes = [child.wait() for child in both]
    assert sorted(codes) == [0, 4]
    one_line(both[codes.index(4)].err)
    assert outcome(tmp_path / "run") == outcome(finished("finetune"))


def test_a_finished_run_reports_it_and_changes_nothing(nursery, options, finished):
    folder = finished("finetune")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}
    for run in (
        command("finetune", options, folder),
        ("finetune", "--resume", "--run-dir", folder),
    ):
        code, out, err = nursery.run(*run)
        assert (code, err) == (0, "")
        assert out.endswith("model.keras: finished, 3 epochs; nothing to do\n")
    after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}
    assert after == before


def test_another_configuration_is_refused_by_its_keys(nursery, options, finished):
    run = command("finetune", options, finished("finetune"), "--set", "seed=3")
    code, _, err = nursery.run(*run)
    assert code == 2
    assert "with seed 0 (requested: 3): repeat its command" in one_line(err)


def test_more_epochs_continue_from_the_end(nursery, options, finished, tmp_path):
    shutil.copytree(finished("finetune"), tmp_path / "run")
    more = ["--set", "train.epochs=4"]
    code, out, _ = nursery.run(*command("finetune", options, tmp_path / "run", *more))
    assert code == 0
    assert "the schedule has 3 epochs" in out
    at_once = [*more, "--set", "optimizer.schedule_epochs=3"]
    assert nursery.run(*command("finetune", options, tmp_path / "at_once", *at_once))[0] == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "at_once")
    history = (tmp_path / "run" / "history.csv").read_text()
    assert history.startswith((finished("finetune") / "history.csv").read_text())


def test_other_images_are_refused(nursery, options, tmp_path):
    data = write_blobs(tmp_path / "images", 20, seed=0)
    options = [*options, "--set", f"data.path={data}"]
    run = command("finetune", options, tmp_path / "run", "--set", "checkpoint.every_steps=1")
    child = nursery.start(*run)
    child.wait_for(lambda: checkpoints(tmp_path / "run"))
    child.send(signal.SIGKILL)
    child.wait()
    np.save(data / "cdm" / "cdm_sim_003.npy", np.random.default_rng(9).random((16, 16)))
    code, _, err = nursery.run(*run)
    assert code == 3
    assert "started with other images" in one_line(err)


@pytest.mark.parametrize("damage", ["truncated", "one bit"])
def test_instead_of_a_damaged_newest_checkpoint_an_earlier_one_is_used(
    damage, nursery, options, finished, tmp_path
):
    run = command("finetune", options, tmp_path / "run", "--set", "checkpoint.every_steps=1")
    child = nursery.start(*run)
    child.wait_for(lambda: len(checkpoints(tmp_path / "run")) > 1)
    child.send(signal.SIGKILL)
    child.wait()
    newest = checkpoints(tmp_path / "run")[-1]
    content = bytearray((newest / "arrays.npz").read_bytes())
    content[len(content) // 2] ^= 16
    (newest / "arrays.npz").write_bytes(content[:-99] if damage == "truncated" else content)
    code, out, err = nursery.run(*run)
    assert code == 0
    assert err.startswith(f"{newest}: damaged, arrays.npz does not match its checksum; trying an")
    assert f"resumed: {newest}" not in out
    assert outcome(tmp_path / "run") == outcome(finished("finetune"))

"""SIGTERM and SIGINT: the step is completed and a checkpoint saved; a second one ends at once."""

import signal
import time

import pytest

from tests.faults.conftest import checkpoints, command, outcome

# A save hangs with half a file written, as with a file server that does not answer.
HANGING_SAVE = """
import time
import deeplens_tf.runs.checkpoints as checkpoints
real, saves = checkpoints._write_json, []
def hang(path, values):
    saves.append(path)
    real(path, values)
    if len(saves) == 3:
        time.sleep(600)
checkpoints._write_json = hang
"""
STOP_IN_SAVE = """
import os, signal
import deeplens_tf.runs.checkpoints as checkpoints
real, sent = checkpoints._write_json, []
def write(path, values):
    if path.name == "state.json" and not sent:
        sent.append(path)
        os.kill(os.getpid(), signal.SIGTERM)
    real(path, values)
checkpoints._write_json = write
"""


@pytest.mark.parametrize(
    ("stage", "signum", "code"),
    [("pretrain", signal.SIGTERM, 143), ("finetune", signal.SIGINT, 130)],
)
def test_a_signal_saves_and_the_same_command_resumes(
    stage, signum, code, nursery, options, finished, tmp_path
):
    run = command(stage, options, tmp_path / "run")
    child = nursery.start(*run)
    child.wait_for((tmp_path / "run" / "history.csv").exists)
    child.send(signum)
    assert child.wait() == code
    saved = checkpoints(tmp_path / "run")[-1]
    assert child.err.splitlines()[-1].startswith(
        f"deeplens_tf: stopped by {signum.name} after saving {saved}; the same command"
    )
    assert len(child.err.splitlines()) == 1
    code, out, err = nursery.run(*run)
    assert (code, err) == (0, "")
    assert f"resumed: {saved}\n" in out
    assert outcome(tmp_path / "run") == outcome(finished(stage))


def test_a_signal_during_a_save_waits_for_it(nursery, options, finished, tmp_path):
    run = command("finetune", options, tmp_path / "run", "--set", "checkpoint.every_steps=4")
    code, _, err = nursery.run(*run, before=STOP_IN_SAVE)
    assert code == 143
    # The step that had started is completed and saved too.
    kept = [path.name for path in checkpoints(tmp_path / "run")]
    assert kept == ["step-000000004", "step-000000005"]
    assert err.startswith("deeplens_tf: stopped by SIGTERM after saving ")
    assert len(err.splitlines()) == 1
    resume = ["--resume", "--run-dir", str(tmp_path / "run")]
    code, out, _ = nursery.run("finetune", *resume, "--set", "checkpoint.every_steps=null")
    assert code == 0
    assert "resumed: " in out
    assert outcome(tmp_path / "run") == outcome(finished("finetune"))


def test_a_second_signal_ends_a_save_that_hangs_and_the_earlier_checkpoint_is_intact(
    nursery, options, finished, tmp_path
):
    run = command("finetune", options, tmp_path / "run", "--set", "checkpoint.every_steps=2")
    child = nursery.start(*run, before=HANGING_SAVE)
    child.wait_for(lambda: any((tmp_path / "run" / "checkpoints").glob(".step-000000004*/state*")))
    child.send(signal.SIGTERM)
    time.sleep(0.8)
    child.send(signal.SIGTERM)
    start = time.monotonic()
    assert child.wait() == 143
    assert time.monotonic() - start < 5
    assert child.err == "deeplens_tf: stopped by a second SIGTERM, at once\n"
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-000000002"]
    code, out, _ = nursery.run(*run)
    assert code == 0
    assert "step-000000002\n" in out
    assert outcome(tmp_path / "run") == outcome(finished("finetune"))
    assert not list((tmp_path / "run").rglob(".*"))

"""Full, read-only and vanishing disks: exit code 4 or 3, one line, and earlier files intact."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.shards import verify_shards
from tests.faults.conftest import checkpoints, command, fill, outcome

FULL = """
import importlib
from pathlib import Path
module = importlib.import_module("deeplens_tf.{module}")
real, calls = module.{function}, []
def broken(*arguments, **options):
    calls.append(arguments)
    if len(calls) == {n}:
        {act}
    return real(*arguments, **options)
module.{function} = broken
"""
FILL = "from tests.faults.conftest import fill; fill(Path({folder!r}), {leave})"


def refused(ended, code=4):
    found, _, err = ended
    assert found == code, err
    assert err.startswith("deeplens_tf: "), err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    ("stage", "module", "function", "n", "leave"),
    [
        ("finetune", "runs.checkpoints", "_write", 2, 20_000),  # while writing the arrays
        ("pretrain", "runs.checkpoints", "_write", 2, 0),  # no file at all
        ("finetune", "training.history_file", "write_whole", 2, 0),
        ("finetune", "training.checkpointer", "arrays_of", 5, 0),  # before TensorBoard writes
        ("finetune", "training.callbacks", "save_model", 2, 10_000),
    ],
)
def test_a_disk_that_fills_up_while_a_run_writes(
    stage, module, function, n, leave, nursery, options, finished, small_disk
):
    run = command(stage, options, small_disk / "run", "--set", "checkpoint.every_steps=2")
    run = (*run, "--set", "checkpoint.keep=1")
    act = FILL.format(folder=str(small_disk), leave=leave)
    before = FULL.format(module=module, function=function, n=n, act=act)
    err = refused(nursery.run(*run, before=before))
    assert "cannot be written: No space left on device" in err
    assert checkpoints(small_disk / "run")
    (small_disk / "ballast").unlink()
    code, out, err = nursery.run(*run)
    assert (code, err) == (0, "")
    assert "resumed: " in out
    assert outcome(small_disk / "run") == outcome(finished(stage))


def test_a_disk_that_is_full_from_the_start(nursery, options, small_disk):
    fill(small_disk, 0)
    refused(nursery.run(*command("finetune", options, small_disk / "run")))
    assert not (small_disk / "run" / "config.yaml").exists()
    (small_disk / "ballast").unlink()
    code, _, err = nursery.run(*command("finetune", options, small_disk / "run"))
    assert (code, err) == (0, "")


@pytest.mark.parametrize("leave", [0, 30_000])
def test_a_disk_that_is_full_when_images_are_prepared(leave, nursery, blobs_folder, small_disk):
    argv = [blobs_folder, "--out", small_disk / "prepared", "--image-size", "16"]
    fill(small_disk, leave)
    refused(nursery.run("prepare", *argv))
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    (small_disk / "ballast").unlink()
    assert nursery.run("prepare", *argv)[0] == 0
    verify_shards(small_disk / "prepared", Manifest.load(small_disk / "prepared"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_disk_that_fills_up_while_images_are_simulated(jobs, nursery, small_disk, tmp_path):
    argv = ["--preset", "model_ii", "--classes", "no_sub", "--count", 40, "--jobs", jobs]
    fill(small_disk, 300_000)  # nine images of 33 KB
    refused(nursery.run("simulate", *argv, "--out", small_disk / "images"))
    images = list((small_disk / "images").rglob("*.npy"))
    assert images
    assert not list((small_disk / "images").rglob("*.partial"))
    assert {path.stat().st_size for path in images} == {128 + 64 * 64 * 8}
    (small_disk / "ballast").unlink()
    assert nursery.run("simulate", *argv, "--out", small_disk / "images")[0] == 0
    assert nursery.run("simulate", *argv, "--out", tmp_path / "complete")[0] == 0
    for path in (tmp_path / "complete").rglob("*.npy"):
        same = small_disk / "images" / path.relative_to(tmp_path / "complete")
        np.testing.assert_array_equal(np.load(same), np.load(path))


@pytest.mark.parametrize("stage", ["finetune", "prepare", "simulate"])
def test_a_read_only_folder(stage, nursery, options, blobs_folder, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    argv = {
        "finetune": command("finetune", options, small_disk / "run")[1:],
        "prepare": [blobs_folder, "--out", small_disk / "prepared", "--image-size", "16"],
        "simulate": ["--preset", "model_ii", "--count", 1, "--out", small_disk / "images"],
    }
    assert str(small_disk) in refused(nursery.run(stage, *argv[stage]))
    assert list(small_disk.iterdir()) == []


VANISH = """
import shutil
from pathlib import Path
import keras
real = keras.Model.reset_metrics
calls = []
def vanish(self):
    calls.append(self)
    if len(calls) == 4:  # after building, an epoch and its validation, in the next epoch
        shard = next(Path({prepared!r}).glob("train-*.tfrecord"))
        {act}
    return real(self)
keras.Model.reset_metrics = vanish
"""


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("shard.unlink()", "missing; prepare the images again"),
        ("shard.write_bytes(shard.read_bytes()[:999])", "changed since it was written"),
    ],
)
def test_images_that_vanish_while_a_run_reads_them(
    act, reason, nursery, options, blobs_folder, tmp_path
):
    prepared = tmp_path / "prepared"
    argv = ["--image-size", "16", "--validation-fraction", "0.25"]
    assert nursery.run("prepare", blobs_folder, "--out", prepared, *argv)[0] == 0
    kept = shutil.copytree(prepared, tmp_path / "kept")
    options = [*options, "--set", f"data.path={prepared}"]
    more = ["--set", "checkpoint.every_steps=2", "--set", "data.in_memory=false"]
    run = command("finetune", options, tmp_path / "run", *more)
    ended = nursery.run(*run, before=VANISH.format(prepared=str(prepared), act=act))
    assert reason in refused(ended, code=3)
    assert checkpoints(tmp_path / "run")
    assert reason in refused(nursery.run(*run), code=3)
    shutil.rmtree(prepared)
    kept.rename(prepared)
    assert nursery.run(*run)[0] == 0
    assert nursery.run(*command("finetune", options, tmp_path / "at_once", *more))[0] == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "at_once")


def test_a_run_in_another_locale_and_with_another_umask(nursery, options, finished, tmp_path):
    folder = tmp_path / "Läufe und Linsen"
    before = "import os, locale; os.umask(0o077); locale.setlocale(locale.LC_ALL, 'C')"
    code, _, err = nursery.run(*command("finetune", options, folder), before=before)
    assert (code, err) == (0, "")
    assert outcome(folder) == outcome(finished("finetune"))
    assert {oct(path.stat().st_mode & 0o077) for path in folder.rglob("*")} == {"0o0"}


# `python -m deeplens_tf.finetune` with the network that the nursery uses.
ITSELF = """
from deeplens_tf.cli import run_stage
from deeplens_tf.finetune import main
from deeplens_tf.startup import import_tensorflow
import_tensorflow()
from tests.faults.nursery import make_shallow
make_shallow()
run_stage(main)
"""
NO_UTF8 = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("name", "variables", "encoding"), [("Läufe", {}, "utf-8"), ("runs", NO_UTF8, "ascii")]
)
def test_the_c_locale_from_the_start(
    name, variables, encoding, options, finished, run_python, tmp_path, monkeypatch
):
    """In a separate process, since the locale is read when Python starts."""
    for variable, value in (variables | {"LC_ALL": "C"}).items():
        monkeypatch.setenv(variable, value)
    assert run_python("-c", "import sys; print(sys.stdout.encoding)").stdout == f"{encoding}\n"
    ended = run_python("-c", ITSELF, *map(str, command("finetune", options, name)[1:]))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert outcome(tmp_path / name) == outcome(finished("finetune"))
    environment = json.loads((tmp_path / name / "environment.json").read_text())
    assert environment["command"][-1] == name


def test_a_name_that_the_locale_cannot_encode(options, run_python, tmp_path, monkeypatch):
    for variable, value in (NO_UTF8 | {"LC_ALL": "C"}).items():
        monkeypatch.setenv(variable, value)
    ended = run_python("-c", ITSELF, *map(str, command("finetune", options, "Läufe")[1:]))
    assert ended.returncode == 2
    assert ended.stderr.startswith("deeplens_tf: L")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []

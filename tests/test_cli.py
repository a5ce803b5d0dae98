"""Exit codes, one line on stderr, and no import of TensorFlow before it is needed."""

import contextlib
import importlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deeplens_tf.__main__ import STAGES
from deeplens_tf.cli import add_run_options, stage_parser
from deeplens_tf.errors import RequestError
from tests.conftest import REPOSITORY

CONFIGURED = ("pretrain", "finetune")

# Runs a stage as `-m` does and prints at the end what was imported.
SPY = """
import runpy, sys
stage, sys.argv[1:] = sys.argv[1], sys.argv[2:]
try:
    runpy.run_module(f"deeplens_tf.{stage}", run_name="__main__", alter_sys=True)
finally:
    print("IMPORTED", [name for name in ("tensorflow", "keras") if name in sys.modules])
"""


STAGE = """
import errno
from deeplens_tf.cli import run_stage
from deeplens_tf.errors import *
def main(argv):
    {}
run_stage(main)
"""


@pytest.fixture
def end_by(run_python):
    """Run a stage whose `main` is one statement; return the ended process."""

    def end(statement, *argv):
        return run_python("-c", STAGE.format(statement), *argv)

    return end


@pytest.fixture
def spy_on(run_python):
    def spy(stage, *argv):
        return run_python("-c", SPY, stage, *argv)

    return spy


@pytest.mark.parametrize(
    ("statement", "code", "line"),
    [
        ("return", 0, ""),
        ("raise RequestError('no such key:\\n  a.b')", 2, "deeplens_tf: no such key: a.b\n"),
        ("raise DataError('empty')", 3, "deeplens_tf: empty\n"),
        ("raise ResourceError('locked')", 4, "deeplens_tf: locked\n"),
        ("open('/')", 1, None),
        ("open('no/such/file')", 1, None),
        (
            "raise OSError(errno.ENOSPC, 'No space left', 'shard')",
            4,
            "deeplens_tf: No space left: shard\n",
        ),
        ("raise PermissionError(errno.EACCES, 'Denied')", 4, "deeplens_tf: Denied: unknown file\n"),
        ("raise FileExistsError(errno.EEXIST, 'Exists', 'a')", 2, "deeplens_tf: Exists: a\n"),
        ("raise MemoryError", 4, "deeplens_tf: out of memory\n"),
        ("raise MemoryError('8 GiB')", 4, "deeplens_tf: out of memory: 8 GiB\n"),
        ("raise BrokenPipeError(errno.EPIPE, 'Broken pipe')", 1, None),  # not an output's
        ("raise KeyboardInterrupt", 130, "deeplens_tf: stopped by SIGINT\n"),
        ("1 / 0", 1, None),
        ("raise ValueError('ours')", 1, None),
    ],
)
def test_an_end_has_its_exit_code_and_at_most_one_line(end_by, statement, code, line):
    ended = end_by(statement)
    assert ended.returncode == code
    assert ended.stdout == ""
    if line is None:  # a bug shows where it happened
        assert ended.stderr.startswith("Traceback")
    else:
        assert ended.stderr == line


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def buffering(request, monkeypatch):
    """Whether writing fails when Python flushes its output at exit, or at once."""
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)


@pytest.mark.usefixtures("buffering")
@pytest.mark.parametrize(
    "statement", ["print('x' * 100_000)", "print('buffered')", "print('help'); raise SystemExit"]
)
def test_a_closed_output_ends_the_stage_silently(statement):
    with unread_pipe() as pipe:
        ended = end_into(statement, pipe, subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.usefixtures("buffering")
def test_a_closed_stderr_ends_the_stage_silently():
    with unread_pipe() as pipe:
        assert end_into("raise RequestError('wrong')", pipe, pipe).returncode == 141


@pytest.mark.usefixtures("buffering")
def test_an_output_on_a_full_disk_has_exit_code_4():
    with Path("/dev/full").open("w") as full:
        ended = end_into("print(argv)", full, subprocess.PIPE)
    assert ended.returncode == 4
    assert ended.stderr == "deeplens_tf: No space left on device: unknown file\n"


@contextlib.contextmanager
def unread_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def end_into(statement, out, err):
    """Run a stage whose `main` is one statement, with the given outputs."""
    return subprocess.run(
        [sys.executable, "-c", STAGE.format(statement)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=out,
        stderr=err,
        text=True,
        timeout=60,
        check=False,
    )


def test_debug_shows_the_traceback_before_the_line(end_by):
    ended = end_by("raise RequestError('wrong')", "--debug")
    assert ended.returncode == 2
    assert ended.stderr.startswith("Traceback")
    assert "in main" in ended.stderr
    assert ended.stderr.endswith("\ndeeplens_tf: wrong\n")


def test_a_stage_gets_the_arguments_after_the_program_name(end_by):
    assert end_by("print(argv)", "--set", "a=b").stdout == "['--set', 'a=b']\n"


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "SIGINT")]
)
def test_a_signal_unwinds_the_stage_and_has_its_exit_code(number, code, name):
    script = (
        "import time\n"
        "from deeplens_tf.cli import run_stage\n"
        "def main(argv):\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('saved', flush=True)\n"
        "run_stage(main)\n"
    )
    stage = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with stage:
        assert stage.stdout.readline() == "ready\n"
        stage.send_signal(number)
        out, err = stage.communicate(timeout=30)
    assert stage.returncode == code
    assert out == "saved\n"
    assert err == f"deeplens_tf: stopped by {name}\n"


def test_every_stage_has_a_module_and_every_module_is_listed():
    modules = (REPOSITORY / "deeplens_tf").glob("*.py")
    stages = {path.stem for path in modules if "run_stage(main)" in path.read_text()}
    assert stages == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_help_does_not_wait_for_tensorflow(spy_on, stage):
    ended = spy_on(stage, "--help")
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert ended.stdout.startswith(f"usage: python -m deeplens_tf.{stage} ")
    assert "--debug" in ended.stdout
    assert ended.stdout.endswith("IMPORTED []\n")


@pytest.mark.parametrize("stage", STAGES)
def test_help_shows_an_example_that_the_stage_takes(stage):
    parser = importlib.import_module(f"deeplens_tf.{stage}").build_parser()
    lines = parser.format_help().splitlines()
    (example,) = [line for line in lines if line.startswith("Example: ")]
    words = shlex.split(example.removeprefix("Example: "))
    assert words[:3] == ["python", "-m", f"deeplens_tf.{stage}"]
    parser.parse_args(words[3:])


@pytest.mark.parametrize("stage", STAGES)
def test_an_unknown_option_does_not_wait_for_tensorflow(spy_on, stage):
    ended = spy_on(stage, "--no-such-option")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert f"(see python -m deeplens_tf.{stage} --help)" in ended.stderr
    assert ended.stdout == "IMPORTED []\n"


@pytest.mark.parametrize("stage", CONFIGURED)
@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("--set", "trian.epochs=3"), "did you mean train.epochs?"),
        (("--config", "nonsense"), "no configuration 'nonsense'"),
        (("--data", "no/such/folder"), "no/such/folder: no such folder; "),
    ],
)
def test_a_wrong_request_does_not_wait_for_tensorflow(spy_on, stage, argv, line):
    ended = spy_on(stage, *argv)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert line in ended.stderr
    assert ended.stdout.endswith("IMPORTED []\n")


@pytest.mark.parametrize("argv", [(), ("--run", "no/such/run")])
def test_evaluating_a_missing_run_does_not_wait_for_tensorflow(spy_on, argv):
    ended = spy_on("evaluate", *argv)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout.endswith("IMPORTED []\n")


@pytest.mark.slow
def test_importing_tensorflow_prints_nothing_and_restores_stderr(run_python):
    script = (
        "import sys\n"
        "from deeplens_tf.startup import import_tensorflow\n"
        "import_tensorflow()\n"
        "import keras\n"
        "keras.ops.matmul(keras.ops.ones((4, 4)), keras.ops.ones((4, 4)))\n"
        "print('after', keras.backend.backend(), file=sys.stderr)\n"
    )
    ended = run_python("-c", script)
    assert ended.returncode == 0
    assert ended.stdout == ""
    assert ended.stderr == "after tensorflow\n"


def test_the_output_of_a_failing_import_is_shown(run_python, tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'no AVX\\n')\nraise ImportError('broken')\n"
    )
    (tmp_path / "keras.py").touch()
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from deeplens_tf.startup import import_tensorflow; import_tensorflow()"
    )
    ended = run_python("-c", script)
    assert ended.returncode == 1
    assert "no AVX\n" in ended.stderr
    assert ended.stderr.endswith("ImportError: broken\n")


def test_options_are_not_abbreviated():
    with pytest.raises(RequestError, match=r"--deb"):
        stage_parser("pretrain", "x").parse_args(["--deb"])


def test_set_is_repeatable_and_the_default_configuration_is_left_to_the_stage():
    parser = stage_parser("pretrain", "x")
    add_run_options(parser, config="contrastive")
    arguments = parser.parse_args(["--set", "a=1", "--set", "b=2"])
    assert arguments.overrides == ["a=1", "b=2"]
    assert (arguments.config, arguments.data) == (None, None)
    assert "(default: contrastive, " in parser.format_help()
    assert parser.parse_args([]).overrides == []

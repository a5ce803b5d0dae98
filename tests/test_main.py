"""`python -m deeplens_tf STAGE` and `deeplens-tf STAGE`: all stages as one command."""

import signal
import subprocess
import sys
import time

import pytest

from deeplens_tf import __version__
from deeplens_tf.__main__ import STAGES
from tests.conftest import REPOSITORY

# As the console script calls it, and at the end what was imported.
SCRIPT = """
import sys
from deeplens_tf.__main__ import main
sys.argv[0] = "/usr/local/bin/deeplens-tf"
try:
    main()
finally:
    print("IMPORTED", [name for name in ("tensorflow", "keras") if name in sys.modules])
"""
# A stage that prints its arguments and then executes {}.
STAND_IN = """
import sys
import deeplens_tf.pretrain
from deeplens_tf.__main__ import main
from deeplens_tf.errors import DataError
def stage(argv):
    print(argv, sys.argv[0].endswith("deeplens_tf/pretrain.py"), sys.argv[1:] == argv, flush=True)
    {}
deeplens_tf.pretrain.main = stage
main()
"""


@pytest.fixture
def script(run_python):
    def run(*argv):
        return run_python("-c", SCRIPT, *argv)

    return run


@pytest.fixture
def module(run_python):
    def run(*argv):
        return run_python("-m", "deeplens_tf", *argv)

    return run


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_each_stage_in_one_line(script, option):
    ended = script(option)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: deeplens-tf STAGE [OPTION ...]\n")
    for name, summary in STAGES.items():
        assert f"\n  {name:10}{summary}\n" in ended.stdout
    assert ended.stdout.endswith("IMPORTED []\n")
    assert max(map(len, ended.stdout.splitlines())) <= 80


def test_help_answers_at_once():
    """At least once in three attempts, on a machine that may be busy."""
    command = [sys.executable, "-m", "deeplens_tf", "--help"]

    def seconds():
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.4


def test_the_version_is_the_packages(script):
    assert script("--version").stdout == f"deeplens_tf {__version__}\nIMPORTED []\n"


@pytest.mark.parametrize(
    ("stage", "hint"),
    [
        ("pretrian", "did you mean pretrain?"),
        ("fine-tune", "did you mean finetune?"),
        ("evaluation", "did you mean evaluate?"),
        ("x", f"one of {', '.join(STAGES)}"),
        ("__main__", f"one of {', '.join(STAGES)}"),
        ("", f"one of {', '.join(STAGES)}"),
    ],
)
def test_an_unknown_stage_is_refused_by_the_nearest(script, stage, hint):
    ended = script(stage, "--set", "a=b")
    line = f"deeplens_tf: unknown stage {stage!r}: {hint} (see deeplens-tf --help)\n"
    assert (ended.returncode, ended.stderr, ended.stdout) == (2, line, "IMPORTED []\n")


@pytest.mark.parametrize("argv", [(), ("--set", "a=b"), ("--", "pretrain")])
def test_without_a_stage_one_is_required(module, argv):
    ended = module(*argv)
    assert ended.returncode == 2
    assert ended.stderr == (
        "deeplens_tf: the following arguments are required: STAGE "
        "(see python -m deeplens_tf --help)\n"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_the_usage_of_a_stage_names_how_it_was_called(script, stage):
    ended = script(stage, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"usage: deeplens-tf {stage} ")
    assert ended.stdout.endswith("IMPORTED []\n")


def test_the_module_is_named_too(module):
    assert module("compare", "-h").stdout.startswith("usage: python -m deeplens_tf compare ")
    ended = module("compare", "--no-such-option")
    assert ended.returncode == 2
    assert ended.stderr.endswith("(see python -m deeplens_tf compare --help)\n")


@pytest.mark.parametrize(
    "argv",
    [
        ("prepare", "--", "--odd"),
        ("pretrain", "--set", "trian.epochs=3"),
        ("finetune", "--data", "no/such/folder"),
        ("simulate", "--count", "1", "--out", "x", "--shard", "y"),
        ("evaluate", "--run", "no/such/run"),
        ("convert", "a.h5", "--to", "\udcff.keras"),
    ],
    ids=lambda argv: argv[0],
)
def test_a_stage_ends_as_its_own_module_does(module, run_python, argv):
    stage, *rest = argv
    alone, together = run_python("-m", f"deeplens_tf.{stage}", *rest), module(*argv)
    assert alone.returncode == 2
    assert (together.returncode, together.stdout) == (2, alone.stdout)
    assert together.stderr == alone.stderr.replace(f"deeplens_tf.{stage}", f"deeplens_tf {stage}")


def test_debug_shows_the_traceback(module):
    ended = module("pretrain", "--debug", "--data", "no/such/folder")
    assert ended.stderr.startswith("Traceback")
    assert "deeplens_tf: no/such/folder: no such folder; " in ended.stderr.splitlines()[-1]


def test_a_stage_gets_its_arguments_and_its_exit_code(run_python):
    script = STAND_IN.format("raise DataError('empty')")
    ended = run_python("-c", script, "pretrain", "--set", "a=b", "--", "c")
    assert ended.stdout == "['--set', 'a=b', '--', 'c'] True True\n"
    assert (ended.returncode, ended.stderr) == (3, "deeplens_tf: empty\n")


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "SIGINT")]
)
def test_a_signal_stops_the_stage(number, code, name):
    script = STAND_IN.format("import time; time.sleep(60)")
    stage = subprocess.Popen(
        [sys.executable, "-c", script, "pretrain"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with stage:
        assert stage.stdout.readline() == "[] True True\n"
        stage.send_signal(number)
        assert stage.communicate(timeout=30) == ("", f"deeplens_tf: stopped by {name}\n")
    assert stage.returncode == code

"""What a stage does to Keras's settings, where it writes without a home, and where it can run."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import deeplens_tf as dl
from deeplens_tf import cli
from deeplens_tf.__main__ import STAGES
from deeplens_tf.errors import RequestError
from deeplens_tf.simulation import compiled_cache, render, survey_images
from deeplens_tf.startup import import_for_stage
from tests.conftest import REPOSITORY

KERAS = ("image_data_format", "floatx", "epsilon", "max_epochs", "max_steps_per_epoch")
USERS = {
    "image_data_format": "channels_first",
    "floatx": "float16",
    "epsilon": 1e-2,
    "max_epochs": 1,
    "max_steps_per_epoch": 2,
}


def settings():
    found = {name: getattr(keras.config, name)() for name in KERAS}
    return found | {"policy": keras.config.dtype_policy().name}


def apply(values):
    for name in KERAS:
        getattr(keras.config, f"set_{name}")(values[name])
    keras.config.set_dtype_policy(values["policy"])


@pytest.fixture
def users_settings():
    """Settings as a keras.json and Keras's variables of another project give them."""
    before = settings()
    apply(USERS | {"policy": "float16"})
    yield USERS | {"policy": "float16"}
    apply(before)


def test_the_library_leaves_a_users_settings_alone(users_settings):
    dl.import_tensorflow()
    assert dl.losses and dl.models.build_encoder and dl.augment.Augment
    dl.models.build_encoder("vit_nano", (16, 16, 1))
    assert settings() == users_settings


def test_a_stage_has_kerass_own_settings(users_settings):
    import_for_stage()
    assert settings() == {
        "image_data_format": "channels_last",
        "floatx": "float32",
        "epsilon": 1e-7,
        "max_epochs": None,
        "max_steps_per_epoch": None,
        "policy": "float32",
    }


@pytest.mark.parametrize("values", [{"floatx": "bfloat16"}, {"epsilon": 1}, ["floatx"]])
def test_a_keras_json_that_keras_refuses_is_named(run_python, tmp_path, values):
    (tmp_path / "keras.json").write_text(json.dumps(values))
    script = "from deeplens_tf.startup import import_for_stage; import_for_stage()"
    environment = {"KERAS_HOME": str(tmp_path)}
    words = ("-c", f"import os; os.environ.update({environment!r}); {script}")
    ended = run_python(*words)
    last = ended.stderr.strip().splitlines()[-1]
    assert f"RequestError: {tmp_path}/keras.json: Keras refuses it: " in last
    assert last.endswith("; correct or remove it")


def test_another_error_of_the_import_is_not_blamed_on_keras_json(monkeypatch, tmp_path):
    def fail():
        raise ValueError("broken installation")

    monkeypatch.setattr("deeplens_tf.startup.import_tensorflow", fail)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="broken installation") as caught:
        import_for_stage()
    assert not isinstance(caught.value, RequestError)


@pytest.mark.parametrize("argv", [["--help"], [], ["--set", "x"]])
def test_a_system_without_file_locks_is_refused_in_one_line(monkeypatch, capsys, argv):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    called = []
    assert cli._exit_code(called.append, argv) == 4
    line = "deeplens_tf: the stages run on Linux and macOS; on Windows, install them in WSL"
    printed = capsys.readouterr()
    assert (printed.err, printed.out, called) == (f"{line} (wsl --install)\n", "", [])


def test_every_stage_is_imported_without_file_locks(run_python):
    """The line is printed by the stages themselves, so their imports must not fail before it."""
    stages = list(STAGES)
    script = "import sys; sys.modules['fcntl'] = None\nimport deeplens_tf, importlib\n"
    script += f"for name in {stages}: importlib.import_module('deeplens_tf.' + name)\n"
    script += "import deeplens_tf.runs.resuming"
    ended = run_python("-c", script)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_supported_systems_are_documented():
    assert "Operating System :: POSIX :: Linux" in (REPOSITORY / "setup.cfg").read_text()
    assert "WSL" in (REPOSITORY / "README.md").read_text()


def test_the_compiled_functions_get_a_temporary_place_if_there_is_no_other(monkeypatch, tmp_path):
    numba = pytest.importorskip("numba")
    from numba.core import caching

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    compiled_cache.ensure_compiled_cache.__wrapped__()
    assert "NUMBA_CACHE_DIR" not in os.environ  # numba has a place of its own here
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(compiled_cache._function_of_lenstronomy())
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")  # so that it is restored afterwards
    compiled_cache.ensure_compiled_cache.__wrapped__()
    (folder,) = tmp_path.iterdir()
    assert os.environ["NUMBA_CACHE_DIR"] == numba.config.CACHE_DIR == str(folder)


@pytest.mark.parametrize("module", [render, survey_images])
def test_every_import_of_lenstronomy_comes_after_the_question_for_a_place(module):
    functions = [
        node
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.FunctionDef)
    ]
    importing = [each for each in functions if "from lenstronomy" in ast.unparse(each)]
    assert len(importing) == 1
    for function in importing:
        text = ast.unparse(function)
        assert 0 < text.find("ensure_compiled_cache()") < text.index("from lenstronomy")


def test_the_function_that_asks_for_a_place_counts_as_lenstronomys():
    source = compiled_cache._function_of_lenstronomy().__code__.co_filename
    folder = importlib.util.find_spec("lenstronomy").submodule_search_locations[0]
    assert source.startswith(folder)
    assert Path(source).is_file()


@pytest.mark.slow
def test_figures_are_drawn_quietly_without_a_home_and_in_a_notebooks_environment(tmp_path):
    script = (
        "import sys; from deeplens_tf.cli import run_stage\n"
        "def main(argv):\n"
        "    from matplotlib.figure import Figure\n"
        "    from deeplens_tf.figures.picture_files import save_figure\n"
        "    import deeplens_tf.figures.style\n"
        "    figure = Figure(); figure.suptitle('x'); save_figure(figure, 'x.png')\n"
        "run_stage(main)\n"
    )
    unset = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"HOME": "/proc/no-home", "PYTHONPATH": str(REPOSITORY)}
    environment |= {"MPLBACKEND": "module://a_backend.that_is_not_here"}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "")
    assert (tmp_path / "x.png").is_file()

"""Modules of a user: imported when they are named, and by nothing else."""

import shlex
import sys
from argparse import Namespace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from deeplens_tf import plugins, registry, simulate
from deeplens_tf.cli import next_command
from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError
from deeplens_tf.pretrain import build_parser

MODULE = """
import deeplens_tf.registry
from dataclasses import dataclass

@dataclass(frozen=True)
class Nothing:
    dtype = "float32"

deeplens_tf.registry.augmentations.register("nothing", Nothing)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, forgotten_names):
    """The current folder, with a plugin in it; what it does is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_plugin.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("a_plugin", None)


@pytest.mark.parametrize("words", [["--plugin", "a_plugin"], ["--plugin=a_plugin"]])
@pytest.mark.parametrize("order", [1, -1])
def test_help_lists_what_a_plugin_registers(folder, words, order, capsys):
    argv = [word for part in [words, ["--help"]][::order] for word in part]
    with pytest.raises(SystemExit):
        build_parser().parse_args(argv)
    assert "nothing" in capsys.readouterr().out.split("augment.views:")[1]


def test_a_configuration_may_name_what_a_plugin_registers(folder):
    words = ["augment.views=[flip, nothing]"]
    with pytest.raises(RequestError, match=r"augment.views\[1\] must be one of flip.*--plugin"):
        load_config("contrastive", words)
    assert build_parser().parse_args(["--plugin", "a_plugin"]).plugins == ["a_plugin"]
    assert load_config("contrastive", words).augment.views == ("flip", "nothing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--plugin broken: ModuleNotFoundError: No module named 'broken'"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 +", "--plugin broken: SyntaxError"),
        ("raise RuntimeError('no')", "--plugin broken: RuntimeError: no"),
        ("import deeplens_tf as dl\ndl.augment.register_augmentation('flip', dict)", "already"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(folder, content, message):
    if content is not None:
        (folder / "broken.py").write_text(content)
    with pytest.raises(RequestError, match=message):
        plugins.load_plugins(["broken"])
    sys.modules.pop("broken", None)


def test_an_installed_entry_point_is_loaded(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    point = EntryPoint("mine", "a_plugin", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    plugins.load_plugins([])
    assert "nothing" in registry.augmentations.names


def test_a_stage_without_configuration_takes_no_plugin(folder):
    with pytest.raises(RequestError, match="unrecognized arguments: --plugin"):
        simulate.build_parser().parse_args(["--count", "1", "--out", "x", "--plugin", "a_plugin"])
    assert "a_plugin" not in sys.modules


@pytest.mark.parametrize("path", ["a_plugin.py", "./a_plugin", "folder/a_plugin"])
def test_a_path_is_refused_with_the_name_of_the_module(folder, path):
    with pytest.raises(RequestError, match="must be the name of a module, such as a_plugin, not"):
        plugins.load_plugins([path])


def test_the_next_command_names_the_plugins_again():
    arguments = Namespace(plugins=["one", "two.three"])
    words = ["python", "-m", "deeplens_tf.evaluate", "--run", "my run"]
    command = next_command(arguments, "evaluate", "--run", Path("my run"))
    assert shlex.split(command) == [*words, "--plugin", "one", "--plugin", "two.three"]

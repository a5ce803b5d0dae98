"""A user's own modules, which register encoders, methods and augmentations.

A module is imported because the user names it by `--plugin`, or has installed a package with an
entry point in `deeplens_tf.plugins`. Nothing in a configuration, a data file or a model file can
cause an import.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from deeplens_tf.errors import RequestError
from deeplens_tf.startup import import_for_stage

GROUP = "deeplens_tf.plugins"


def load_plugins(modules: Sequence[str]) -> None:
    """Import modules, and those of installed packages.

    Args:
        modules: names as in an import statement; the current folder is searched too.

    Raises:
        RequestError: a module that is not found or cannot be imported.
    """
    installed = entry_points(group=GROUP)
    if modules or installed:
        import_for_stage()  # quietly, before a module imports it
    for module in modules:
        _load(f"--plugin {module}", partial(_import, module))
    for point in installed:
        _load(f"entry point {point.name} of {GROUP}", point.load)


def _load(what: str, load: Callable[[], object]) -> None:
    try:
        load()
    except Exception as error:  # a user's code may raise anything
        reason = str(error) or "no message"
        raise RequestError(f"{what}: {type(error).__name__}: {reason}") from error


def _import(module: str) -> None:
    if not all(part.isidentifier() for part in module.split(".")) or module.endswith(".py"):
        raise ValueError(f"must be the name of a module, such as {Path(module).stem}, not a path")
    folder = str(Path.cwd())
    # `python -m` searches the current folder, the console script does not.
    if folder not in sys.path and "" not in sys.path and not sys.flags.safe_path:
        sys.path.append(folder)
    importlib.import_module(module)

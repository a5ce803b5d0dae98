"""Packages whose names are imported on first use (PEP 562)."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package.

    A command line answers `--help` in a fraction of a second because nothing heavy is imported
    before it is used.

    Args:
        package: its `__name__`.
        homes: public name -> defining module, relative to the package; `.metrics.x` is a sibling
            package; a submodule maps to itself.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f".{homes[name]}", package)
        return module if homes[name] == name else getattr(module, name)

    return get, lambda: sorted(homes), sorted(homes)

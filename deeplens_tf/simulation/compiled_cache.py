"""Where numba stores the functions of lenstronomy that it has compiled."""

import atexit
import contextlib
import importlib.util
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from types import FunctionType


@cache
def ensure_compiled_cache() -> None:
    """Give numba a temporary folder if it can store nothing beside lenstronomy or in the home.

    Without any place numba refuses to compile, and importing lenstronomy fails. The folder is that
    of this process and of those that it starts, and is removed at its end.
    """
    with contextlib.suppress(ImportError):  # lenstronomy does without numba
        import numba

        try:
            numba.njit(cache=True)(_function_of_lenstronomy())
        except RuntimeError:
            folder = tempfile.mkdtemp(prefix="deeplens-numba-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            os.environ["NUMBA_CACHE_DIR"] = folder
            numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]  # it has read the other


def _function_of_lenstronomy() -> FunctionType:
    """Return a function that numba takes for one of lenstronomy's, without importing that."""
    spec = importlib.util.find_spec("lenstronomy")
    if spec is None or spec.origin is None:
        raise ImportError("lenstronomy is not installed")
    source = Path(spec.origin).parent / "Util" / "util.py"
    code = _nothing.__code__.replace(co_filename=str(source))
    return FunctionType(code, {}, "nothing")


def _nothing() -> int:
    return 0

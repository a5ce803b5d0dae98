"""Before lenstronomy is imported: whether it is there, and where numba stores what it compiles."""

import atexit
import contextlib
import importlib.util
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from types import FunctionType

from deeplens_tf.errors import RequestError


def require_lenstronomy() -> None:
    """Check that lenstronomy, an extra, is installed.

    Raises:
        RequestError: it is not.
    """
    if importlib.util.find_spec("lenstronomy") is None:
        raise RequestError(
            "noise of Models II and III and surveys are lenstronomy's, which is not installed: "
            "pip install 'deeplens_tf[simulate]'"
        )


@cache
def ensure_compiled_cache() -> None:
    """Give numba a temporary folder if it can store nothing beside lenstronomy or in the home.

    Without any place numba refuses to compile, and importing lenstronomy fails. The folder is that
    of this process and of those that it starts, and is removed at its end.

    Raises:
        RequestError: lenstronomy is not installed.
    """
    require_lenstronomy()
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
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "Util" / "util.py"
    code = _nothing.__code__.replace(co_filename=str(source))
    return FunctionType(code, {}, "nothing")


def _nothing() -> int:
    return 0

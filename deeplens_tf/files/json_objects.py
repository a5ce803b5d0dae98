"""The one place that reads JSON files, which may come from strangers."""

import json
from pathlib import Path
from typing import Any

from deeplens_tf.errors import UnusableFile

MAX_BYTES = 4 << 20  # parsed, a byte of JSON takes up to 30 bytes of memory


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: a regular file or a link to one.
        max_bytes: a larger file is not read.

    Raises:
        FileNotFoundError: there is no such file.
        UnusableFile: with the reason, for anything else than an object of that size.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise UnusableFile("not a regular file")
    if path.stat().st_size > max_bytes:
        raise UnusableFile(f"larger than {max_bytes} bytes")
    try:
        values = json.loads(path.read_bytes())
    except RecursionError:
        raise UnusableFile("nested too deeply") from None
    except ValueError as error:
        raise UnusableFile(f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UnusableFile("not a JSON object")
    return values

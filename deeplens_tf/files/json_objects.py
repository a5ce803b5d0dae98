"""Bounded reading of JSON files, which may be untrusted."""

import json
from pathlib import Path
from typing import Any

from deeplens_tf.errors import UnusableFile

MAX_JSON_BYTES = 4 << 20  # a byte of JSON takes up to 30 bytes of memory once it is parsed


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a file that contains one JSON object.

    Args:
        path: a regular file or a link to one.
        max_bytes: a larger file is refused without reading it.

    Raises:
        FileNotFoundError: there is no such file.
        UnusableFile: anything but a JSON object of that size; the message gives the reason.
    """
    if path.exists() and not path.is_file():  # opening a pipe would block forever
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

"""`logging.json` of a run folder: as what the services know the run. It contains no addresses."""

import json
from typing import Any

from deeplens_tf.errors import UnusableFile
from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.runs.run_folder import Run

RECORD = "logging.json"


def recorded(run: Run, service: str) -> dict[str, Any]:
    """Return what is recorded of a service, or nothing."""
    try:
        found = read_json(run.folder / RECORD).get(service)
    except (OSError, UnusableFile):
        return {}
    return found if isinstance(found, dict) else {}


def record(run: Run, service: str, entry: dict[str, Any]) -> None:
    """Replace what is recorded of a service.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = run.folder / RECORD
    try:
        others = read_json(path)
    except (OSError, UnusableFile):
        others = {}
    content = (json.dumps({**others, service: entry}, indent=2) + "\n").encode()
    write_whole(path, lambda file: file.write(content), durable=True)

"""Creating the folder of a new run."""

import itertools
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deeplens_tf.config import Config, save_config
from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import PARTIAL_SUFFIX
from deeplens_tf.runs.checkpoints import CHECKPOINT_FORMAT
from deeplens_tf.runs.lock import LOCK
from deeplens_tf.runs.provenance import describe_environment
from deeplens_tf.runs.run_folder import RUN_TIME, RUNS, Run


def create_run(
    stage: str,
    name: str,
    config: Config,
    run_dir: str | None,
    facts: Mapping[str, Any],
) -> Run:
    """Create the folder of a new run, with its configuration and environment.json.

    Args:
        stage: "pretrain" or "finetune".
        name: the configuration's name.
        config: complete configuration.
        run_dir: the folder, or None for `runs/<stage>-<name>-<time>`.
        facts: what the stage adds to environment.json.

    Raises:
        RequestError: the folder is already in use.
    """
    run = Run(Path(run_dir) if run_dir else new_folder(stage, name))
    require_free(run.folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "stage": stage,
        "started": datetime.now(UTC).isoformat(),
        "checkpoint_format": CHECKPOINT_FORMAT,
        # The configuration's path may be relative to where the stage ran.
        "data_path": str(Path(config.data.path).resolve()),
    }
    run.environment.unlink(missing_ok=True)  # of a run that was killed at this point
    run.add_facts(describe_environment() | identity | dict(facts))
    save_config(config, run.config)  # last, since this file makes the folder a run
    return run


def new_folder(stage: str, name: str) -> Path:
    """Create and return `runs/<stage>-<name>-<time>`; simultaneous calls get different folders."""
    first = RUNS / f"{stage}-{Path(name).stem}-{time.strftime(RUN_TIME)}"
    RUNS.mkdir(parents=True, exist_ok=True)
    numbered = (first.with_name(f"{first.name}-{i}") for i in itertools.count(2))
    return next(filter(_created, itertools.chain([first], numbered)))


def require_free(folder: Path) -> None:
    """Refuse a folder with content, except files of a run that was killed while starting.

    Raises:
        RequestError: the folder is in use, or is not a folder.
    """
    if folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
        raise RequestError(f"{folder} is already in use: give --run-dir a new folder")


def _created(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _is_foreign(path: Path) -> bool:
    is_draft = path.name.startswith(".") and PARTIAL_SUFFIX in path.name
    return path.name not in (LOCK, "environment.json") and not is_draft

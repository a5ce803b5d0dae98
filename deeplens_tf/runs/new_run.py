"""Making the folder of a new run."""

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeplens_tf.config import Config, save_config
from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import PARTIAL_SUFFIX
from deeplens_tf.runs.checkpoints import FORMAT
from deeplens_tf.runs.lock import LOCK
from deeplens_tf.runs.provenance import describe_environment
from deeplens_tf.runs.run_folder import RUNS, Run


def create_run(
    stage: str,
    name: str,
    config: Config,
    run_dir: str | None,
    facts: Mapping[str, Any],
) -> Run:
    """Make the folder of a new run and write what it is before it does anything.

    Args:
        stage: "pretrain" or "finetune".
        name: the configuration's name.
        config: complete configuration.
        run_dir: the folder, or None for `runs/<stage>-<name>-<time>`.
        facts: what only the stage knows of its run; they go to environment.json.

    Raises:
        RequestError: the folder already holds something.
    """
    run = Run(Path(run_dir) if run_dir else new_folder(stage, name))
    require_free(run.folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    made = {"stage": stage, "checkpoint_format": FORMAT}
    run.environment.unlink(missing_ok=True)  # of one that was killed right here
    run.add_facts(describe_environment() | made | dict(facts))
    save_config(config, run.config)  # the last, for it is what makes the folder a run
    return run


def new_folder(stage: str, name: str) -> Path:
    """Return `runs/<stage>-<name>-<time>`, made; of two that ask at once each gets its own."""
    named = RUNS / f"{stage}-{Path(name).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    RUNS.mkdir(parents=True, exist_ok=True)
    later = (named.with_name(f"{named.name}-{i}") for i in itertools.count(2))
    return next(filter(_made, itertools.chain([named], later)))


def require_free(folder: Path) -> None:
    """Refuse a folder that holds anything but what a run killed at its start leaves.

    Raises:
        RequestError: it is in use, or no folder.
    """
    if folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
        raise RequestError(f"{folder} is already in use: give --run-dir a new folder")


def _made(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _is_foreign(path: Path) -> bool:
    ours = path.name in (LOCK, "environment.json") or PARTIAL_SUFFIX in path.name
    return not ours

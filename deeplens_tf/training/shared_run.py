"""One run for all processes of a training: the chief opens it, and only the chief writes to it."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deeplens_tf.config import Config
from deeplens_tf.dataclass_parsing import parse_dataclass, to_plain
from deeplens_tf.distribution.strategy import Distribution
from deeplens_tf.runs.new_run import create_run
from deeplens_tf.runs.resuming import OpenedRun, claim_run, open_run, report_if_finished
from deeplens_tf.runs.run_folder import Run


def open_shared_run(
    stage: str, config: Config, run_dir: str | None, distribution: Distribution
) -> OpenedRun:
    """Return on every worker what `open_run` returns on the chief.

    Raises:
        DeeplensError: see `open_run`.
    """
    if distribution.workers == 1:
        return open_run(stage, config, run_dir)
    opened = open_run(stage, config, run_dir) if distribution.is_chief else None
    content = distribution.from_chief(json.dumps(to_plain(opened)).encode())
    return parse_dataclass(OpenedRun, json.loads(content))


def finished_run(run_dir: str | None, distribution: Distribution) -> Run:
    """Return a finished run; on workers other than the chief, one without a folder."""
    return Run(Path(run_dir if run_dir and distribution.is_chief else os.devnull))


@contextlib.contextmanager
def claimed_run(
    stage: str,
    name: str,
    config: Config,
    run_dir: str | None,
    facts: Mapping[str, Any],
    distribution: Distribution,
) -> Iterator[tuple[Run, bool]]:
    """Hold a run's folder during the block, as `claim_run` does, until all workers are done.

    Workers other than the chief get a temporary folder: only the chief writes to the run.

    Yields:
        The run, and whether another process has finished it in the meantime.

    Raises:
        DeeplensError: see `claim_run`.
    """
    facts = {**facts, "replicas": distribution.replicas, "workers": distribution.workers}
    with contextlib.ExitStack() as exits:
        if distribution.is_chief:
            run = exits.enter_context(claim_run(stage, name, config, run_dir, facts))
        else:
            folder = exits.enter_context(tempfile.TemporaryDirectory())
            run = create_run(stage, name, config, folder, facts)
        (finished,) = distribution.any(report_if_finished(run, config))
        yield run, finished
        distribution.wait_for_all()

"""How the processes of one training come to do the same: the chief's settings, the chief's run."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from deeplens_tf.config import Config
from deeplens_tf.dataclass_parsing import parse_dataclass, to_plain
from deeplens_tf.distribution.strategy import Distribution
from deeplens_tf.runs.new_run import create_run
from deeplens_tf.runs.resuming import claim_run, continued
from deeplens_tf.runs.run_folder import Run


def common_config(
    stage: str, config: Config, run_dir: str | None, distribution: Distribution
) -> Config:
    """Return the configuration with which the chief's run begins or goes on, on every worker.

    Raises:
        RequestError: the run's folder holds something else, or a run of another configuration.
    """
    if distribution.is_chief:
        config = continued(stage, config, run_dir)
    content = distribution.from_chief(json.dumps(to_plain(config)).encode())
    return parse_dataclass(Config, json.loads(content)) if distribution.workers > 1 else config


@contextlib.contextmanager
def claimed_run(
    stage: str,
    name: str,
    config: Config,
    run_dir: str | None,
    facts: Mapping[str, Any],
    distribution: Distribution,
) -> Iterator[Run]:
    """Hold a run's folder for the block, as `claim_run` does, until all workers are done.

    A worker that is not the chief gets a folder that is thrown away: only the chief writes.

    Raises:
        DeeplensError: those of `claim_run`.
    """
    facts = {**facts, "replicas": distribution.replicas, "workers": distribution.workers}
    with contextlib.ExitStack() as exits:
        if distribution.is_chief:
            run = exits.enter_context(claim_run(stage, name, config, run_dir, facts))
        else:
            folder = exits.enter_context(tempfile.TemporaryDirectory())
            run = create_run(stage, name, config, folder, facts)
        yield run
        distribution.wait_for_all()

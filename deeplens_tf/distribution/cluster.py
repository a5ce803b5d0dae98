"""The machines that train together, as the environment names them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deeplens_tf.errors import RequestError

VARIABLE = "TF_CONFIG"
TRAINING_JOBS = ("chief", "worker")  # in the order in which they count
EXAMPLE = '{"cluster": {"worker": ["a:8888", "b:8888"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """The processes of one training, a worker each.

    Attributes:
        addresses: host:port of every worker; the first is the chief, which writes.
        index: which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int


def cluster_of(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Read TF_CONFIG, which Kubernetes' training operator, Vertex AI and others set.

    Raises:
        RequestError: it is not there, not JSON, or does not say who trains and who this is.
    """
    try:
        values = json.loads(environment[VARIABLE])
        jobs, task = values["cluster"], values["task"]
        addresses = {job: _addresses(jobs[job]) for job in TRAINING_JOBS if job in jobs}
        return _cluster(addresses, str(task["type"]), int(task["index"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{VARIABLE} names no cluster ({type(error).__name__}: {error}): it should be like "
            f"{EXAMPLE}"
        ) from error


def _addresses(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r:.80} is no list of addresses")
    return values


def _cluster(jobs: Mapping[str, list[str]], job: str, index: int) -> Cluster:
    if job not in jobs or not 0 <= index < len(jobs[job]):
        raise ValueError(f"task {job} {index} is none of its {' and '.join(TRAINING_JOBS)} tasks")
    before = sum(len(jobs[other]) for other in list(jobs)[: list(jobs).index(job)])
    return Cluster(tuple(address for tasks in jobs.values() for address in tasks), before + index)

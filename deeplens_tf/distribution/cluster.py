"""The machines that train together, as the environment names them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

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


FIRST_PORT, PORTS = 12000, 20000  # below the range from which Linux gives out ports


def _slurm_cluster() -> Cluster:
    """Read the variables of a SLURM job step.

    The resolver is asked for the addresses alone. Left to itself it sets CUDA_VISIBLE_DEVICES
    over what SLURM has set, needs GPUs, and takes the order of its sorted hosts for the order of
    the tasks, which node9 and node10 break.
    """
    try:
        port = FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % PORTS  # two jobs may share a node
        slurm = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=port,
            gpus_per_node=int(os.environ["SLURM_STEP_NUM_TASKS"]),
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        addresses = slurm.cluster_spec().as_dict()["worker"]
        own = f"{os.environ['SLURMD_NODENAME']}:{port + int(os.environ['SLURM_LOCALID'])}"
        return Cluster(tuple(addresses), addresses.index(own))
    except (KeyError, ValueError, RuntimeError) as error:
        raise RequestError(
            f"--strategy multiworker finds no cluster, neither in {VARIABLE} nor in SLURM's "
            f"variables ({type(error).__name__}: {error}): start it by srun, or set {VARIABLE}"
        ) from error

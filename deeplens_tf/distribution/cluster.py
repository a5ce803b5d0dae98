"""The processes of a multi-worker run, read from environment variables."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from deeplens_tf.errors import RequestError

VARIABLE = "TF_CONFIG"
TRAINING_JOBS = ("chief", "worker")  # in the order of their numbers
FIRST_PORT, PORTS = 12000, 20000  # below the range of ports that Linux assigns
EXAMPLE = '{"cluster": {"worker": ["a:8888", "b:8888"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """The processes of one run, each of them a worker.

    Attributes:
        addresses: host:port of every worker; the first one is the chief, which writes files.
        index: number of this process among them.
    """

    addresses: tuple[str, ...]
    index: int


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Read TF_CONFIG, which Kubernetes' training operator, Vertex AI and others set.

    Raises:
        RequestError: it is missing, not JSON, or does not name the workers and this process.
    """
    try:
        values = json.loads(environment[VARIABLE])
        jobs, task = values["cluster"], values["task"]
        addresses = {job: _addresses(jobs[job]) for job in TRAINING_JOBS if job in jobs}
        return _cluster(addresses, str(task["type"]), int(task["index"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{VARIABLE} describes no cluster ({type(error).__name__}: {error}): it should be like "
            f"{EXAMPLE}"
        ) from error


def _addresses(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r:.80} is not a list of addresses")
    return values


def _cluster(jobs: Mapping[str, list[str]], job: str, index: int) -> Cluster:
    if job not in jobs or not 0 <= index < len(jobs[job]):
        raise ValueError(f"task {job} {index} is not among its {' and '.join(TRAINING_JOBS)} tasks")
    before = sum(len(jobs[other]) for other in list(jobs)[: list(jobs).index(job)])
    return Cluster(tuple(address for tasks in jobs.values() for address in tasks), before + index)


def slurm_cluster() -> Cluster:
    """Read the variables of a SLURM job step.

    Only the addresses come from TensorFlow's resolver. By default it overwrites
    CUDA_VISIBLE_DEVICES, needs GPUs, and assumes that the sorted hosts are in the order of the
    tasks, which is wrong for node9 and node10.

    Raises:
        RequestError: no such variables.
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
            f"variables ({type(error).__name__}: {error}): start it with srun, or set {VARIABLE}"
        ) from error

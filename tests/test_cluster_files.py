"""The cluster files in docs/ are valid, and so are the commands in them."""

import shlex

import pytest
import yaml

from deeplens_tf import pretrain
from deeplens_tf.config import load_config
from tests.conftest import REPOSITORY

CLUSTER = REPOSITORY / "docs" / "cluster"
SBATCH = CLUSTER / "pretrain.sbatch"


def sbatch_options():
    lines = SBATCH.read_text().splitlines()
    options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH ")]
    return dict(option.split("=", 1) for option in options)


def sbatch_command():
    (line,) = [line for line in SBATCH.read_text().splitlines() if line.startswith("srun ")]
    return shlex.split(line)[2:]


def tfjob():
    return yaml.safe_load((CLUSTER / "pretrain-tfjob.yaml").read_text())


def worker():
    return tfjob()["spec"]["tfReplicaSpecs"]["Worker"]


def container():
    (only,) = worker()["template"]["spec"]["containers"]
    return only


def machines_and_gpus():
    options = sbatch_options()
    return {
        "sbatch": (int(options["nodes"]), int(options["gpus-per-node"])),
        "tfjob": (worker()["replicas"], container()["resources"]["limits"]["nvidia.com/gpu"]),
    }


@pytest.mark.parametrize("kind", ["sbatch", "tfjob"])
def test_the_command_is_valid(kind):
    command = sbatch_command() if kind == "sbatch" else container()["command"]
    assert command[:3] == ["python", "-m", "deeplens_tf.pretrain"]
    arguments = pretrain.build_parser().parse_args(command[3:])
    assert arguments.strategy == "multiworker"
    assert arguments.run_dir  # shared by all workers, and by the job when it is submitted again
    config = load_config(arguments.config, arguments.overrides, arguments.data)
    count, gpus = machines_and_gpus()[kind]
    assert config.train.batch_size % (count * gpus) == 0


def test_slurm_starts_one_process_per_node_and_signals_it_before_the_time_limit():
    options = sbatch_options()
    assert options["ntasks-per-node"] == "1"
    assert options["signal"].startswith("TERM@")
    assert SBATCH.read_text().startswith("#!/bin/bash\n")


def test_the_manifest_has_the_form_that_the_training_operator_expects():
    manifest = tfjob()
    assert (manifest["apiVersion"], manifest["kind"]) == ("kubeflow.org/v1", "TFJob")
    assert set(manifest["spec"]["tfReplicaSpecs"]) == {"Worker"}
    assert container()["name"] == "tensorflow"
    mounted = {mount["name"] for mount in container()["volumeMounts"]}
    assert mounted == {volume["name"] for volume in worker()["template"]["spec"]["volumes"]}

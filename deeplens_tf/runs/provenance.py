"""The provenance of a run: the origin of its encoder, versions, devices, git revision."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from deeplens_tf.config import FROM_SCRATCH
from deeplens_tf.cores import available_cores
from deeplens_tf.files.hub_files import hub_name
from deeplens_tf.files.products import encoder_file
from deeplens_tf.files.shipped import sha256_of
from deeplens_tf.runs.identity import result_settings
from deeplens_tf.runs.run_folder import Run, run_of

PACKAGES = ("deeplens_tf", "tensorflow", "keras", "numpy", "scikit-learn", "lenstronomy")
UNKNOWN = "unknown"  # the method of an encoder that comes from no run folder


def encoder_origin(path: str) -> dict[str, Any]:
    """Return the origin of an encoder: the digest of its file and, if known, how it was trained.

    Args:
        path: name, run folder or file, or `FROM_SCRATCH`.

    Returns:
        `path`, of a file of the hub its name with the commit, `sha256` of the file that is loaded,
        and the items of `features_origin`.

    Raises:
        RequestError: there is no such encoder.
    """
    if path == FROM_SCRATCH:
        return {"method": None}
    file = encoder_file(path)
    run = run_of(file)
    training = {"method": UNKNOWN} if run is None else features_origin(run)
    return {"path": hub_name(file) or path, "sha256": sha256_of(file)} | training


def features_origin(run: Run) -> dict[str, Any]:
    """Return how the encoder of a run was trained.

    Returns:
        `method` and `pretexts` (the stored name of the augmentations) of the pretraining, None and
        an empty list if there was none; `epochs`, `seed` and `settings` (see `result_settings`) of
        the run; `supervised`, true if labels affected the features, as in a fine-tuning; and
        `before`, the origin of the encoder that the run started from, unless it had random weights
        in a pretraining.
    """
    facts, config = run.facts(), run.load_config()
    stage = facts.get("stage")
    if stage not in ("pretrain", "finetune"):
        return {"method": UNKNOWN}
    settings = result_settings(config, stage) | {"data": facts.get("dataset_fingerprint")}
    training = {"epochs": config.train.epochs, "seed": config.seed, "settings": settings}
    before = facts.get("encoder")
    if stage == "pretrain":
        method = {"method": config.pretrain.method, "pretexts": list(config.augment.views)}
        return method | training | _warm_start(before)
    before = before if isinstance(before, dict) else {"method": UNKNOWN}
    pretraining = {"method": before.get("method"), "pretexts": before.get("pretexts", [])}
    return pretraining | training | {"supervised": True, "before": before}


def _warm_start(before: Any) -> dict[str, Any]:
    """Return what a pretraining's origin has of the encoder that it started from, if any."""
    if not isinstance(before, dict):
        return {}
    return {"before": before} | ({"supervised": True} if before.get("supervised") is True else {})


def describe_environment() -> dict[str, Any]:
    """Return versions, devices and revision: what a result depends on besides its configuration."""
    import tensorflow as tf

    return {
        "command": [Path(sys.argv[0]).stem, *sys.argv[1:]],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": thread_count(),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "git_revision": _git_revision(),
    }


def thread_count() -> int:
    """Return how many threads TensorFlow shares an operation between: sums are rounded likewise."""
    import tensorflow as tf

    from_environment = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    set_by_caller = tf.config.threading.get_intra_op_parallelism_threads()
    return set_by_caller or int(from_environment or 0) or available_cores()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git_revision() -> str | None:
    """Return the revision of the checkout from which the package runs, if there is one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None

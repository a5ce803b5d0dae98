"""What made a run: its encoder's origin, the versions, the device, the revision."""

import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from deeplens_tf.config import FROM_SCRATCH
from deeplens_tf.files.products import encoder_file
from deeplens_tf.runs.identity import deciding_settings
from deeplens_tf.runs.run_folder import Run, run_of

PACKAGES = ("deeplens_tf", "tensorflow", "keras", "numpy", "scikit-learn", "lenstronomy")


UNKNOWN = "unknown"  # as the method of an encoder of which no run tells


def encoder_origin(path: str) -> dict[str, Any]:
    """Return where an encoder came from: its file's digest and, if known, how it was made.

    Args:
        path: run folder or file, or `FROM_SCRATCH`.

    Returns:
        `path`, `sha256` of the file that is loaded, and what `features_origin` tells of its run.

    Raises:
        RequestError: there is no such encoder.
    """
    if path == FROM_SCRATCH:
        return {"method": None}
    file = encoder_file(Path(path))
    run = run_of(file)
    made = {"method": UNKNOWN} if run is None else features_origin(run)
    return {"path": path, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} | made


def features_origin(run: Run) -> dict[str, Any]:
    """Return how the encoder that a run left was made.

    Returns:
        `method` and `pretexts` of the pretraining, None and none where there was none; `epochs`,
        `seed` and `settings` (see `deciding_settings`) of the run. Where the run is a
        fine-tuning, `supervised` is true, for labels had a part in the features, and `before`
        says what it began with.
    """
    facts, config = run.facts(), run.load_config()
    stage = facts.get("stage")
    if stage not in ("pretrain", "finetune"):
        return {"method": UNKNOWN}
    settings = deciding_settings(config, stage) | {"data": facts.get("dataset_fingerprint")}
    made = {"epochs": config.train.epochs, "seed": config.seed, "settings": settings}
    if stage == "pretrain":
        return {"method": config.pretrain.method, "pretexts": list(config.augment.views)} | made
    before = facts.get("encoder")
    before = before if isinstance(before, dict) else {"method": UNKNOWN}
    first = {"method": before.get("method"), "pretexts": before.get("pretexts", [])}
    return first | made | {"supervised": True, "before": before}


def describe_environment() -> dict[str, Any]:
    """Return versions, device and revision: what a result depends on beside its configuration."""
    import tensorflow as tf

    return {
        "command": [Path(sys.argv[0]).stem, *sys.argv[1:]],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "git_revision": _git_revision(),
    }


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
    """Return the revision of the checkout that the package runs from, if it is one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None

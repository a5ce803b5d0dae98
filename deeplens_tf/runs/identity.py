"""What of a configuration decides a result: all but its seed, and where things lie."""

from collections.abc import Mapping
from typing import Any

from deeplens_tf.config import Config
from deeplens_tf.dataclass_parsing import to_plain

PLACES = ("data.path", "data.cache", "finetune.encoder")
WITHOUT_EFFECT = ("data.strict", "pretrain.probe_every_epochs", "checkpoint.")
OTHER_STAGE = {"pretrain": "finetune.", "finetune": "pretrain."}


def deciding_settings(config: Config, stage: str) -> dict[str, Any]:
    """Return the keys, dotted, by which two runs of a stage may differ in more than chance.

    Args:
        config: of the run.
        stage: "pretrain" or "finetune".
    """
    passed_over = ("seed", *PLACES, *WITHOUT_EFFECT, OTHER_STAGE[stage])
    settings = {
        key: value
        for key, value in flattened(to_plain(config)).items()
        if not key.startswith(passed_over)
    }
    # null stands for all epochs; written down or not, it is one schedule.
    whole = config.schedule_epochs == config.train.epochs
    return settings | {"optimizer.schedule_epochs": None if whole else config.schedule_epochs}


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        flat |= flattened(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat

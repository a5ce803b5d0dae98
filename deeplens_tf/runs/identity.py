"""The settings of a run that affect its result, except the seed."""

from collections.abc import Mapping
from typing import Any

from deeplens_tf.config import Config
from deeplens_tf.dataclass_parsing import to_plain

PATH_KEYS = ("data.path", "data.catalog", "data.cache", "pretrain.encoder", "finetune.encoder")
KEYS_WITHOUT_EFFECT = (
    # What is read of a catalogue is in the fingerprint of the data, with the columns' roles.
    *("data.strict", "data.in_memory", "data.catalog_columns."),
    *("pretrain.probe_every_epochs", "checkpoint.", "logging."),
)
OTHER_STAGE = {"pretrain": "finetune.", "finetune": "pretrain."}


def result_settings(config: Config, stage: str) -> dict[str, Any]:
    """Return the settings, by dotted key, that affect the result of a run, without the seed.

    Two runs of a stage that agree in them and in their data differ only by chance.

    Args:
        config: of the run.
        stage: "pretrain" or "finetune".
    """
    left_out = (*KEYS_WITHOUT_EFFECT, OTHER_STAGE[stage])
    settings = {
        key: value
        for key, value in flattened(to_plain(config)).items()
        if key not in ("seed", *PATH_KEYS) and not key.startswith(left_out)
    }
    # null means all epochs: the same schedule whether their number is given or not.
    all_epochs = config.schedule_epochs == config.train.epochs
    schedule_epochs = None if all_epochs else config.schedule_epochs
    return settings | {"optimizer.schedule_epochs": schedule_epochs}


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        flat |= flattened(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat

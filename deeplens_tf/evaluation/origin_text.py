"""How an encoder was made, as printable text: from the records of the runs that made it.

A run folder may be untrusted: its records are checked, and made safe to print.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from deeplens_tf.config import Config
from deeplens_tf.runs.provenance import UNKNOWN
from deeplens_tf.terminal import counted, printable

SUPERVISED = "supervised"
MAX_TEXT_LENGTH = 200
DIGEST_LENGTH = 12
DATA_OF_PROBE = "data of the probe"
DIGESTS = ("data", "sha256", DATA_OF_PROBE)


def method_of(origin: Mapping[str, Any]) -> str:
    """Return how the features were learnt: the method, and whether labels were used.

    Args:
        origin: as `runs.provenance.features_origin` returns.

    Returns:
        Such as "byol", "supervised", "byol + supervised"; "" for random weights.
    """
    method = "" if origin["method"] is None else printable_name(origin["method"])
    supervised = SUPERVISED if origin.get("supervised") is True else ""
    return " + ".join(part for part in (method, supervised) if part)


def augmentations_of(origin: Mapping[str, Any]) -> str:
    """Return the augmentations of the pretraining; "" without one."""
    # "pretexts" is their name in stored records.
    return ", ".join(printable_name(name) for name in origin.get("pretexts", []))


def origin_seeds(origin: Mapping[str, Any]) -> list[int]:
    """Return the seeds of the runs that made an encoder, the last one first."""
    return [_seed(step["seed"]) for step in _steps(origin) if "seed" in step]


def origin_settings(origin: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of the runs that made an encoder, the last run first.

    The keys of the last run begin with "encoder's ", those of the run before it with "encoder's
    encoder's ", and so on.
    """
    found: dict[str, str] = {}
    prefix = ""
    for step in _steps(origin):
        settings = step.get("settings") or {"train.epochs": step.get("epochs")}
        if step.get("method") == UNKNOWN:  # only the content distinguishes such files
            settings = {**settings, "sha256": step.get("sha256")}
        prefix += "encoder's "
        found |= {f"{prefix}{key}": value for key, value in printable_settings(settings).items()}
    return found


def architecture_of(config: Config) -> str:
    """Return a description of the encoder of a configuration."""
    options = [f"{key} {value}" for key, value in config.encoder.arguments().items()]
    size = f"{config.data.image_size} pixels"
    bands = [counted(config.data.bands, "band")] if config.data.bands else []
    return ", ".join([printable_name(config.encoder.name), *options, size, *bands])


def printable_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as printable text, with shortened digests.

    Raises:
        ValueError: a key is not a name, or a value is not a plain value.
    """
    return {
        printable_name(key): printable_value(value)[: DIGEST_LENGTH if key in DIGESTS else None]
        for key, value in settings.items()
    }


def printable_value(value: Any) -> str:
    """Return the value of a setting as printable text.

    Raises:
        ValueError: it is not a plain value, or longer than `MAX_TEXT_LENGTH`.
    """
    if isinstance(value, list | tuple):
        return printable_name(", ".join(printable_value(item) for item in value))
    if not isinstance(value, str | int | float | None):
        raise ValueError(f"expected a setting, found {value!r:.40}")
    return printable_name("null" if value is None else str(value))


def printable_name(value: Any) -> str:
    """Return a name as printable text.

    Raises:
        ValueError: it is not text, or longer than `MAX_TEXT_LENGTH`.
    """
    if not isinstance(value, str) or len(value) > MAX_TEXT_LENGTH:
        raise ValueError(f"expected a name, found {value!r:.40}")
    return printable(value)


def _steps(origin: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the runs that made an encoder, the last one first; random weights yield none."""
    while isinstance(origin, Mapping) and (origin.get("method") or origin.get("supervised")):
        yield origin
        origin = origin.get("before", {})


def _seed(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"expected a seed, found {value!r:.40}")
    return value

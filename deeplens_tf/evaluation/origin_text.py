"""How an encoder came to its features, in words: from what a run's folder says of itself.

A run folder may come from a stranger: what is read of it is checked and made printable.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from deeplens_tf.config import Config
from deeplens_tf.runs.provenance import UNKNOWN
from deeplens_tf.terminal import printable

SUPERVISED = "supervised"
MAX_TEXT_LENGTH = 200
DIGEST_LENGTH = 12
DIGESTS = ("data", "sha256", "data of the probe")


def method_of(origin: Mapping[str, Any]) -> str:
    """Return how the features were made: the method, and whether labels had a part in it.

    Args:
        origin: as `training.runs.features_origin` returns.

    Returns:
        Such as "byol", "supervised", "byol + supervised"; "" for random weights.
    """
    method = "" if origin["method"] is None else named(origin["method"])
    supervised = SUPERVISED if origin.get("supervised") is True else ""
    return " + ".join(part for part in (method, supervised) if part)


def pretext_of(origin: Mapping[str, Any]) -> str:
    """Return the views of the pretraining; "" where there was none."""
    return ", ".join(named(name) for name in origin.get("pretexts", []))


def origin_seeds(origin: Mapping[str, Any]) -> list[int]:
    """Return the seeds of the runs that made an encoder, the last one's first."""
    return [_seed(step["seed"]) for step in _steps(origin) if "seed" in step]


def origin_settings(origin: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of the runs that made an encoder, each under its place in the row."""
    found: dict[str, str] = {}
    for place, step in enumerate(_steps(origin)):
        settings = step.get("settings") or {"train.epochs": step.get("epochs")}
        if step.get("method") == UNKNOWN:  # a file is told from others by its content alone
            settings = {**settings, "sha256": step.get("sha256")}
        whose = "encoder's " * (place + 1)
        found |= {f"{whose}{key}": value for key, value in shown_settings(settings).items()}
    return found


def architecture_of(config: Config) -> str:
    """Return the encoder that a configuration describes, in words."""
    options = [f"{key} {value}" for key, value in config.encoder.options().items()]
    size = f"{config.data.image_size} pixels"
    bands = [f"{config.data.bands} bands"] if config.data.bands else []
    return ", ".join([named(config.encoder.name), *options, size, *bands])


def shown_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as printable words, digests shortened."""
    return {
        named(key): shown(value)[: DIGEST_LENGTH if key in DIGESTS else None]
        for key, value in settings.items()
    }


def shown(value: Any) -> str:
    """Return the value of a setting as a printable text.

    Raises:
        ValueError: it is no plain value, or longer than any of ours.
    """
    if isinstance(value, list | tuple):
        return named(", ".join(shown(item) for item in value))
    if not isinstance(value, str | int | float | None):
        raise ValueError(f"{value!r:.40} where a setting should be")
    return named("null" if value is None else str(value))


def named(value: Any) -> str:
    """Return a name as a printable text.

    Raises:
        ValueError: it is no text, or longer than any of ours.
    """
    if not isinstance(value, str) or len(value) > MAX_TEXT_LENGTH:
        raise ValueError(f"{value!r:.40} where a name should be")
    return printable(value)


def _steps(origin: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the runs that made an encoder, the last one first; random weights are no run."""
    while isinstance(origin, Mapping) and (origin.get("method") or origin.get("supervised")):
        yield origin
        origin = origin.get("before", {})


def _seed(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r:.40} where a seed should be")
    return value

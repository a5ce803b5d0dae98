"""The values of what a regression predicts, for the images of a split."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplens_tf.config import FinetuneConfig
from deeplens_tf.data.catalog import NO_NUMBER, PLACES
from deeplens_tf.data.image_data import Example, ImageData
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.preprocessing.target import MASS, Target
from deeplens_tf.preprocessing.units import same_unit


def configured_target(config: FinetuneConfig, data: ImageData) -> Target:
    """Return what a configuration predicts by regression.

    Raises:
        RequestError: the data have no such column, or `log10` or a unit is set for the axion mass.
    """
    if config.target is None:
        if config.log10 or config.target_unit is not None:
            raise RequestError(
                "finetune.log10 and finetune.target_unit are those of finetune.target; the axion "
                "mass is log10 of eV"
            )
        return MASS
    _require_column(config.target, data)
    unit = config.target_unit
    if unit is None:
        unit = data.catalog_units[config.target]
    return Target(config.target, unit, config.log10)


def require_same_unit(data: ImageData, target: Target) -> None:
    """Refuse values in another unit than those that a model predicts; an unknown one is none.

    Raises:
        RequestError: the catalogue of the data states another unit for the column.
    """
    unit = data.catalog_units.get(target.column or "", "")
    if unit and target.unit and not same_unit(unit, target.unit):
        raise RequestError(
            f"{data.name}: its {target.column} is in {unit}, and the model predicts it in "
            f"{target.unit}: convert the column, or write its unit as {target.unit} if it is that"
        )


def target_values(data: ImageData, split: str, target: Target) -> NDArray[np.float64]:
    """Return what a model predicts of each image of a split, NaN where it is unknown.

    Shape (images,), in the unit of the target, or log10 of it.

    Raises:
        RequestError: the data have no such column, or the logarithm of a value does not exist.
        DataError: a value is infinite.
    """
    if target.column is None:
        return np.log10(data.index(split)["mass_ev"].to_numpy())
    _require_column(target.column, data)
    texts = data.catalog(split, [target.column])[target.column]
    values = np.array([_number(text) for text in texts], np.float64)
    _require(data, split, target, np.isinf(values), "is infinite", DataError)
    if not target.log10:
        return values
    why = "is not positive: train with finetune.log10=false, or leave the value empty"
    _require(data, split, target, values <= 0, why, RequestError)
    return np.log10(values)


def target_digests(data: ImageData, splits: Iterable[str], target: Target) -> dict[str, str]:
    """Return the SHA-256 of a column's values in each split, by the split's name.

    None of the axion masses, which the digest of a split's content has already.
    """
    if target.is_mass:
        return {}
    plain = replace(target, log10=False)  # whose values need no arithmetic that may round
    values = {split: target_values(data, split, plain) for split in splits}
    return {split: hashlib.sha256(found.tobytes()).hexdigest() for split, found in values.items()}


def target_of_batches(
    data: ImageData, split: str, target: Target
) -> Callable[[Example], tf.Tensor]:
    """Return a function from a batch of a split to its targets, float32 (batch, 1)."""
    if target.is_mass:
        return _log10_mass
    values = target_values(data, split, target).astype(np.float32)

    def of_batch(batch: Example) -> tf.Tensor:
        return tf.gather(tf.constant(values), batch["index"])[:, None]

    return of_batch


def columns_of_numbers(data: ImageData) -> list[str]:
    """Return the columns of the data's catalogue that a regression can predict."""
    return [name for name in data.catalog_units if name not in PLACES]


def _log10_mass(batch: Example) -> tf.Tensor:
    # The logarithm is taken in float64: masses near 1e-24 have few digits in float32.
    log10_mass_ev = tf.math.log(batch["mass_ev"]) / np.log(10.0)
    return tf.cast(log10_mass_ev[:, None], tf.float32)  # (batch, 1)


def _require_column(column: str, data: ImageData) -> None:
    known = columns_of_numbers(data)
    if column not in known:
        found = f"only {', '.join(known)}" if known else "and no catalogue with one"
        raise RequestError(
            f"finetune.target: {data.name} has no column of numbers {column!r}, {found}"
        )


def _number(text: str) -> float:
    return np.nan if text.lower() in NO_NUMBER else float(text)


def _require(
    data: ImageData,
    split: str,
    target: Target,
    wrong: NDArray[np.bool_],
    what: str,
    error: type[DataError | RequestError],
) -> None:
    if wrong.any():
        files = data.index(split)["file"]
        raise error(
            f"finetune.target: the {target.column} of {wrong.sum()} of {len(wrong)} images of the "
            f"{split} split, the first {files[int(wrong.argmax())]}, {what}"
        )

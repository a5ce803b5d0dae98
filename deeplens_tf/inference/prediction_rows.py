"""The rows of a table of predictions: one for each image, also for those that cannot be used."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deeplens_tf.errors import RequestError
from deeplens_tf.inference.model_input import ModelInput
from deeplens_tf.inference.new_images import Batch
from deeplens_tf.inference.table_files import Columns
from deeplens_tf.probes.output_columns import class_columns, value_columns
from deeplens_tf.probes.outputs import NotFiniteOutputs
from deeplens_tf.terminal import printable

UNLIKE_TRAINING = "unlike_training"
FIRST, LAST = ("file",), (UNLIKE_TRAINING, "reason")  # columns that a table of predictions has


def prediction_columns(source: ModelInput) -> Columns:
    """Return the columns of the table of a model and its images."""
    model = source.model
    outputs = [*_outputs_as_columns(source, _no_outputs(source))]
    places = source.images.place_columns
    names = ["file", *outputs, UNLIKE_TRAINING, *places, "reason"]
    texts = ["predicted"] if model.class_names else []
    return Columns(names, {*outputs} - {*texts}, source.images.number_columns(), {UNLIKE_TRAINING})


def prediction_rows(source: ModelInput, batch: Batch) -> pd.DataFrame:
    """Return the rows of some images, in their order.

    Raises:
        RequestError: an output is not finite.
    """
    model, files = source.model, batch.files
    outputs = _outputs(source, batch)
    spread = model.training_range
    flags = None if spread is None or not files else spread.unlike(batch.images)
    columns = {**_outputs_as_columns(source, outputs), UNLIKE_TRAINING: flags}
    found = pd.DataFrame(columns).astype({UNLIKE_TRAINING: object})
    # Row i of `found` is of the i-th image that can be used.
    found.index = pd.Index([i for i, name in enumerate(batch.listed) if name not in batch.reasons])
    table = found.reindex(range(len(batch.listed)))
    # Objects, since a file name need not be valid Unicode.
    table.insert(0, "file", pd.Series(batch.listed, dtype=object))
    reasons = [printable(batch.reasons.get(name, "")) for name in batch.listed]
    return table.assign(**batch.places, reason=reasons)


def _outputs(source: ModelInput, batch: Batch) -> NDArray[np.float32]:
    if not batch.files:
        return _no_outputs(source)
    try:
        return source.outputs(batch.images)
    except NotFiniteOutputs as error:
        raise RequestError(f"{source.file}: {error}: its training diverged") from error


def _no_outputs(source: ModelInput) -> NDArray[np.float32]:
    return np.empty((0, len(source.model.class_names) or 2), np.float32)


def _outputs_as_columns(source: ModelInput, outputs: NDArray[np.float32]) -> dict[str, NDArray]:
    model = source.model
    if model.class_names:
        return class_columns(outputs, model.class_names)
    std = outputs[:, 1] if model.head.gaussian else None
    return value_columns(outputs[:, 0], std, model.target)

"""The outputs of a model as the columns of a table: `predicted` and what belongs to it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.preprocessing.target import Target


def class_columns(probabilities: ArrayLike, class_names: Sequence[str]) -> dict[str, NDArray]:
    """Return the class of the largest probability as `predicted`, and `p_<class>` for each class.

    Args:
        probabilities: shape (n, classes).
        class_names: one per column of `probabilities`.

    Returns:
        Arrays of shape (n,), the probabilities as float64.
    """
    names, values = np.asarray(class_names, object), np.asarray(probabilities, np.float64)
    columns = {f"p_{name}": values[:, k] for k, name in enumerate(class_names)}
    return {"predicted": names[values.argmax(axis=1)], **columns}


def value_columns(
    predicted: ArrayLike, std: ArrayLike | None, target: Target
) -> dict[str, NDArray]:
    """Return predicted values and their standard deviations, as `Target.headers` names them.

    Args:
        predicted: shape (n,).
        std: shape (n,); None leaves the column empty.
        target: the quantity.
    """
    values = np.asarray(predicted)
    deviations = np.full(len(values), np.nan) if std is None else np.asarray(std)
    _, of_values, of_deviations = target.headers
    return {of_values: values, of_deviations: deviations}

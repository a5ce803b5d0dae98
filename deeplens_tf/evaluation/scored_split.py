"""The images that a report is about, and errors that name the file or the data at fault."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import keras

from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.errors import RequestError
from deeplens_tf.probes.frozen_features import MissingTargets
from deeplens_tf.probes.outputs import NotFiniteOutputs
from deeplens_tf.terminal import print_lines


def split_to_score(data: PreparedData) -> str:
    """Return "test", or "validation" (and report it) if there is no test split.

    Raises:
        RequestError: there is neither.
    """
    if data.count("test"):
        return "test"
    if not data.count("validation"):
        raise RequestError(f"{data.folder}: neither a test nor a validation split to score")
    print_lines(
        "no test split (a folder <name>_test next to the data): scoring the validation split"
    )
    return "validation"


def require_image_shape(model: keras.Model, data: PreparedData) -> None:
    """Refuse data whose image size or number of bands differs from the model's.

    Raises:
        RequestError: they differ.
    """
    if tuple(model.image_shape) != data.image_shape:
        raise RequestError(
            f"the model takes images of {tuple(model.image_shape)} (height, width, bands), "
            f"and the data has {data.image_shape}: set data.image_size and data.bands"
        )


@contextlib.contextmanager
def as_request_errors(file: Path, data: PreparedData) -> Iterator[None]:
    """Turn errors of a model's outputs or of a probe's targets into a `RequestError`.

    Args:
        file: that the model was read from, named if its outputs are not finite.
        data: the opened data, whose folder is named if labels or masses are missing.

    Raises:
        RequestError: for either error.
    """
    try:
        yield
    except NotFiniteOutputs as error:
        raise RequestError(
            f"{file}: {error}: its training diverged, repeat it with a smaller "
            "optimizer.learning_rate"
        ) from error
    except MissingTargets as error:
        raise RequestError(f"{data.folder}: {error}") from error

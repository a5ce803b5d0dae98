"""Saving and loading `.keras` files, which may be untrusted: safe mode, errors of one line."""

from pathlib import Path

import keras

from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import draft_file, writing
from deeplens_tf.files.products import MODEL, encoder_file
from deeplens_tf.models import ENCODER_CLASSES, DownstreamModel
from deeplens_tf.saving.archive_checks import check_model_file

MAX_REASON_LENGTH = 300


def load_encoder(path_or_name: str | Path) -> keras.Model:
    """Load an encoder, image -> feature vector.

    Args:
        path_or_name: a run folder, or a `.keras` file of an encoder or of a fine-tuned model.

    Returns:
        The encoder; its `image_shape` is the (height, width, bands) of its images, which have
        values in [0, 1].

    Raises:
        RequestError: no such file, or one without an encoder of this package.
    """
    path = encoder_file(Path(path_or_name))
    model = _load(path)
    encoder = model.encoder if isinstance(model, DownstreamModel) else model
    if not isinstance(encoder, ENCODER_CLASSES):
        raise RequestError(f"{path}: holds a {type(model).__name__}, not an encoder of deeplens_tf")
    return encoder


def load_model(path: str | Path) -> DownstreamModel:
    """Load a fine-tuned model, image -> class probabilities or mass.

    Args:
        path: a run folder, or a `.keras` file.

    Raises:
        RequestError: no such file, or one without a fine-tuned model of this package.
    """
    path = Path(path)
    if path.is_dir():
        path /= MODEL
        if not path.is_file():
            raise RequestError(
                f"{path.parent}: holds no fine-tuned model; load_encoder reads an encoder"
            )
    model = _load(path)
    if not isinstance(model, DownstreamModel):
        raise RequestError(f"{path}: holds a {type(model).__name__}, not a fine-tuned model")
    return model


def save_encoder(encoder: keras.Model, path: str | Path) -> None:
    """Write an encoder to a file that `load_encoder` reads.

    Args:
        encoder: built by `build_encoder`, alone or within a self-supervised model.
        path: ends in `.keras`; an existing file is replaced.

    Raises:
        ValueError: not an encoder of this package, or another ending.
        ResourceError: the file cannot be written; an existing file is unchanged.
    """
    if not isinstance(encoder, ENCODER_CLASSES):
        names = ", ".join(kind.__name__ for kind in ENCODER_CLASSES)
        advice = "; pass its encoder" if hasattr(encoder, "encoder") else ""
        raise ValueError(
            f"encoder must be one of {names}. Received: {type(encoder).__name__}{advice}"
        )
    if Path(path).suffix != ".keras":
        raise ValueError(f"path must end in .keras. Received: path={path}")
    save_model(encoder, Path(path))


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model completely or not at all, while Keras writes in place.

    Raises:
        ResourceError: the file cannot be written; an existing file is unchanged.
    """
    with writing(path), draft_file(path, path.suffix, durable=True) as draft:
        model.save(draft)


def _load(path: Path) -> keras.Model:
    if not path.is_file():
        raise RequestError(f"{path}: no such file")
    try:
        check_model_file(path)
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        _require_built(model)
        return model
    # Keras raises almost any type of exception for an unexpected file.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:MAX_REASON_LENGTH]
        raise RequestError(f"{path}: not a model that can be loaded safely: {reason}") from error


def _require_built(model: keras.Model) -> None:
    """Refuse a network without variables: Keras would skip the weights and draw others later."""
    encoder = model.encoder if isinstance(model, DownstreamModel) else model
    if not encoder.built:
        raise UnusableFile("its recipe does not build the encoder, so its weights are not read")

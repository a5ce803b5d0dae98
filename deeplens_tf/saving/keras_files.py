"""Reading `.keras` files, which may come from strangers: safe mode, and one line on a misfit."""

from pathlib import Path

import keras

from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import draft_file, writing
from deeplens_tf.files.products import encoder_file
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.models.resnet import ResNet50
from deeplens_tf.models.vit import VisionTransformer
from deeplens_tf.saving.archive_checks import check_model_file

ENCODER_KINDS = (VisionTransformer, ResNet50)
MAX_REASON_LENGTH = 300


def load_encoder(path_or_name: str | Path) -> keras.Model:
    """Load an encoder, image -> feature vector.

    Args:
        path_or_name: a run folder, or a `.keras` file of an encoder or of a fine-tuned model.

    Returns:
        The encoder; `image_shape` says what it takes, (height, width, bands) in [0, 1].

    Raises:
        RequestError: no such file, or one that holds no encoder of this package.
    """
    path = encoder_file(Path(path_or_name))
    model = _load(path)
    encoder = model.encoder if isinstance(model, DownstreamModel) else model
    if not isinstance(encoder, ENCODER_KINDS):
        raise RequestError(f"{path}: holds a {type(model).__name__}, not an encoder of deeplens_tf")
    return encoder


def load_downstream(path: Path) -> DownstreamModel:
    """Load a fine-tuned model.

    Raises:
        RequestError: no such file, or one that holds no fine-tuned model of this package.
    """
    model = _load(path)
    if not isinstance(model, DownstreamModel):
        raise RequestError(f"{path}: holds a {type(model).__name__}, not a fine-tuned model")
    return model


def _load(path: Path) -> keras.Model:
    if not path.is_file():
        raise RequestError(f"{path}: no such file")
    try:
        check_model_file(path)
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        _require_built(model)
        return model
    # Keras raises almost any kind for a file that is not what it expects.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:MAX_REASON_LENGTH]
        raise RequestError(f"{path}: not a model that can be loaded safely: {reason}") from error


def _require_built(model: keras.Model) -> None:
    """Refuse a network without variables: Keras leaves out their values, and draws others later."""
    encoder = model.encoder if isinstance(model, DownstreamModel) else model
    if not encoder.built:
        raise UnusableFile("its recipe does not build the encoder, so its weights are not read")


def save_model(model: keras.Model, path: Path) -> None:
    """Write `model` to `path` as a whole or not at all: Keras itself writes in place.

    Raises:
        ResourceError: it cannot be written; an earlier file is then still in place.
    """
    with writing(path), draft_file(path, path.suffix, durable=True) as draft:
        model.save(draft)

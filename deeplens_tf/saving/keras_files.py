"""Reading `.keras` files, which may come from strangers: safe mode, and one line on a misfit."""

from pathlib import Path

import keras

from deeplens_tf.errors import RequestError, UnusableFile
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


def encoder_file(path: Path) -> Path:
    """Return the file that `path`, a file or a run folder, stands for.

    Raises:
        RequestError: neither, or a folder without an encoder.
    """
    if path.is_file():
        return path
    for name in ("encoder.keras", "model.keras"):
        if (path / name).is_file():
            return path / name
    lacks = "the folder holds no encoder.keras" if path.is_dir() else "no such file or run folder"
    raise RequestError(f"{path}: {lacks}; pretrain first, or give --encoder none")


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

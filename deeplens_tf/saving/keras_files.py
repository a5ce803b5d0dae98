"""Saving and loading `.keras` files, which may be untrusted: safe mode, errors of one line."""

import itertools
import tempfile
from pathlib import Path

import keras
import numpy as np

from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import draft_file, writing
from deeplens_tf.files.products import ENCODER, MODEL, encoder_file, without_product
from deeplens_tf.files.shipped import shipped_encoders
from deeplens_tf.models import (
    ENCODER_CLASSES,
    DownstreamModel,
    RawImageModel,
    RegisteredEncoder,
    SelfSupervisedModel,
)
from deeplens_tf.models.own_defaults import own_defaults
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.saving.archive_checks import check_model_file

MAX_REASON_LENGTH = 300
WITH_ENCODER = (DownstreamModel, SelfSupervisedModel)


def load_encoder(path_or_name: str | Path) -> keras.Model:
    """Load an encoder, image -> feature vector.

    Args:
        path_or_name: the name of a shipped encoder, see `shipped_encoders`; a run folder; a
            `.keras` file of an encoder, of a fine-tuned model, of a self-supervised one or of an
            exported one; or `hf://OWNER/NAME[@REVISION][/FILE.keras]`, a file of the Hugging Face
            Hub, by default `encoder.keras` or else `model.keras`, which the extra `hf` fetches. A
            text that is a shipped name is not taken for a path; `./name` and a `Path` are.

    Returns:
        The encoder. `encoder.features(raw_images)` prepares pixels as files have them in the way
        of its training, which its `preprocessing` describes (None in files of earlier versions),
        and returns their features. `encoder.predict` takes images of its `image_shape`, (height,
        width, bands), with values in [0, 1].

    Raises:
        RequestError: no such file, one without an encoder of this package, or a shipped file or one
            of the hub that was changed.
        ResourceError: the hub cannot be reached and its cache does not have the file.
    """
    path = encoder_file(path_or_name)
    model = _load(path)
    encoder = _encoder_in(model)
    if not isinstance(encoder, ENCODER_CLASSES):
        raise RequestError(f"{path}: holds a {type(model).__name__}, not an encoder of deeplens_tf")
    return encoder


def load_model(path: str | Path) -> DownstreamModel | SelfSupervisedModel:
    """Load a fine-tuned model, image -> class probabilities or mass, or a self-supervised model.

    A self-supervised model has all its weights, BYOL's target network too, and is not compiled.

    Args:
        path: a run folder, for its fine-tuned model, or a `.keras` file that `model.save` wrote.

    Raises:
        RequestError: no such file, or one without such a model of this package.
    """
    path = _model_file(Path(path))
    model = _load(path)
    if not isinstance(model, WITH_ENCODER):
        raise RequestError(
            f"{path}: holds a {type(model).__name__}, not a fine-tuned model or a self-supervised "
            "one; load_encoder reads an encoder"
        )
    return model


def load_fine_tuned(path: str | Path) -> DownstreamModel:
    """Load a fine-tuned model, image -> class probabilities or mass.

    Args:
        path: a run folder, or a `.keras` file.

    Raises:
        RequestError: no such file, or one without a fine-tuned model of this package.
    """
    path = _model_file(Path(path))
    model = _load(path)
    if not isinstance(model, DownstreamModel):
        raise RequestError(f"{path}: holds a {type(model).__name__}, not a fine-tuned model")
    return model


def load_network(path: Path) -> keras.Model:
    """Load what a `.keras` file has for new images: a fine-tuned model or an encoder.

    Raises:
        RequestError: no such file, or one without such a model of this package.
    """
    model = _load(path)
    if not isinstance(model, (DownstreamModel, *ENCODER_CLASSES)):
        raise RequestError(
            f"{path}: holds a {type(model).__name__}, not a fine-tuned model or an encoder; "
            "save_encoder(load_encoder(path), file) writes its encoder"
        )
    return model


def save_encoder(
    encoder: keras.Model, path: str | Path, preprocessing: Preprocessing | None = None
) -> None:
    """Write an encoder to a file that `load_encoder` reads.

    Args:
        encoder: built by `build_encoder`, alone or within a self-supervised model.
        path: ends in `.keras`; an existing file is replaced.
        preprocessing: `preprocessing` of the data that the encoder was trained on, which becomes
            the encoder's, so that its file can prepare raw images; None to keep the encoder's.

    Raises:
        ValueError: not an encoder of this package, another ending, or a preprocessing for images
            of another shape.
        ResourceError: the file cannot be written; an existing file is unchanged.
    """
    if not isinstance(encoder, ENCODER_CLASSES):
        advice = "pass its encoder" if hasattr(encoder, "encoder") else "see register_encoder"
        raise ValueError(
            "encoder must be one that build_encoder returns, of this package or registered. "
            f"Received: {type(encoder).__name__}; {advice}"
        )
    if Path(path).suffix != ".keras":
        raise ValueError(f"path must end in .keras. Received: path={path}")
    if preprocessing is not None:
        if preprocessing.image_shape != tuple(encoder.image_shape):
            raise ValueError(
                f"preprocessing must give images of {tuple(encoder.image_shape)}. "
                f"Received: {preprocessing.image_shape}"
            )
        encoder.preprocessing = preprocessing
    save_model(encoder, Path(path))


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model completely or not at all, while Keras writes in place.

    Raises:
        ResourceError: the file cannot be written; an existing file is unchanged.
    """
    with writing(path), draft_file(path, path.suffix, durable=True) as draft:
        model.save(draft)


def require_loadable(model: keras.Model) -> None:
    """Refuse a model with a registered encoder whose file could not be read again.

    Called before a training, so that its product does not turn out to be lost after it.

    Raises:
        RequestError: the file of the model cannot be read, or gives another model.
    """
    if not isinstance(_encoder_in(model), RegisteredEncoder):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        model.save(path)
        loaded = _load(path)
    pairs = itertools.zip_longest(model.get_weights(), loaded.get_weights())
    if not all(np.array_equal(ours, theirs) for ours, theirs in pairs):
        raise RequestError(
            f"{_encoder_in(model).encoder_name}: a model that is saved and loaded has other "
            "weights; its function must build the same network for the same options"
        )


def _model_file(path: Path) -> Path:
    """Return a file itself, or the fine-tuned model of a run folder."""
    if not path.exists() and (str(path) in shipped_encoders() or path.parts[0] == "hf:"):
        raise RequestError(
            f"{path}: names an encoder, which predicts nothing: finetune --encoder trains a model"
        )
    if not path.is_dir():
        return path
    if not (path / MODEL).is_file():
        raise RequestError(without_product(path, f"holds no fine-tuned model{_instead(path)}"))
    return path / MODEL


def _instead(run: Path) -> str:
    """Return what a run folder without a fine-tuned model holds."""
    if (run / ENCODER).is_file():
        return ", only an encoder: embed takes it, load_encoder reads it, finetune trains a model"
    return ""


def _load(path: Path) -> keras.Model:
    if not path.is_file():
        raise RequestError(f"{path}: no such file")
    try:
        check_model_file(path)
        with own_defaults():
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        if isinstance(model, RawImageModel):  # exported: the network has its preprocessing
            model = model.network
        _require_built(model)
        return model
    # Keras raises almost any type of exception for an unexpected file.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:MAX_REASON_LENGTH]
        raise RequestError(f"{path}: not a model that can be loaded safely: {reason}") from error


def _require_built(model: keras.Model) -> None:
    """Refuse a network without variables: Keras would skip the weights and draw others later."""
    if not _encoder_in(model).built:
        raise UnusableFile("its recipe does not build the encoder, so its weights are not read")


def _encoder_in(model: keras.Model) -> keras.Model:
    return model.encoder if isinstance(model, WITH_ENCODER) else model

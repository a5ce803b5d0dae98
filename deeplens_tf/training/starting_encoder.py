"""The encoder that a training starts from: with random weights, or of a file that fits."""

import shutil
from pathlib import Path

import keras

from deeplens_tf.config import Config
from deeplens_tf.configuration_keys import configuration_keys
from deeplens_tf.data.matching import other_bands, other_parts, require_same_preprocessing
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.files.products import encoder_file
from deeplens_tf.models import build_encoder
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_encoder
from deeplens_tf.terminal import print_lines


def new_encoder(config: Config, data: PreparedData) -> keras.Model:
    """Return the configured encoder, with random weights and the preprocessing of the data.

    Raises:
        RequestError: the encoder does not fit the images.
    """
    with configuration_keys():
        encoder = build_encoder(config.encoder.name, data.image_shape, **config.encoder.arguments())
    encoder.preprocessing = data.preprocessing
    return encoder


def trained_encoder(
    path: str, expected: keras.Model, config: Config, data: PreparedData
) -> keras.Model:
    """Return the encoder of a name, a run folder or a file.

    Args:
        path: of the encoder, or its name.
        expected: the configured encoder.
        config: of the run.
        data: that it will be trained on.

    Raises:
        RequestError: there is none, its architecture is not the configured one, or it was trained
            on images of another size, fit, number of bands or pixel scale, or of other bands
            without `data.other_bands`.
    """
    loaded, own = load_encoder(path), data.preprocessing
    trained = loaded.preprocessing or own
    where = (path, config.data.path, config.data.other_bands)
    require_same_preprocessing(trained, data, *where)
    _require_same_architecture(expected, loaded, path)
    print_lines(*other_bands(trained, data, path), *other_parts(trained, data, path))
    loaded.preprocessing = own.completed_by(trained)
    return loaded


def starting_preprocessing(path: str, config: Config) -> Preprocessing | None:
    """Return the preprocessing of an encoder, if the data take the interval of their scale from it.

    Args:
        path: of the encoder, or its name.
        config: of the run.

    Raises:
        RequestError: there is none.
    """
    if config.data.scale_over != "data":
        return None
    found: Preprocessing | None = load_encoder(path).preprocessing
    return found


def initial_file(config: Config, run_dir: str | None) -> Path | None:
    """Return the file of the encoder that a pretraining starts from; None for random weights.

    It is the run's own copy once there is one, so that resuming a run needs no other file.

    Raises:
        RequestError: there is no such file.
    """
    if config.pretrain.encoder is None:
        return None
    if run_dir is not None and (kept := Run(Path(run_dir)).initial_encoder).is_file():
        return kept
    return encoder_file(config.pretrain.encoder)


def keep_initial_encoder(file: Path, run: Run) -> None:
    """Copy the encoder's file into the run's folder, unless it is there."""
    if not run.initial_encoder.is_file():
        with file.open("rb") as source:
            write_whole(
                run.initial_encoder,
                lambda copy: shutil.copyfileobj(source, copy),
                durable=True,
            )


def pretraining_encoder(config: Config, data: PreparedData, file: Path | None) -> keras.Model:
    """Return the encoder that a pretraining starts from.

    Its weights are copied into the configured encoder, which is wholly trainable and has the
    configured precision, whatever the file's had.

    Args:
        config: of the run.
        data: that it will be trained on.
        file: see `initial_file`.

    Raises:
        RequestError: see `trained_encoder`.
    """
    encoder = new_encoder(config, data)
    if file is not None:
        loaded = trained_encoder(str(file), encoder, config, data)
        encoder.set_weights(loaded.get_weights())
        encoder.preprocessing = loaded.preprocessing
    return encoder


def _require_same_architecture(expected: keras.Model, loaded: keras.Model, path: str) -> None:
    """Refuse an encoder that differs from the one of the configuration and the data."""
    wanted, found = _architecture(expected), _architecture(loaded)
    differing = [key for key in sorted(wanted | found) if wanted.get(key) != found.get(key)]
    if differing:
        listed = ", ".join(f"{k} {found.get(k)} instead of {wanted.get(k)}" for k in differing)
        raise RequestError(f"{path}: its architecture differs from the configuration's: {listed}")


def _architecture(encoder: keras.Model) -> dict[str, object]:
    config = {
        key: value
        for key, value in encoder.get_config().items()
        if key not in ("dtype", "trainable", "name", "preprocessing")
    }
    config["image_shape"] = tuple(config["image_shape"])
    return config | {"encoder": type(encoder).__name__}

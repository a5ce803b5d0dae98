"""The files that runs produce: their names, and the file that a path refers to."""

from pathlib import Path

from deeplens_tf.errors import RequestError
from deeplens_tf.files.hub_files import hub_file, hub_name, is_hub_name, pinned, repository_name
from deeplens_tf.files.shipped import SHIPPED, place_of, suggestion

ENCODER = "encoder.keras"
MODEL = "model.keras"
# Format -> name of what `export` writes.
EXPORTS = {
    "savedmodel": "saved_model",
    "onnx": "model.onnx",
    "tflite": "model.tflite",
    "keras": "model.keras",
}


def encoder_place(path_or_name: str | Path) -> Path:
    """Return the file or the folder that a shipped name, a name of the hub or a path refers to.

    Raises:
        RequestError: see `place_of` and `hub_file`.
        ResourceError: see `hub_file`.
    """
    if is_hub_name(path_or_name):
        return hub_file(str(path_or_name), (ENCODER, MODEL))
    return place_of(path_or_name)


def encoder_file(path_or_name: str | Path) -> Path:
    """Return the encoder's file that a name, a file or a run folder refers to.

    In a run folder it is the encoder or, after fine-tuning, the model, which contains an encoder.

    Raises:
        RequestError: there is no such file, the folder contains neither, or see `encoder_place`.
        ResourceError: see `encoder_place`.
    """
    path = encoder_place(path_or_name)
    if path.is_file():
        return path
    for name in (ENCODER, MODEL):
        if (path / name).is_file():
            return path / name
    problem = f"the folder contains no {ENCODER}" if path.is_dir() else "no such file or run folder"
    advice = "pretrain first, or give a run folder, a .keras file or"
    raise RequestError(without_product(path, f"{problem}; {advice} {suggestion(path_or_name)}"))


def without_product(folder: Path, otherwise: str) -> str:
    """Return the line on a folder that lacks what is asked for.

    Args:
        folder: of a run, whose training may not have got so far, or any other.
        otherwise: what to say of a folder that is no run, or has another product.
    """
    started = (folder / "config.yaml").is_file()
    if started and not any((folder / name).is_file() for name in (ENCODER, MODEL)):
        return (
            f"{folder}: holds no model; its run has not finished, and --resume --run-dir {folder} "
            "continues it"
        )
    return f"{folder}: {otherwise}"


def pinned_encoder(path_or_name: str) -> str:
    """Return a name of the hub with its commit and file; any other text as it is.

    Raises:
        RequestError: see `encoder_place`.
        ResourceError: see there.
    """
    return pinned(path_or_name, (ENCODER, MODEL))


def published_name(file: Path) -> str | None:
    """Return the name of a file that came with the package or from the hub; None for the user's.

    Nothing is written into the folder of such a file.
    """
    if (name := hub_name(file)) is not None:
        return repository_name(name)
    folder = file.parent.resolve()
    return folder.name if folder.is_relative_to(SHIPPED.resolve()) else None

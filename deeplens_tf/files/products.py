"""The files that runs produce: their names, and which one a path stands for."""

from pathlib import Path

from deeplens_tf.errors import RequestError

ENCODER = "encoder.keras"
MODEL = "model.keras"


def encoder_file(path: Path) -> Path:
    """Return the file of an encoder that `path`, a file or a run folder, stands for.

    A run folder stands for its encoder, or for its fine-tuned model, which contains one.

    Raises:
        RequestError: neither a file nor a folder with one of these.
    """
    if path.is_file():
        return path
    for name in (ENCODER, MODEL):
        if (path / name).is_file():
            return path / name
    lacks = f"the folder holds no {ENCODER}" if path.is_dir() else "no such file or run folder"
    raise RequestError(f"{path}: {lacks}; pretrain first, or give --encoder none")

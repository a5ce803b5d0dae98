"""The files that runs produce: their names, and the file that a path refers to."""

from pathlib import Path

from deeplens_tf.errors import RequestError

ENCODER = "encoder.keras"
MODEL = "model.keras"


def encoder_file(path: Path) -> Path:
    """Return the encoder's file that `path`, a file or a run folder, refers to.

    In a run folder it is the encoder or, after fine-tuning, the model, which contains an encoder.

    Raises:
        RequestError: there is no such file, or the folder contains neither.
    """
    if path.is_file():
        return path
    for name in (ENCODER, MODEL):
        if (path / name).is_file():
            return path / name
    problem = f"the folder contains no {ENCODER}" if path.is_dir() else "no such file or run folder"
    raise RequestError(f"{path}: {problem}; pretrain first, or give a run folder or a .keras file")

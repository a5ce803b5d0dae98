"""The files that runs produce: their names, and the file that a path refers to."""

from pathlib import Path

from deeplens_tf.errors import RequestError
from deeplens_tf.files.shipped import place_of, suggestion

ENCODER = "encoder.keras"
MODEL = "model.keras"
# Format -> name of what `export` writes.
EXPORTS = {
    "savedmodel": "saved_model",
    "onnx": "model.onnx",
    "tflite": "model.tflite",
    "keras": "model.keras",
}


def encoder_file(path_or_name: str | Path) -> Path:
    """Return the encoder's file that a shipped name, a file or a run folder refers to.

    In a run folder it is the encoder or, after fine-tuning, the model, which contains an encoder.

    Raises:
        RequestError: there is no such file, the folder contains neither, or see `place_of`.
    """
    path = place_of(path_or_name)
    if path.is_file():
        return path
    for name in (ENCODER, MODEL):
        if (path / name).is_file():
            return path / name
    problem = f"the folder contains no {ENCODER}" if path.is_dir() else "no such file or run folder"
    raise RequestError(
        f"{path}: {problem}; pretrain first, or give a run folder, a .keras file or "
        f"{suggestion(path_or_name)}"
    )

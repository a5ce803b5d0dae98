"""Exporting a trained model, with its preprocessing inside, for programs without this package."""

from pathlib import Path
from typing import Any

import keras

from deeplens_tf import __version__
from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import draft_folder, replace_folder, writing
from deeplens_tf.files.products import EXPORTS, encoder_file, published_name
from deeplens_tf.files.shipped import CARD, sha256_of
from deeplens_tf.inference.export_formats import INPUT, WRITERS, require_converter
from deeplens_tf.inference.model_card import card
from deeplens_tf.models.raw_model import RawImageModel
from deeplens_tf.runs.run_folder import run_of
from deeplens_tf.saving.keras_files import load_network
from deeplens_tf.terminal import print_lines

REFUSED = "every output of an image that cannot be used is NaN, where deeplens_tf raises an error"


def export(run: str | Path, format: str, out: str | Path | None = None) -> Path:
    """Write a model that takes raw pixels, in a folder with its model card.

    The preprocessing of the training is a part of the exported graph: the outputs are those of
    `predict_images`, or of an encoder's `features`, for the same pixels in float32.

    Args:
        run: a run folder, the `.keras` file of a fine-tuned model or of an encoder, the name of
            a shipped encoder, or `hf://OWNER/NAME`, see `load_encoder`.
        format: "savedmodel", "onnx", "tflite" or "keras".
        out: folder to write; None for `exports/<format>` in the run or next to the file, of one
            known by its name `exports/<name>/<format>` here. An earlier export in it is replaced.

    Returns:
        The exported file, or the folder of a SavedModel.

    Raises:
        RequestError: no such model; another format, or one whose converter is not installed; a
            preprocessing that a graph cannot hold, such as the interval zscale; `out` contains
            something else.
        OSError: `out` cannot be written.
    """
    if format not in EXPORTS:
        raise RequestError(f"format must be one of {', '.join(EXPORTS)}. Received: {format!r:.60}")
    require_converter(format)
    file = encoder_file(run)
    model = _with_pixels(file, format)
    target = Path(out) if out else _default_target(file, format)
    _require_free(target)
    with draft_folder(target) as draft, writing(target):
        WRITERS[format](model, draft / EXPORTS[format])
        (draft / CARD).write_text(card(model, file, format), encoding="utf-8")
        replace_folder(draft, target)
    return target / EXPORTS[format]


def _with_pixels(file: Path, format: str) -> RawImageModel:
    network = load_network(file)
    run = run_of(file)
    if run is not None and not run.facts().get("finished"):
        print_lines(f"{run.folder}: unfinished: its latest state is exported")
    precision = getattr(network, "encoder", network).compute_dtype
    if precision != "float32" and format in ("onnx", "tflite"):
        raise RequestError(
            f"{file}: computes in {precision}, whose rounding errors differ between programs: "
            "export it as savedmodel or keras"
        )
    try:
        about = _about(RawImageModel(network), file)
        return RawImageModel(network, about, name="raw_image_model")
    except ValueError as error:
        raise RequestError(f"{file}: cannot be exported with its preprocessing: {error}") from error


def _about(model: RawImageModel, file: Path) -> dict[str, Any]:
    """Return what the metadata of an exported file say."""
    name, columns = model.output
    how = model.raw_pixels.how
    return {
        "deeplens_tf": __version__,
        "keras": keras.__version__,
        "source_sha256": sha256_of(file),
        "input": {
            "name": INPUT,
            "shape": [None, *model.raw_pixels.input_shape],
            "dtype": "float32",
            "values": "raw pixels, as the files of the training have them",
        },
        "output": {
            "name": name,
            "width": model.width,
            **({"columns": columns} if columns else {}),
            "unusable_images": REFUSED,
        },
        "preprocessing": how.to_dict(),
    }


def _default_target(file: Path, format: str) -> Path:
    name = published_name(file)
    return Path("exports", name, format) if name else file.parent / "exports" / format


def _require_free(target: Path) -> None:
    """Refuse to replace anything but an export."""
    own = {*EXPORTS.values(), CARD}
    names = {path.name for path in target.iterdir()} if target.is_dir() else set()
    # A folder with a model card alone may be any project.
    if target.exists() and (not target.is_dir() or names - own or names == {CARD}):
        raise RequestError(f"{target} contains something else: give --out another folder")

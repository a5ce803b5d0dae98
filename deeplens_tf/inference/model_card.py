"""The model card beside an exported model, in the format of Hugging Face's README.md."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deeplens_tf.errors import UnusableFile
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.files.plain_yaml import yaml_text
from deeplens_tf.files.products import EXPORTS, published_name
from deeplens_tf.files.shipped import CARD, card_head, shipped_encoders
from deeplens_tf.models.raw_model import RawImageModel
from deeplens_tf.runs.provenance import features_origin
from deeplens_tf.runs.run_folder import Run, run_of

LIBRARIES = {"savedmodel": "tf", "onnx": "onnx", "tflite": "tflite", "keras": "keras"}
SCORES = ("macro_auc", "accuracy", "balanced_accuracy", "r2", "mae_dex", "mae", "coverage_68")
KINDS = {
    "features": "An encoder: image to a vector of features",
    "probabilities": "A classifier: image to the probability of each class",
    "prediction": "A regression: image to a quantity, and its standard deviation if it has one",
}
RUNNERS = {
    "savedmodel": """\
import numpy as np
import tensorflow as tf

images = np.load("images.npy").astype("float32")  # {shape}
model = tf.saved_model.load("{file}")
outputs = model.signatures["serving_default"](images=tf.constant(images))
print(outputs["{output}"].numpy())""",
    "onnx": """\
import numpy as np
import onnxruntime

images = np.load("images.npy").astype("float32")  # {shape}
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
(outputs,) = session.run(["{output}"], {{"images": images}})
print(outputs)""",
    "tflite": """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter

images = np.load("images.npy").astype("float32")  # {shape}
interpreter = Interpreter("{file}")
place = interpreter.get_input_details()[0]["index"]
interpreter.resize_tensor_input(place, images.shape)
interpreter.allocate_tensors()
interpreter.set_tensor(place, images)
interpreter.invoke()
print(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))""",
    "keras": """\
import keras
import numpy as np
import deeplens_tf.models  # which registers the classes in the file

images = np.load("images.npy").astype("float32")  # {shape}
model = keras.saving.load_model("{file}")
print(model.predict(images))

# Or its encoder, from this folder or from its copy on the Hugging Face Hub:
import deeplens_tf as dl

encoder = dl.load_encoder("{file}")  # or "hf://OWNER/NAME"
print(encoder.features(images))""",
}
CARD_PAGE = """\
# {name}

{kind}. Written by deeplens_tf {version} for {library}.

{runner}

## Input and output

- Input `images`: {shape}, float32.
  Pixels are those of the training's files. The preprocessing is inside: {preprocessing}.
- Output `{output}`: (batch, {width}){columns}.
- An image that cannot be used (NaN, constant, a fill value far from the other pixels) gets NaN in
  every output. Pixels below 1e-38 count as 0.

## Training

{training}

## Scores

{scores}

## Limits

- It was trained on the images described above. Nothing is known of its scores on images of another
  instrument, pixel scale, PSF or noise; the graph does not notice them.
- The file does not read the pixel scale of an image: give it those of the training's pixel scale
  ({pixel_scale}).
"""


def card(model: RawImageModel, file: Path, format: str) -> str:
    """Return the model card of an exported model.

    Args:
        model: that is exported.
        file: that it was read from, whose run folder tells of its training and its scores.
        format: of the export.
    """
    run, about = run_of(file), json.loads(model.about)
    facts = {} if run is None else run.facts()
    reports = {} if run is None else dict(_reports(run))
    shipped = _shipped_head(file)
    head = yaml_text(_head(shipped, format, about, facts))
    values = _of_model(model, about, format)
    page = CARD_PAGE.format(
        name=published_name(file) or file.parent.resolve().name,
        version=about["deeplens_tf"],
        library=LIBRARIES[format],
        training=_training(run, facts),
        scores=_scores(reports, shipped.get("probe")),
        **values,
    )
    return f"---\n{head}---\n\n{page}"


def _head(
    shipped: Mapping[str, Any], format: str, about: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    tasks = {"features": "image-feature-extraction", "probabilities": "image-classification"}
    task = tasks.get(about["output"]["name"])
    return {
        **({"license": shipped["license"]} if shipped else {}),
        "library_name": LIBRARIES[format],
        **({"pipeline_tag": task} if task else {}),
        "tags": ["strong-gravitational-lensing", "deeplens_tf"],
        "deeplens_tf": {
            **about,
            "format": format,
            "data_fingerprint": facts.get("dataset_fingerprint"),
        },
    }


def _shipped_head(file: Path) -> dict[str, Any]:
    """Return the head of the card of a shipped encoder; {} of another file."""
    path = file.with_name(CARD)
    return card_head(path) if path in shipped_encoders().values() else {}


def _of_model(model: RawImageModel, about: Mapping[str, Any], format: str) -> dict[str, Any]:
    (name, columns), raw = model.output, model.raw_pixels
    how = raw.how
    height, width, bands = ("any" if side is None else side for side in raw.input_shape)
    shape = f"(batch, {height}, {width}, {bands})"
    if raw.is_cropped:
        shape += f", at least {how.image_size} x {how.image_size}"
    runner = RUNNERS[format].format(file=EXPORTS[format], output=name, shape=shape)
    scale = how.pixel_scale_arcsec
    return {
        "kind": KINDS[name],
        "output": name,
        "width": model.width,
        "columns": ": " + ", ".join(columns) if columns else "",
        "shape": shape,
        "runner": textwrap.indent(runner, "    "),
        "preprocessing": _steps(model),
        "pixel_scale": f"{scale:g} arcsec" if scale else "unknown",
    }


def _steps(model: RawImageModel) -> str:
    raw, how = model.raw_pixels, model.raw_pixels.how
    steps = []
    if how.bands_left_out:
        places = ", ".join(str(band + 1) for band in how.bands_left_out)
        steps.append(f"bands left out: {places}")
    if raw.is_cropped:
        steps.append(f"the central {how.image_size} x {how.image_size} pixels")
    if how.scaling.max_nan_fraction:
        share = how.scaling.max_nan_fraction
        steps.append(f"up to {share:g} of NaN filled by the {how.scaling.nan_fill}")
    steps.append(f"values scaled to [0, 1] ({how.scaling})")
    if raw.side != how.image_size:
        steps.append(f"resized to {how.image_size} x {how.image_size}")
    if how.repeat > 1:
        steps.append(f"the band repeated {how.repeat} times")
    return "; ".join(steps)


def _training(run: Run | None, facts: Mapping[str, Any]) -> str:
    """Return the lines on a run; what it does not record is unknown."""
    if run is None:
        return "- Unknown: the file was not in the folder of its run."
    origin = features_origin(run)
    views = ", ".join(origin.get("pretexts", []))
    lines = {
        "Stage": facts.get("stage"),
        "Pretraining": f"{origin['method'] or 'none'}{f' (views {views})' if views else ''}",
        "Seed": origin.get("seed"),
        "Images": _images(facts),
        "Labels used": facts.get("labels_used"),
        "Digest of the data": facts.get("dataset_fingerprint"),
        "Finished": "yes" if facts.get("finished") else "no: its latest state",
    }
    return "\n".join(f"- {key}: {value}" for key, value in lines.items() if value is not None)


def _images(facts: Mapping[str, Any]) -> Any:
    """Return what a run was trained on: how many images, or new lenses; None if unknown."""
    stream, counts = facts.get("stream"), facts.get("split_counts")
    if isinstance(stream, dict):
        return f"of {stream.get('pairs_per_epoch')} new lenses in each epoch, none of them stored"
    return counts.get("train") if isinstance(counts, dict) else None


def _reports(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each evaluation of a run that can be read, by the name of its folder."""
    for path in sorted(run.folder.glob("evaluation/*/metrics.json")):
        try:
            yield path.parent.name, read_json(path)
        except (OSError, UnusableFile):
            continue


def _scores(reports: Mapping[str, Mapping[str, Any]], published: Any = None) -> str:
    """Return the table of a run's evaluations, or the published score of a shipped encoder."""
    rows = [
        f"| {name} | {key} | {_score(report, key)} | {_control(report, key)} | "
        f"{report.get('n_test')} | {str(report.get('test_set'))[:12]} |"
        for name, report in reports.items()
        for key in SCORES
        if _is_number(report.get(key))
    ]
    if published:
        low, value, high = (published[key] for key in ("low", "value", "high"))
        return (
            f"Macro AUC {value:.4f} [{low:.4f}, {high:.4f}] of `{published['readout']}`; the card "
            "of the shipped encoder has the others, the untrained control's too."
        )
    if not rows:
        return "None: `python -m deeplens_tf.evaluate` was not run before the export."
    head = "| report | score | value [95 %] | untrained control | images | digest of the images |"
    return "\n".join([head, "| --- | --- | --- | --- | --- | --- |", *rows])


def _score(report: Mapping[str, Any], key: str) -> str:
    intervals = report.get("intervals_95")
    ends = intervals.get(key) if isinstance(intervals, dict) else None
    known = isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends))
    return f"{report[key]:.4f}" + (" [{:.4f}, {:.4f}]".format(*ends) if known and ends else "")


def _control(report: Mapping[str, Any], key: str) -> str:
    control = report.get("control")
    known = isinstance(control, dict) and _is_number(control.get(key))
    return _score(control, key) if known and isinstance(control, dict) else "-"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Writing a model as a SavedModel, an ONNX, a LiteRT or a Keras file."""

import importlib.util
import logging
import tempfile
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from deeplens_tf.errors import RequestError
from deeplens_tf.models.raw_model import RawImageModel
from deeplens_tf.models.transformer_block import gelu

INPUT = "images"
AXES = ("batch", "height", "width")
ABOUT_FILE = "deeplens_tf.json"  # in a SavedModel's folder for a user's own files
METADATA = "deeplens_tf"  # the key in the metadata of an ONNX and of a LiteRT file
ONNX_OPSET = 18
CONVERTERS = {"onnx": ("onnx", "tf2onnx")}


def require_converter(name: str) -> None:
    """Refuse a format whose converter is not installed.

    Raises:
        RequestError: with what to install.
    """
    missing = [each for each in CONVERTERS.get(name, ()) if not importlib.util.find_spec(each)]
    if missing:
        raise RequestError(
            f"format {name}: needs {' and '.join(missing)}: pip install 'deeplens_tf[export]'"
        )


def write_keras(model: RawImageModel, path: Path) -> None:
    """Write a file that Keras reads where this package is installed."""
    model.save(path)


def write_savedmodel(model: RawImageModel, path: Path) -> None:
    """Write the folder of a SavedModel, whose signature is `serving_default`."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", _serving(model), input_signature=[_input_of(model)])
    archive.write_out(str(path), verbose=False)
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / ABOUT_FILE).write_text(model.about, encoding="utf-8")


def write_onnx(model: RawImageModel, path: Path) -> None:
    """Write an ONNX file with operations of the standard alone.

    Raises:
        RequestError: the network has an operation that ONNX lacks.
    """
    import onnx
    import tf2onnx

    _use_erf(model)
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # the check below says what is wrong
    found, _ = tf2onnx.convert.from_function(
        _function(model), input_signature=[_input_of(model)], opset=ONNX_OPSET
    )
    for value in (*found.graph.input, *found.graph.output):
        for name, axis in zip(AXES, value.type.tensor_type.shape.dim, strict=False):
            if not axis.dim_value:
                axis.dim_param = name
    onnx.helper.set_model_props(found, {METADATA: model.about})
    try:
        onnx.checker.check_model(found, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _lacking("onnx", error) from error
    onnx.save(found, path)


def write_tflite(model: RawImageModel, path: Path) -> None:
    """Write a LiteRT file with built-in operations alone, in float32.

    Raises:
        RequestError: the network has an operation that LiteRT lacks.
    """
    _use_erf(model)
    with tempfile.TemporaryDirectory() as folder:
        write_savedmodel(model, Path(folder) / "saved")
        converter = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/saved")
        try:
            content = converter.convert()
        except Exception as error:  # of the converter, whose type is not public
            raise _lacking("tflite", error) from error
    path.write_bytes(_with_metadata(content, model.about))


WRITERS = {
    "savedmodel": write_savedmodel,
    "keras": write_keras,
    "onnx": write_onnx,
    "tflite": write_tflite,
}


def _serving(model: RawImageModel) -> Any:
    name, _ = model.output
    return lambda images: {name: model(images)}


def _function(model: RawImageModel) -> Any:
    serving = _serving(model)

    @tf.function(autograph=False)
    def infer(images: Any) -> Any:
        return serving(images)

    return infer


def _input_of(model: RawImageModel) -> tf.TensorSpec:
    return tf.TensorSpec((None, *model.raw_pixels.input_shape), tf.float32, name=INPUT)


def _use_erf(model: RawImageModel) -> None:
    """Give layers an exact GELU by the error function; Keras's is by its complement, Erfc.

    ONNX has no Erfc. The values are the same but for rounding.
    """
    for layer in model._flatten_layers():
        if getattr(layer, "activation", None) is keras.activations.gelu:
            layer.activation = gelu


def _lacking(name: str, error: Exception) -> RequestError:
    reason = " ".join(str(error).split())[-200:]
    return RequestError(f"format {name}: an operation of this network is not part of it: {reason}")


def _with_metadata(content: bytes, about: str) -> bytes:
    """Return a LiteRT file with a text in its list of metadata."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(about.encode())
    entry.name, entry.buffer = METADATA, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))

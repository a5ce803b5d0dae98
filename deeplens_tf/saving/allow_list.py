"""What config.json in a model file may name, and how many weights it may request."""

from typing import Any

from deeplens_tf.errors import UnusableFile
from deeplens_tf.models import MassHead, RegisteredEncoder
from deeplens_tf.models.patch_decoder import PatchDecoder
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.registry import PLUGIN_HINT, encoders
from deeplens_tf.saving.model_parts import (
    ENCODER_NAMES,
    MODEL_PARTS,
    check_structure,
    dictionaries,
    is_plugin_method,
    shown_name,
)
from deeplens_tf.saving.requested_weights import count_weights

MAX_LAYER_SIZE = 2**31
MAX_BLOCKS = 256
MAX_MODEL_IMAGE_SIDE = 4096
# Half as many bytes as float32 takes, so that a bfloat16 network passes too.
MIN_BYTES_PER_WEIGHT = 2

OURS = {*ENCODER_NAMES, *MODEL_PARTS, MassHead.__name__, PatchDecoder.__name__}
POLICY = "DTypePolicy"
KERAS = {
    ("keras", "Sequential"),
    ("keras.layers", "InputLayer"),
    ("keras.layers", "Dense"),
    ("keras.layers", "BatchNormalization"),
    ("keras.layers", "Activation"),
    ("keras.initializers", "GlorotUniform"),
    ("keras.initializers", "Zeros"),
    ("keras.initializers", "Ones"),
    ("keras", POLICY),
}
# A weight takes 4 bytes in memory at most, twice what the file must contain of it.
DTYPES = {"float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}
# Sizes that decide how much is built.
SIZES = {
    *("patch_size", "width", "heads", "mlp_width"),
    *("top_width", "units", "lora_rank", "gptq_unpacked_column_size"),
    *("patches", "patch_pixels"),
}


def check_recipe(recipe: Any, weight_bytes: int) -> None:
    """Refuse a configuration that names unknown classes or requests too many weights.

    Args:
        recipe: content of config.json.
        weight_bytes: size of the weights in the file.

    Raises:
        UnusableFile: with the reason.
    """
    if not isinstance(recipe, dict):
        raise UnusableFile("config.json is not a JSON object")
    is_model = _is_ours(recipe) and recipe["class_name"] in ENCODER_NAMES | set(MODEL_PARTS)
    if not is_model and not is_plugin_method(recipe):
        raise UnusableFile(f"holds a {shown_name(recipe)}, not a model of deeplens_tf")
    # Keras never builds the optimiser, since the model is loaded without compiling it.
    built = {key: value for key, value in recipe.items() if key != "compile_config"}
    options = {id(found): found for found in map(_options_of, dictionaries(built)) if found}
    for part in dictionaries(built):
        if id(part) not in options:
            _check_part(part)
    check_structure(built)
    requested = count_weights(built)
    if requested * MIN_BYTES_PER_WEIGHT > weight_bytes:
        raise UnusableFile(
            f"config.json describes a network of {requested:.3g} weights, but the file stores only "
            f"{weight_bytes} bytes of them"
        )


def _check_part(part: dict[str, Any]) -> None:
    named = {"class_name", "registered_name", "module"} & set(part)
    if named and not (_is_ours(part) or _is_keras(part) or is_plugin_method(part)):
        raise UnusableFile(
            f"config.json requests {shown_name(part)}, which no model of deeplens_tf has"
        )
    if part.get("compile_config"):
        raise UnusableFile("config.json requests a compiled part")
    config = part.get("config")
    is_policy = part.get("class_name") == POLICY and isinstance(config, dict)
    dtype = config.get("name") if is_policy and isinstance(config, dict) else part.get("dtype")
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise UnusableFile(f"config.json requests numbers of the type {dtype:.40}")
    _check_sizes(part)


def _options_of(part: dict[str, Any]) -> dict[str, Any] | None:
    """Return the options of a registered encoder, which checks them by its own types and bounds.

    Raises:
        UnusableFile: an encoder that is not registered, or options that are not plain values.
    """
    config = part.get("config")
    if part.get("class_name") != RegisteredEncoder.__name__ or not isinstance(config, dict):
        return None
    name, options = config.get("encoder"), config.get("options")
    if not _is_text(name) or name not in encoders.plugins():
        raise UnusableFile(
            f"holds an encoder of the name {name!r:.60}, which is not registered: {PLUGIN_HINT}"
        )
    if not isinstance(options, dict) or any(
        isinstance(each, dict) for value in options.values() for each in _items(value)
    ):
        raise UnusableFile("config.json describes an encoder without valid options")
    return options


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_sizes(part: dict[str, Any]) -> None:
    for key in SIZES & part.keys():
        _check_number(part[key], MAX_LAYER_SIZE, optional=key in ("lora_rank", "units"))
    blocks = part.get("depth", 0)
    if type(blocks) is not int or not 0 <= blocks <= MAX_BLOCKS:
        raise UnusableFile(f"config.json requests {blocks!r:.40} blocks, not 0 to {MAX_BLOCKS}")
    if "batch_shape" in part:
        shape = part["batch_shape"]
        if not isinstance(shape, list) or len(shape) != 2 or shape[0] is not None:
            raise UnusableFile("config.json describes an input other than a batch of vectors")
        _check_number(shape[1], MAX_LAYER_SIZE)
    if "image_shape" in part:
        shape = part["image_shape"]
        if not isinstance(shape, list) or len(shape) != 3:
            raise UnusableFile("config.json describes an encoder without a valid image_shape")
        for side in shape:
            _check_number(side, MAX_MODEL_IMAGE_SIDE)
        _check_preprocessing(part.get("preprocessing"), tuple(shape))


def _check_preprocessing(values: Any, image_shape: tuple[int, ...]) -> None:
    if values is None:
        return
    try:
        found = Preprocessing.from_dict(values).image_shape
    except ValueError as error:
        raise UnusableFile(f"config.json: {error}") from error
    if found != image_shape:
        raise UnusableFile(
            f"config.json describes a preprocessing for images of {found}, and an encoder of "
            f"{image_shape}"
        )


def _check_number(value: Any, largest: int, optional: bool = False) -> None:
    if optional and value is None:
        return
    if type(value) is not int or not 0 < value <= largest:
        raise UnusableFile(f"config.json requests a size of {value!r:.40}")


def _is_ours(part: dict[str, Any]) -> bool:
    name = part.get("class_name")
    # Keras looks up a registered name first; if it finds one, it does not import the module.
    return _is_text(name) and name in OURS and part.get("registered_name") == f"deeplens_tf>{name}"


def _is_keras(part: dict[str, Any]) -> bool:
    module, name = part.get("module"), part.get("class_name")
    known = _is_text(module) and _is_text(name) and (module, name) in KERAS
    return known and part.get("registered_name") in (None, name)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)

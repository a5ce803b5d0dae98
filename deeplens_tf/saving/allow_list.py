"""What config.json in a model file may name, and how many weights it may request."""

import math
from collections.abc import Iterator
from typing import Any

import keras

from deeplens_tf.errors import UnusableFile
from deeplens_tf.models.planning import without_values

MAX_LAYER_SIZE = 2**31
MAX_BLOCKS = 256
MAX_MODEL_IMAGE_SIDE = 4096
# Half as many bytes as float32 takes, so that a bfloat16 network passes too.
MIN_BYTES_PER_WEIGHT = 2

ENCODER_NAMES = {"VisionTransformer", "OriginalViT", "ResNet50"}
MODELS = ENCODER_NAMES | {"DownstreamModel"}
HEAD_NAMES = {"Dense", "MassHead"}
OURS = MODELS | {"MassHead"}
POLICY = "DTypePolicy"
KERAS = {
    ("keras.layers", "Dense"),
    ("keras.initializers", "GlorotUniform"),
    ("keras.initializers", "Zeros"),
    ("keras", POLICY),
}
# A weight takes 4 bytes in memory at most, twice what the file must contain of it.
DTYPES = {"float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}
# Sizes that decide how much is built.
SIZES = {
    *("patch_size", "width", "heads", "mlp_width", "depth"),
    *("top_width", "units", "lora_rank", "gptq_unpacked_column_size"),
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
    if not _is_ours(recipe) or recipe["class_name"] not in MODELS:
        raise UnusableFile(f"holds a {_name(recipe)}, not a model of deeplens_tf")
    # Keras never builds the optimiser, since the model is loaded without compiling it.
    built = {key: value for key, value in recipe.items() if key != "compile_config"}
    for part in _dictionaries(built):
        _check_part(part)
    _check_structure(built)
    requested = _count_weights(built)
    if requested * MIN_BYTES_PER_WEIGHT > weight_bytes:
        raise UnusableFile(
            f"config.json describes a network of {requested:.3g} weights, but the file stores only "
            f"{weight_bytes} bytes of them"
        )


def _dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    """Yield a dictionary and every one within it, without recursion."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check_structure(recipe: dict[str, Any]) -> None:
    """Refuse networks within networks, other than an encoder and a head in a fine-tuned model."""
    expected = [recipe]
    if recipe["class_name"] not in ENCODER_NAMES:
        config = recipe.get("config")
        for name, classes in (("encoder", ENCODER_NAMES), ("head", HEAD_NAMES)):
            part = config.get(name) if isinstance(config, dict) else None
            if not isinstance(part, dict) or part.get("class_name") not in classes:
                raise UnusableFile(f"config.json describes a model without a valid {name}")
            expected.append(part)
    for part in _dictionaries(recipe):
        known = any(part is one for one in expected)
        if part.get("class_name") in MODELS | HEAD_NAMES and not known:
            raise UnusableFile(f"config.json requests a {_name(part)} within another network")


def _check_part(part: dict[str, Any]) -> None:
    named = {"class_name", "registered_name", "module"} & set(part)
    if named and not (_is_ours(part) or _is_keras(part)):
        raise UnusableFile(f"config.json requests {_name(part)}, which no model of deeplens_tf has")
    if part.get("compile_config"):
        raise UnusableFile("config.json requests a compiled part")
    config = part.get("config")
    is_policy = part.get("class_name") == POLICY and isinstance(config, dict)
    dtype = config.get("name") if is_policy and isinstance(config, dict) else part.get("dtype")
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise UnusableFile(f"config.json requests numbers of the type {dtype:.40}")
    _check_sizes(part)


def _check_sizes(part: dict[str, Any]) -> None:
    for key in SIZES & part.keys():
        _check_number(part[key], MAX_LAYER_SIZE, optional=key in ("lora_rank", "units"))
    blocks = part.get("depth", 0)
    if blocks > MAX_BLOCKS:
        raise UnusableFile(f"config.json requests {blocks} blocks, the maximum is {MAX_BLOCKS}")
    if "image_shape" in part:
        shape = part["image_shape"]
        if not isinstance(shape, list) or len(shape) != 3:
            raise UnusableFile("config.json describes an encoder without a valid image_shape")
        for side in shape:
            _check_number(side, MAX_MODEL_IMAGE_SIDE)


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


def _name(part: dict[str, Any]) -> str:
    words = [part.get("module"), part.get("class_name")]
    # A public class of Keras is known by its name, any other by its module too.
    shown = words[1:] if str(words[0]).startswith("keras") else words
    return ".".join(str(word)[:60] for word in shown)


def _count_weights(recipe: dict[str, Any]) -> int:
    """Return how many weights the model has, by building it without memory for them."""

    def build() -> int:
        model = keras.saving.deserialize_keras_object(recipe, safe_mode=True)
        return sum(math.prod(variable.shape) for variable in model.weights)

    try:
        return without_values(build)
    # Keras raises almost any type of exception for an unexpected configuration.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UnusableFile(f"the model in config.json cannot be built: {reason:.200}") from error

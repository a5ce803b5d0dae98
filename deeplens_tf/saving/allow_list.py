"""The recipe in a model file: which classes it may name, and how much it may ask for."""

from collections.abc import Iterator
from typing import Any

from deeplens_tf.errors import UnusableFile

MAX_NUMBER = 2**31
MAX_BLOCKS = 256
MAX_IMAGE_SIDE = 4096
# Half as many bytes as float32 takes, so that a bfloat16 network passes too.
MIN_BYTES_PER_WEIGHT = 2

ENCODERS = {"VisionTransformer", "ResNet50"}
OURS = ENCODERS | {"DownstreamModel", "MassHead"}
POLICY = "DTypePolicy"
KERAS = {
    ("keras.layers", "Dense"),
    ("keras.initializers", "GlorotUniform"),
    ("keras.initializers", "Zeros"),
    ("keras", POLICY),
}
# A number of a network takes 4 bytes at the most, twice what the file must bring of it.
DTYPES = {"float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}

ORIGINAL_TOP = (512, 256)  # widths of the layers on the original's class token
RESNET50_WEIGHTS = 23_500_000  # of its convolutions, whatever stands on top


def check_recipe(recipe: Any, weight_bytes: int) -> None:
    """Refuse a recipe that names what this package does not save, or asks for too much.

    Args:
        recipe: what config.json holds.
        weight_bytes: bytes of the weights that come with it.

    Raises:
        UnusableFile: with the reason.
    """
    if not isinstance(recipe, dict):
        raise UnusableFile("a recipe that is no object")
    if not _is_ours(recipe) or recipe["class_name"] not in ENCODERS | {"DownstreamModel"}:
        raise UnusableFile(f"holds a {_name(recipe)}, not a model of deeplens_tf")
    # What the optimiser was is never made: the model is loaded uncompiled.
    for part in _dictionaries({k: v for k, v in recipe.items() if k != "compile_config"}):
        _check_part(part)
    asked = _count_weights(recipe)
    if asked * MIN_BYTES_PER_WEIGHT > weight_bytes:
        raise UnusableFile(
            f"asks for a network of {asked:.3g} weights and brings {weight_bytes} bytes of them"
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


def _check_part(part: dict[str, Any]) -> None:
    named = {"class_name", "registered_name", "module"} & set(part)
    if named and not (_is_ours(part) or _is_keras(part)):
        raise UnusableFile(f"asks for {_name(part)}, which no model of deeplens_tf has")
    if part.get("compile_config"):
        raise UnusableFile("asks for a part to be compiled")
    dtype = _config(part).get("name") if part.get("class_name") == POLICY else part.get("dtype")
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise UnusableFile(f"asks for numbers of the kind {dtype:.40}")


def _is_ours(part: dict[str, Any]) -> bool:
    name = part.get("class_name")
    # Keras looks a registered name up first; where there is one, the module is not imported.
    return _is_text(name) and name in OURS and part.get("registered_name") == f"deeplens_tf>{name}"


def _is_keras(part: dict[str, Any]) -> bool:
    module, name = part.get("module"), part.get("class_name")
    known = _is_text(module) and _is_text(name) and (module, name) in KERAS
    return known and part.get("registered_name") in (None, name)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _name(part: dict[str, Any]) -> str:
    words = [part.get("module"), part.get("class_name")]
    # Keras's public classes are known by their name, the others by their place too.
    shown = words[1:] if str(words[0]).startswith("keras") else words
    return ".".join(str(word)[:60] for word in shown)


def _count_weights(recipe: dict[str, Any]) -> int:
    """Return how many weights a model has at the least; what grows linearly is left out."""
    config = _config(recipe)
    if recipe["class_name"] in ENCODERS:
        return _COUNTS[recipe["class_name"]](config)
    encoder, head = config.get("encoder"), config.get("head")
    if not isinstance(encoder, dict) or encoder.get("class_name") not in ENCODERS:
        raise UnusableFile("a model without an encoder")
    if not isinstance(head, dict):
        raise UnusableFile("a model without a head")
    # Whichever number of the head is its width: it has that many weights for each feature.
    widths = [n for n in _config(head).values() if type(n) is int]
    _check_numbers(widths)
    return _count_weights(encoder) + _features(encoder) * sum(widths)


def _features(encoder: dict[str, Any]) -> int:
    config = _config(encoder)
    if encoder["class_name"] == "ResNet50":
        return config["top_width"]
    return ORIGINAL_TOP[-1] if config.get("original_top") else config["width"]


def _count_transformer(config: dict[str, Any]) -> int:
    height, width, bands = _image_shape(config)
    keys = ("patch_size", "width", "depth", "heads", "mlp_width")
    patch, length, depth, heads, mlp_width = (config.get(key) for key in keys)
    _check_numbers([patch, length, depth, heads, mlp_width])
    if depth > MAX_BLOCKS:
        raise UnusableFile(f"asks for {depth} blocks, at most {MAX_BLOCKS} are made")
    tokens = (height // patch) * (width // patch)
    block = 4 * length**2 + 2 * length * mlp_width
    first, last = ORIGINAL_TOP if config.get("original_top") else (0, 0)
    top = bool(first) * length**2 + length * first + first * last
    return (patch * patch * bands + tokens) * length + depth * block + top


def _count_resnet(config: dict[str, Any]) -> int:
    _image_shape(config)
    top = config.get("top_width")
    _check_numbers([top])
    # Dense(8w), Dense(4w) and Dense(w) on 2048 numbers, or Dense(w) alone.
    return RESNET50_WEIGHTS + (2048 * top if config.get("plain_top") else 16384 * top + 36 * top**2)


_COUNTS = {"VisionTransformer": _count_transformer, "ResNet50": _count_resnet}


def _config(part: dict[str, Any]) -> dict[str, Any]:
    config = part.get("config")
    if not isinstance(config, dict):
        raise UnusableFile(f"a {_name(part)} without its options")
    return config


def _image_shape(config: dict[str, Any]) -> tuple[int, int, int]:
    shape = config.get("image_shape")
    if not isinstance(shape, list) or len(shape) != 3:
        raise UnusableFile("an encoder that does not say which images it takes")
    _check_numbers(shape, MAX_IMAGE_SIDE)
    return tuple(shape)


def _check_numbers(values: list[Any], largest: int = MAX_NUMBER) -> None:
    for value in values:
        if type(value) is not int or not 0 < value <= largest:
            raise UnusableFile(f"asks for a size of {value!r:.40}")

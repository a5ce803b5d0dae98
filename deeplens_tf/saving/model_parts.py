"""The parts that each model is made of, and where its recipe may contain them.

A network at any other place is refused before anything is built.
"""

from collections.abc import Iterator
from typing import Any

import keras

from deeplens_tf.errors import UnusableFile
from deeplens_tf.models import (
    ENCODER_CLASSES,
    BarlowTwinsModel,
    BYOLModel,
    ContrastiveModel,
    DownstreamModel,
    InpaintingModel,
    MassHead,
    RawImageModel,
    SimSiamModel,
    VisionTransformer,
)
from deeplens_tf.models.patch_decoder import PatchDecoder
from deeplens_tf.registry import methods

MAX_MLP_LAYERS = 64

ENCODER_NAMES = {kind.__name__ for kind in ENCODER_CLASSES}
# What `projection_head` and `batch_norm_mlp` are made of, or a single layer.
MLP_NAMES = {"Sequential", "Dense"}
MLP_LAYER_NAMES = {"InputLayer", "Dense", "BatchNormalization", "Activation"}
OPTIONAL_PARTS = {"probe"}
# Parts of a method that a user's module registers, besides the encoder, where it has them.
OPTIONAL_PLUGIN_PARTS = {"projector", "predictor", "probe"}

_PROJECTED = {"encoder": ENCODER_NAMES, "projector": MLP_NAMES, "probe": {"Dense"}}
_PREDICTED = {**_PROJECTED, "predictor": MLP_NAMES}
# Class of a self-supervised model -> its parts -> the classes that each part may have.
PRETEXT_PARTS: dict[str, dict[str, set[str]]] = {
    ContrastiveModel.__name__: _PROJECTED,
    BarlowTwinsModel.__name__: _PROJECTED,
    "TwinModel": _PROJECTED,  # its name in files of earlier versions
    BYOLModel.__name__: _PREDICTED,
    SimSiamModel.__name__: _PREDICTED,
    InpaintingModel.__name__: {
        "encoder": {VisionTransformer.__name__},
        "decoder": {PatchDecoder.__name__},
        "probe": {"Dense"},
    },
}
MODEL_PARTS = {
    DownstreamModel.__name__: {
        "encoder": ENCODER_NAMES,
        "head": {"Dense", MassHead.__name__},
    },
    # What `export` writes for Keras.
    RawImageModel.__name__: {"network": {*ENCODER_NAMES, DownstreamModel.__name__}},
    **PRETEXT_PARTS,
}
NETWORK_NAMES = {
    *ENCODER_NAMES,
    *MODEL_PARTS,
    *MLP_LAYER_NAMES,
    *(name for parts in MODEL_PARTS.values() for classes in parts.values() for name in classes),
}


def is_plugin_method(recipe: dict[str, Any]) -> bool:
    """Return whether a recipe is of a model that `register_method` has made known."""
    registered = (entry.kind for entry in methods.plugins().values())
    names = {keras.saving.get_registered_name(kind) for kind in registered}
    name = recipe.get("registered_name")
    return isinstance(name, str) and name in names


def parts_of(recipe: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the recipes of a model's parts by name; none for an encoder.

    Args:
        recipe: of an encoder, of a model in `MODEL_PARTS` or of a plugin's method.

    Raises:
        UnusableFile: a part is missing or of another class.
    """
    config = recipe.get("config")
    is_plugin = is_plugin_method(recipe)
    expected = _PREDICTED if is_plugin else MODEL_PARTS.get(recipe["class_name"], {})
    optional = OPTIONAL_PLUGIN_PARTS if is_plugin else OPTIONAL_PARTS
    found = {}
    for name, classes in expected.items():
        part = config.get(name) if isinstance(config, dict) else None
        if part is None and name in optional:
            continue
        if not isinstance(part, dict) or part.get("class_name") not in classes:
            raise UnusableFile(f"config.json describes a model without a valid {name}")
        found[name] = part
    return found


def check_structure(recipe: dict[str, Any]) -> None:
    """Refuse networks within networks, other than the parts of a model and the layers of an MLP.

    Args:
        recipe: in which every class is one that a recipe may name.

    Raises:
        UnusableFile: with the reason.
    """
    parts = list(_parts_within(recipe))
    layers = [layer for name, part in parts for layer in _layers_of(name, part)]
    expected = {id(part) for part in (recipe, *(part for _, part in parts), *layers)}
    for part in dictionaries(recipe):
        if part.get("class_name") not in NETWORK_NAMES and not is_plugin_method(part):
            continue
        if id(part) not in expected:
            raise UnusableFile(f"config.json requests a {shown_name(part)} within another network")
        # Keras would use the object with that number, of any class, instead of this part.
        if part.get("shared_object_id") is not None:
            raise UnusableFile(f"config.json requests a {shown_name(part)} that is used twice")


def _parts_within(recipe: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the parts of a model and, in one that `export` wrote, the parts of its network."""
    for name, part in parts_of(recipe).items():
        yield name, part
        if name == "network":
            yield from parts_of(part).items()


def dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    """Yield a dictionary and every one within it, without recursion."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def shown_name(part: dict[str, Any]) -> str:
    """Return the class that a part names, for a message."""
    words = [part.get("module"), part.get("class_name")]
    # A public class of Keras is known by its name, any other by its module too.
    shown = words[1:] if str(words[0]).startswith("keras") else words
    return ".".join(str(word)[:60] for word in shown)


def _layers_of(name: str, part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the layers of a sequential part; none for a part that is a single layer."""
    if part["class_name"] != "Sequential":
        return []
    config = part.get("config")
    layers = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(layers, list) or not 0 < len(layers) <= MAX_MLP_LAYERS:
        raise UnusableFile(f"config.json requests a {name} not of 1 to {MAX_MLP_LAYERS} layers")
    for layer in layers:
        if not isinstance(layer, dict) or layer.get("class_name") not in MLP_LAYER_NAMES:
            raise UnusableFile(
                f"config.json requests a {name} with layers other than "
                f"{', '.join(sorted(MLP_LAYER_NAMES))}"
            )
    return layers

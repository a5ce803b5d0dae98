"""How many weights a recipe requests, counted without memory for them."""

import math
from typing import Any

import keras

from deeplens_tf.errors import UnusableFile
from deeplens_tf.models import BYOLModel
from deeplens_tf.models.encoders import build_on_features, copy_of, require_same_weights
from deeplens_tf.models.planning import without_values
from deeplens_tf.saving.model_parts import PRETEXT_PARTS, is_plugin_method, parts_of


def count_weights(recipe: dict[str, Any]) -> int:
    """Return how many weights a model has, by building it in a scope without values.

    Args:
        recipe: of a model whose structure is checked.

    Raises:
        UnusableFile: Keras cannot build the model.
    """
    by_parts = recipe["class_name"] in PRETEXT_PARTS or is_plugin_method(recipe)
    count = _count_parts if by_parts else _count_model
    try:
        return without_values(lambda: count(recipe))
    except UnusableFile:
        raise
    # Keras raises almost any type of exception for an unexpected configuration.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UnusableFile(f"the model in config.json cannot be built: {reason:.200}") from error


def _count_model(recipe: dict[str, Any]) -> int:
    return _size(_built(recipe))


def _count_parts(recipe: dict[str, Any]) -> int:
    """Count a self-supervised model part by part.

    The constructor of BYOL copies values, for which Keras would allocate memory in any scope.
    """
    parts = {name: _built(part) for name, part in parts_of(recipe).items()}
    for name, part in parts.items():
        if not part.built:  # the constructor would build it, in a size that is not known here
            raise UnusableFile(f"its recipe does not build the {name}, so its weights are not read")
    total = sum(_size(part) for part in parts.values())
    if recipe["class_name"] != BYOLModel.__name__:
        return total
    target = copy_of(parts["projector"], "target_projector")
    build_on_features(target, parts["encoder"])
    require_same_weights(parts["projector"], target)
    return total + _size(parts["encoder"]) + _size(target)


def _built(recipe: dict[str, Any]) -> Any:
    return keras.saving.deserialize_keras_object(recipe, safe_mode=True)


def _size(layer: keras.layers.Layer) -> int:
    return sum(math.prod(variable.shape) for variable in layer.weights)

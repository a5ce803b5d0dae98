"""Converts a file of Keras 2 weights to an encoder of this package, or reports why it can't."""

from collections.abc import Mapping
from pathlib import Path

import keras

from deeplens_tf.conversion.architecture import Architecture, Shapes, find_architecture
from deeplens_tf.conversion.encoder_slots import encoder_slots
from deeplens_tf.conversion.file_names import name_slots
from deeplens_tf.conversion.weight_files import open_weights, read_array
from deeplens_tf.errors import RequestError
from deeplens_tf.models import build_encoder
from deeplens_tf.models.planning import without_values

MAX_NAMES_SHOWN = 3


def convert(path: Path, image_size: int | None = None, heads: int | None = None) -> keras.Model:
    """Build the encoder that a file of weights belongs to, with those weights.

    Args:
        path: `.h5` file of an encoder, written by Keras 2's `save_weights`.
        image_size: pixels a side, which the weights of a ResNet50 don't determine; None: 64.
        heads: number of attention heads, which no weights determine; None: width / 64.

    Raises:
        RequestError: not such a file, or one whose names or shapes differ from the encoder's.
    """
    with open_weights(path) as stored:
        try:
            names = name_slots(stored)
            shapes = {slot: stored[name].shape for slot, name in names.items()}
            architecture = find_architecture(shapes, image_size, heads)
            _require_same(_shapes_of(architecture), shapes, names)
            encoder = _build(architecture)
        except RequestError as error:
            raise RequestError(f"{path}: {error}") from error
        for slot, target in encoder_slots(encoder).items():
            values = read_array(path, stored[names[slot]])
            target.variable.assign(values.reshape(target.variable.shape))
    return encoder


def _build(architecture: Architecture) -> keras.Model:
    try:
        return build_encoder(architecture.name, architecture.image_shape, **architecture.options)
    except ValueError as error:
        raise RequestError(str(error)) from error


def _shapes_of(architecture: Architecture) -> Shapes:
    """Return the shape of every slot of an encoder without allocating its weights."""

    def build() -> Shapes:
        slots = encoder_slots(_build(architecture))
        return {slot: target.shape for slot, target in slots.items()}

    return without_values(build)


def _require_same(wanted: Shapes, shapes: Shapes, names: Mapping[str, str]) -> None:
    """Refuse a file that does not contain exactly the encoder's arrays; name the differences."""
    missing = [slot for slot in wanted if slot not in shapes]
    unknown = [names[slot] for slot in shapes if slot not in wanted]
    misshapen = [
        f"{names[slot]} is {shapes[slot]} instead of {wanted[slot]}"
        for slot in wanted
        if slot in shapes and tuple(shapes[slot]) != wanted[slot]
    ]
    parts = [("it lacks ", missing), ("it also contains ", unknown), ("", misshapen)]
    differences = [f"{kind}{_first_few(found)}" for kind, found in parts if found]
    if differences:
        raise RequestError("not the original's encoder: " + "; ".join(differences))


def _first_few(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_SHOWN
    return ", ".join(names[:MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")

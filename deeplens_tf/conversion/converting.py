"""A file of Keras 2 weights to an encoder of this package, or the reason why not."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras

from deeplens_tf.conversion.architecture import Architecture, Shapes, find_architecture
from deeplens_tf.conversion.encoder_slots import encoder_slots
from deeplens_tf.conversion.file_names import name_slots
from deeplens_tf.conversion.weight_files import open_weights, read_array
from deeplens_tf.errors import RequestError
from deeplens_tf.models import build_encoder

MAX_NAMES_SHOWN = 3


def convert(path: Path, image_size: int | None = None, heads: int | None = None) -> keras.Model:
    """Build the encoder whose weights a file holds, with those weights.

    Args:
        path: `.h5` file of an encoder, written by Keras 2's `save_weights`.
        image_size: pixels a side, where the file does not tell (ResNet50); None: 64.
        heads: of a transformer; None: one for every 64 numbers of its width.

    Raises:
        RequestError: not such a file, or one whose names or shapes differ from the encoder's.
    """
    with open_weights(path) as stored:
        try:
            named = name_slots(stored)
            shapes = {slot: stored[name].shape for slot, name in named.items()}
            found = find_architecture(shapes, image_size, heads)
            _require_same(_shapes_of(found), shapes, named)
            encoder = _build(found)
        except RequestError as error:
            raise RequestError(f"{path}: {error}") from error
        for slot, target in encoder_slots(encoder).items():
            values = read_array(path, stored[named[slot]])
            target.variable.assign(values.reshape(target.variable.shape))
    return encoder


def _build(found: Architecture) -> keras.Model:
    return build_encoder(found.name, found.image_shape, **found.options)


def _shapes_of(found: Architecture) -> Shapes:
    """Return the shape of every slot of an encoder without taking memory for one.

    In a stateless scope variables have a shape and no value. Keras gives them one when the next
    such scope of the same thread ends: this thread has no other.
    """

    def plan() -> Shapes:
        with keras.StatelessScope(initialize_variables=False):
            slots = encoder_slots(_build(found))
        return {slot: target.shape for slot, target in slots.items()}

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(plan).result()


def _require_same(wanted: Shapes, shapes: Shapes, named: Mapping[str, str]) -> None:
    """Refuse a file that does not hold exactly the encoder's arrays, and say what differs."""
    lacking = [slot for slot in wanted if slot not in shapes]
    unknown = [named[slot] for slot in shapes if slot not in wanted]
    misshapen = [
        f"{named[slot]} is {shapes[slot]} instead of {wanted[slot]}"
        for slot in wanted
        if slot in shapes and tuple(shapes[slot]) != wanted[slot]
    ]
    parts = [("it lacks", lacking), ("it holds besides", unknown), ("", misshapen)]
    reasons = [f"{words} {_some(names)}".strip() for words, names in parts if names]
    if reasons:
        raise RequestError("not the original's encoder: " + "; ".join(reasons))


def _some(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_SHOWN
    return ", ".join(names[:MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")

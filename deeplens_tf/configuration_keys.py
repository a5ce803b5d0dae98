"""Errors of the library about its arguments, as errors about the configuration's keys."""

import contextlib
import re
from collections.abc import Iterator

from deeplens_tf.errors import DeeplensError, RequestError

KEYS = {
    "name": "encoder.name",
    "encoder": "encoder.name",
    "patch_size": "encoder.patch_size",
    "pooling": "encoder.pooling",
    "dropout": "encoder.dropout",
    "stochastic_depth": "encoder.stochastic_depth",
    "top_width": "encoder.top_width",
    "plain_top": "encoder.plain_top",
    "image_shape": "data.image_size",
    "temperature": "pretrain.temperature",
    "keep_tokens": "pretrain.keep_tokens",
    "momentum": "pretrain.byol.beta",
    "layer_decay": "finetune.layer_decay",
    "mask_ratio": "pretrain.inpainting.mask_ratio",
    # No key sets these two of an encoder, so they are the decoder's.
    "width": "pretrain.inpainting.decoder_width",
    "heads": "pretrain.inpainting.decoder_heads",
}
# A name without an underscore may be an ordinary word within a sentence.
_ARGUMENT = re.compile(r"^\w+(?= must | is )|\b\w+(?==)|\b\w+_\w+\b")


@contextlib.contextmanager
def configuration_keys() -> Iterator[None]:
    """Translate a `ValueError` about an argument in the block.

    Raises:
        RequestError: the same message with the configuration's keys.
    """
    try:
        yield
    except DeeplensError:
        raise
    except ValueError as error:
        if "Received: " not in str(error):  # not one of this package's own
            raise
        raise RequestError(with_keys(str(error))) from error


def with_keys(message: str) -> str:
    """Return a message in which arguments are replaced by the keys that set them."""
    return _ARGUMENT.sub(lambda match: KEYS.get(match[0], match[0]), message)

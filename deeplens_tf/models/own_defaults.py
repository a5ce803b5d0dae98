"""Building layers with this package's defaults, whatever a user's keras.json says."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import keras

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@contextlib.contextmanager
def own_defaults() -> Iterator[None]:
    """Build with channels last and in float32 within the block; the user's settings are restored.

    A policy that the process has set, such as `keras.config.set_dtype_policy("mixed_bfloat16")`, is
    respected. One that only follows from `floatx`, which keras.json may set for another project, is
    not: with float16 the losses would not be finite.
    """
    config = keras.config
    data_format, floatx, policy = config.image_data_format(), config.floatx(), config.dtype_policy()
    config.set_image_data_format("channels_last")
    config.set_floatx("float32")
    if policy.name == floatx:
        config.set_dtype_policy("float32")
    try:
        yield
    finally:
        config.set_image_data_format(data_format)
        config.set_floatx(floatx)
        config.set_dtype_policy(policy)


def with_own_defaults(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate a function, or a method of a layer, to run with `own_defaults`."""
    decorated = own_defaults()(function)
    # Keras reads the names of a constructor's arguments from it, and follows no decorator.
    decorated.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return decorated

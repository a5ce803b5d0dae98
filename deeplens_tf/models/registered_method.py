"""What makes a self-supervised method known, one of this package or of a user's module."""

from collections.abc import Callable

import keras

from deeplens_tf.models.self_supervised import SelfSupervisedModel
from deeplens_tf.registry import methods


def register_method(
    name: str, build: Callable[..., SelfSupervisedModel], model: type[SelfSupervisedModel]
) -> None:
    """Make a self-supervised method known to configurations, `load_model` and `--help`.

    Args:
        name: of the method in a configuration; an identifier that is not taken.
        build: takes encoder, probe (a layer or None) and total_steps (of the whole run, for
            schedules), and options; returns the model. An option has a type hint, such as `int`,
            `float` or `Annotated[float, Bounds(low=0)]`, and a default or none. A configuration
            sets it among the pretraining's `options`; one called temperature, projection_width or
            keep_tokens gets the key of that name, which methods share.
        model: class of what `build` returns, registered by `register_keras_serializable`.

    Raises:
        ValueError: a name that is taken or no identifier, an option without a type hint, or not a
            class of self-supervised models.

    Example:
        >>> def vicreg(encoder, probe, total_steps, projection_width: int = 256):
        ...     return VICReg(encoder, projection_head(projection_width), probe=probe)
        >>> register_method("vicreg", vicreg, VICReg)
    """
    if not isinstance(model, type) or not issubclass(model, SelfSupervisedModel):
        raise ValueError(f"model must be a class of SelfSupervisedModel. Received: model={model!r}")
    if keras.saving.get_registered_object(keras.saving.get_registered_name(model)) is not model:
        raise ValueError(
            "model must be decorated by keras.saving.register_keras_serializable, so that its "
            f"files can be read. Received: model={model!r}"
        )
    methods.register(name, build, model)

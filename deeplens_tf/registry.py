"""The names that a configuration may use for encoders, methods and augmentations.

The package's own names are known before the modules that define them are imported, so a wrong name
is answered at once. A user's module registers further ones. Code is imported because a user named
it, never because a file did.
"""

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from deeplens_tf.dataclass_parsing import convert, is_supported, nearest
from deeplens_tf.errors import RequestError

PLUGIN_HINT = "if a module of yours registers it, name that module by --plugin"


@dataclass(frozen=True)
class Entry:
    """Something that a configuration can name.

    Attributes:
        name: in configurations.
        build: returns the encoder, method or augmentation.
        options: parameters of `build` that a configuration sets, with their type hints.
        kind: class of what `build` returns, where reading a file needs it.
    """

    name: str
    build: Callable[..., Any]
    options: Mapping[str, inspect.Parameter]
    kind: type | None = None

    def checked(
        self, options: Mapping[str, Any], key: str = "", elsewhere: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the options, each converted to the type of its hint.

        Args:
            options: by name.
            key: where a configuration sets them, such as "encoder.options."; for messages.
            elsewhere: names of the options that are set in another place.

        Raises:
            ValueError: an unknown or missing option, a wrong type, or a value out of bounds; with a
                `key`, a RequestError.
        """
        kind = RequestError if key else ValueError
        for option in options:
            if option not in self.options:
                known = ", ".join(sorted(self.options)) or "none"
                raise kind(
                    f"{key}{option} is not an option of {self.name}, whose options are {known}. "
                    f"Received: {option}={options[option]!r}"
                )
        for option, parameter in self.options.items():
            if parameter.default is parameter.empty and option not in {*options, *elsewhere}:
                raise kind(f"{key}{option} must be given for {self.name}. Received: none")
        return {
            option: convert(self.options[option].annotation, value, f"{key}{option}")
            for option, value in options.items()
        }


class Registry:
    """Names of one kind, and what they build.

    Args:
        kind: what the names stand for, for messages.
        required: first parameters of each `build`, which the package passes by name; the others
            are options.
        built_in: names of the package's own entries with the modules that register them.
    """

    def __init__(self, kind: str, required: tuple[str, ...], built_in: Mapping[str, str]) -> None:
        self.kind, self.required, self.built_in = kind, required, built_in
        self._entries: dict[str, Entry] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the package's own first."""
        return (*self.built_in, *(name for name in self._entries if name not in self.built_in))

    def register(self, name: str, build: Callable[..., Any], kind: type | None = None) -> None:
        """Make a name known.

        Args:
            name: an identifier that is not taken.
            build: takes what the package passes, and options with type hints such as `int`,
                `float`, `bool`, `str`, `Literal[...]`, or `Annotated[int, Bounds(low=1)]`.
            kind: class of what `build` returns, where reading a file needs it.

        Raises:
            ValueError: a name that is taken or no identifier, no function, one without the
                parameters that the package passes, or an option without a type hint.
        """
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"name must be an identifier. Received: name={name!r}")
        if name in self._entries or (name in self.built_in and not self._is_own(build)):
            raise ValueError(f"name must be new: there is a {self.kind} {name!r} already")
        self._entries[name] = Entry(name, build, self._options(name, build), kind)

    def entry(self, name: str) -> Entry:
        """Return what is known under a name.

        Raises:
            ValueError: there is none; the message names the most similar one.
        """
        if isinstance(name, str) and name in self.built_in:
            importlib.import_module(self.built_in[name])
        if not isinstance(name, str) or name not in self._entries:
            raise ValueError(f"name must be {self}. Received: name={name!r}{self._guess(name)}")
        return self._entries[name]

    def plugins(self) -> dict[str, Entry]:
        """Return the entries that are not the package's own."""
        return {name: entry for name, entry in self._entries.items() if name not in self.built_in}

    # The interface of `dataclass_parsing.Bounds`, for keys of the configuration.
    def admits(self, name: str) -> bool:
        """Return whether a name is known."""
        return name in self.names

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)} ({PLUGIN_HINT})"

    def _guess(self, name: str) -> str:
        guess = nearest(str(name), self.names)
        return f"; did you mean {guess}?" if guess else ""

    def _is_own(self, build: Callable[..., Any]) -> bool:
        return inspect.unwrap(build).__module__.startswith("deeplens_tf.")

    def _options(self, name: str, build: Callable[..., Any]) -> dict[str, inspect.Parameter]:
        first, parameters = self._parameters(build)
        if first != self.required:
            raise ValueError(
                f"build must be a function of {', '.join(self.required) or 'options'} and options. "
                f"Received: {build!r} for {name!r}"
            )
        options = {each.name: each for each in parameters if each.kind is not each.VAR_KEYWORD}
        for parameter in options.values():
            if parameter.kind is parameter.VAR_POSITIONAL or not is_supported(parameter.annotation):
                raise ValueError(
                    f"build must have a type hint for each option of {name!r}, such as int or "
                    f"Annotated[float, Bounds(low=0)]. Received: {parameter}"
                )
        return options

    def _parameters(
        self, build: Callable[..., Any]
    ) -> tuple[tuple[str, ...], list[inspect.Parameter]]:
        """Return the names that stand for the required parameters, and the other parameters."""
        is_layer = not isinstance(build, type) and hasattr(build, "trainable_variables")
        if not callable(build) or is_layer:
            return ("not a function",), []
        parameters = list(inspect.signature(build, eval_str=True).parameters.values())
        count = len(self.required)
        return tuple(each.name for each in parameters[:count]), parameters[count:]


_AUGMENT = "deeplens_tf.augment.augmentations"
encoders = Registry(
    "encoder",
    ("image_shape",),
    {
        "vit_nano": "deeplens_tf.models",
        "vit_tiny": "deeplens_tf.models",
        "vit_small": "deeplens_tf.models",
        "vit_b32_original": "deeplens_tf.models",
        "resnet50": "deeplens_tf.models",
    },
)
methods = Registry(
    "method",
    ("encoder", "probe", "total_steps"),
    {
        "contrastive": "deeplens_tf.models.contrastive",
        "byol": "deeplens_tf.models.byol",
        "twin": "deeplens_tf.models.barlow_twins",
        "simsiam": "deeplens_tf.models.simsiam",
        "inpainting": "deeplens_tf.models.inpainting",
    },
)
augmentations = Registry(
    "augmentation",
    (),
    dict.fromkeys(
        (
            *("flip", "rot90", "rotation", "crop", "brightness", "gaussian_noise"),
            *("background_noise", "jitter"),
        ),
        _AUGMENT,
    ),
)

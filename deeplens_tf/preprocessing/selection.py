"""Which part of a file is its image: what a folder says of it, and what a model's file keeps."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

MAX_KEPT = 10_000  # characters of a name or a pattern, and number of names, that a file may keep


@dataclass(frozen=True)
class Selection:
    """Which part of a file is its image, or its images.

    Attributes:
        fits_hdu: number, from 0, or name of the HDU, or several for a band each, such as "g,r,i";
            None for the first one that is an image.
        hdf5_dataset: name of the array; None for the only one that may be of images.
        stacks: whether a `.npy` array of three or four axes is a stack of images.
        band_files: pattern of the names of files that hold one band each, see
            `band_files.with_bands`; None for files that hold all bands.
        band_names: of the bands, in their order; needed for such files.
    """

    fits_hdu: int | str | None = None
    hdf5_dataset: str | None = None
    stacks: bool | None = None
    band_files: str | None = None
    band_names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, settings: object) -> "Selection":
        """Return the selection that settings with the same names make."""
        return cls(**{key: getattr(settings, key) for key in SELECTION_KEYS})

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a file."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Any) -> "Selection":
        """Return the selection that `to_dict` described.

        Raises:
            ValueError: anything else.
        """
        if not isinstance(values, Mapping) or set(values) != set(SELECTION_KEYS):
            raise ValueError(f"selection must have its keys. Received: {values!r:.200}")
        for key, is_valid in _CHECKS.items():
            if values[key] is not None and not is_valid(values[key]):
                raise ValueError(f"selection has no valid {key}. Received: {values[key]!r:.100}")
        names = values["band_names"]
        return cls(**{**values, "band_names": None if names is None else tuple(names)})


SELECTION_KEYS = tuple(each.name for each in fields(Selection))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_KEPT


def _is_hdu(value: Any) -> bool:
    return (_is_text(value) and bool(value)) or (type(value) is int and value >= 0)


def _are_names(value: Any) -> bool:
    is_list = isinstance(value, list | tuple) and len(value) <= MAX_KEPT
    return is_list and all(map(_is_text, value))


_CHECKS = {
    "fits_hdu": _is_hdu,
    "hdf5_dataset": _is_text,
    "stacks": lambda value: isinstance(value, bool),
    "band_files": _is_text,
    "band_names": _are_names,
}

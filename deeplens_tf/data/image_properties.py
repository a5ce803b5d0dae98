"""What a folder says of its images that their pixels do not show: `images.yaml`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deeplens_tf.config import Hdu, Positive, parse_override
from deeplens_tf.data.folders import find_test_folder
from deeplens_tf.data.manifest import PREPARE_AGAIN, Manifest, is_prepared
from deeplens_tf.dataclass_parsing import parse_dataclass
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.plain_yaml import parse_yaml
from deeplens_tf.preprocessing.selection import SELECTION_KEYS, Selection

PROPERTIES_FILE = "images.yaml"
MAX_PROPERTIES_BYTES = 100_000


@dataclass(frozen=True)
class ImageProperties:
    """Properties of the images in the files of a folder; None if unknown.

    Attributes:
        band_names: in the order of the files.
        pixel_scale_arcsec: side of a pixel.
        fits_hdu: number, from 0, or name of the HDU of FITS files.
        hdf5_dataset: name of the array of images in HDF5 files.
        stacks: whether a `.npy` array of three or four axes is a stack of images.
        band_files: pattern of the names of files that hold one band each.
    """

    band_names: tuple[str, ...] | None = None
    pixel_scale_arcsec: Positive | None = None
    fits_hdu: Hdu | None = None
    hdf5_dataset: str | None = None
    stacks: bool | None = None
    band_files: str | None = None

    @property
    def selection(self) -> Selection:
        """Which part of a file is its image."""
        return Selection.of(self)

    def confirmed(self, folder: Path, **given: Any) -> "ImageProperties":
        """Return these properties with the given ones, where those are not None.

        Args:
            folder: of the images.
            given: values that a configuration has, by their names.

        Raises:
            RequestError: a given value contradicts that of the folder.
        """
        own = asdict(self)
        for key, value in given.items():
            if value is not None and own[key] not in (None, value):
                own_file = f"correct {folder / PROPERTIES_FILE}"
                raise RequestError(
                    f"data.{key} is {_shown(value)}, and {folder} has {_shown(own[key])}: set "
                    f"data.{key}=null, or {PREPARE_AGAIN if is_prepared(folder) else own_file}"
                )
        return ImageProperties(**{**own, **{k: v for k, v in given.items() if v is not None}})


def image_properties(folder: Path) -> ImageProperties:
    """Return the properties of a folder's images, from its `images.yaml` or its manifest.

    The test folder beside it may have an `images.yaml` too, with the same values.

    Args:
        folder: of images, or a prepared one; it need not exist.

    Raises:
        DataError: a file that is damaged, or that contradicts that of the test folder.
    """
    if is_prepared(folder):
        settings = Manifest.load(folder).settings
        return parse_properties(
            {key: settings.get(key) for key in asdict(ImageProperties())}, folder
        )
    own = _read(folder / PROPERTIES_FILE)
    test = find_test_folder(folder)
    for key, value in asdict(_read(test / PROPERTIES_FILE) if test else own).items():
        wanted = getattr(own, key)
        if value is not None and wanted not in (None, value):
            raise DataError(
                f"{test}: its {key} is {_shown(value)}, and that of {folder} is {_shown(wanted)}"
            )
    return own


def settings_of(overrides: Sequence[str], user: str) -> dict[str, Any]:
    """Return the arguments of `--set` for `given_settings`, which are checked by it.

    Raises:
        RequestError: see `parse_override` and `given_settings`, or a key of another section than
            `data`.
    """
    settings: dict[str, Any] = {}
    for override in overrides:
        values, key = parse_override(override), override.partition("=")[0]
        if not key.startswith("data."):
            raise RequestError(f"{key}: {user} does not use it, see --set in --help; leave it out")
        settings |= values["data"]
    given_settings(settings, user)
    return settings


def given_settings(settings: Mapping[str, Any], user: str) -> dict[str, Any]:
    """Return checked settings of how the files of a folder are read, by their names.

    Args:
        settings: values of the names in `SELECTION_KEYS`, None where the folder's own is meant.
        user: what uses them, for messages.

    Raises:
        RequestError: another name, or a value that is not one of its kind.
    """
    for key in settings:
        if key not in SELECTION_KEYS:
            known = ", ".join(f"data.{name}" for name in SELECTION_KEYS)
            raise RequestError(f"data.{key}: {user} does not use it, only {known}; leave it out")
    parsed = parse_dataclass(ImageProperties, {**asdict(ImageProperties()), **settings}, "data")
    return {key: getattr(parsed, key) for key in settings}


def _read(path: Path) -> ImageProperties:
    if not path.is_file():
        return ImageProperties()
    if path.stat().st_size > MAX_PROPERTIES_BYTES:
        raise DataError(f"{path}: larger than {MAX_PROPERTIES_BYTES} bytes")
    try:
        values = parse_yaml(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: not YAML: {error}") from error
    return parse_properties({} if values is None else values, path)


def parse_properties(values: Any, where: Path) -> ImageProperties:
    """Return the properties that a mapping has, of a file that is named in errors.

    Raises:
        DataError: not such properties.
    """
    if not isinstance(values, Mapping):
        raise DataError(f"{where}: must be a mapping of keys, not {values!r:.80}")
    try:
        return parse_dataclass(ImageProperties, {**asdict(ImageProperties()), **values})
    except RequestError as error:
        raise DataError(f"{where}: {error}") from error


def _shown(value: Any) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)

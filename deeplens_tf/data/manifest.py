"""The manifest of a prepared folder: its content, its settings and its source."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from deeplens_tf.data.preparation_settings import is_scale
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.preprocessing.preprocessing import MAX_SOURCE_SIDE
from deeplens_tf.preprocessing.selection import SELECTION_KEYS, Selection
from deeplens_tf.preprocessing.value_scale import MIN_MAX, Limits, ValueScale

MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = "deeplens_tf prepared images"
MANIFEST_VERSION = 6  # the newest
WITH_DATA_SCALE = 6  # the first version that may have a scale over the data
WITH_CATALOG = 5  # the first version that may have a catalogue, or a scale of values
WITH_OBJECTS = 4  # the first version whose tables name the images' objects
WITHOUT_OBJECTS = 3  # what is written where no image has one
WITH_LEFT_OUT = 3  # the first version that counts left_out and passed_over
WITHOUT_MARGIN = 1  # the version of folders whose images never have a margin
PREPARE_AGAIN = "prepare the images again"
SPLITS = ("train", "validation", "test")
# Why a file is left out that could be read.
LEFT_OUT = (
    *("duplicate", "contradiction", "no signal", "group", "object", "class"),
    *("no row", "no label"),
)

_MAX_BYTES = 8 << 20  # enough for 50,000 shards, so for millions of images
_SHARD_NAME = re.compile(r"[a-z]+-\d{5,}\.tfrecord")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name in the folder, its number of examples, its digest."""

    file: str
    count: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """One split: its number of images in total, per class and with a mass, and its shards.

    `content` is a digest of the source images, classes and masses only. Two preparations of the
    same images have the same value, also with another size or order.
    """

    name: str
    count: int
    per_class: dict[str, int]
    masses: int
    shards: tuple[Shard, ...]
    content: str


@dataclass(frozen=True)
class CatalogFacts:
    """What a manifest says of the table that lists the images.

    Attributes:
        name: of the table's file.
        roles: what it says of an image, such as file and label.
        units: of each column that is kept with the images, "" if it has none.
        missing: number of rows whose file is not there.
        first_missing: the files of the first of them.
        passed_over: names of the columns that are not read.
        sha256: of the table of the kept columns of each split, by its name.
    """

    name: str
    roles: tuple[str, ...]
    units: dict[str, str]
    missing: int
    first_missing: tuple[str, ...]
    passed_over: tuple[str, ...]
    sha256: dict[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are kept with the images."""
        return tuple(self.units)


@dataclass(frozen=True)
class Manifest:
    """The content of a prepared folder.

    Attributes:
        classes: in label order; empty for unlabelled data.
        image_shape: (height, width, bands) of every image, without its margin.
        splits: by name: train, and optionally validation and test.
        fingerprint: digest of the source's classes, file names and contents.
        settings: those of `PreparationSettings.to_dict`.
        rejected: number of files that cannot be used; `rejected.csv` lists them.
        left_out: number of further files in `rejected.csv`, by the reasons in `LEFT_OUT`.
        duplicates: the duplicates among them, by the split that they are left out of.
        groups: number of "groups" in `groups.csv`, and of "images" in them, and of
            "unknown" rows, which name no image; empty without it.
        objects: number of "objects" in `objects.csv`, and of "images" and "unknown" rows likewise.
        passed_over: number of files that are not images, by their suffix.
        catalog: what a table lists of the images; None without one.
        bands_left_out: positions, from 0, of the bands that are constant in every source image;
            `image_shape` does not count them.
        pixel_scale_arcsec: of the prepared images; None if it is unknown or differs.
        resampled_from_arcsec: pixel scale of all source files, where they are resampled; None if
            they are not, had several, or are of an earlier version.
        source_side: side in source pixels of the squares that became images; None if it differs.
        band_names: of the prepared images; None if unknown.
        nan_filled: number of "images" with NaN pixels that were filled, and of these "pixels".
        scale_limits: ends of the interval of a scale over the data; None for one of each image.
        value_range: lowest and highest value of every image.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    splits: dict[str, Split]
    fingerprint: str
    settings: dict[str, Any]
    rejected: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)
    bands_left_out: tuple[int, ...] = ()
    pixel_scale_arcsec: float | None = None
    resampled_from_arcsec: float | None = None
    source_side: int | None = None
    band_names: tuple[str, ...] | None = None
    catalog: CatalogFacts | None = None
    nan_filled: dict[str, int] = field(default_factory=dict)
    scale_limits: Limits | None = None
    value_range: tuple[float, float] = (0.0, 1.0)
    format_version: int = WITHOUT_OBJECTS

    @property
    def margin(self) -> int:
        """Width in pixels of the margin around each stored image; 0 for none."""
        return int(self.settings["margin"])

    @property
    def scale(self) -> ValueScale:
        """The scale of the images' values."""
        stored = self.settings.get("scale")
        scale = MIN_MAX if stored is None else ValueScale.from_dict(stored)
        return scale if self.scale_limits is None else replace(scale, limits=self.scale_limits)

    @property
    def selection(self) -> Selection:
        """Which part of a source file is its image."""
        return _selection(self.settings)

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """(height, width, bands) of every image in the shards, with its margin."""
        height, width, bands = self.image_shape
        return height + 2 * self.margin, width + 2 * self.margin, bands

    def save(self, folder: Path) -> None:
        """Write the manifest into a folder."""
        values = {"format": MANIFEST_FORMAT, **asdict(self)}
        if self.format_version < WITH_OBJECTS:
            del values["objects"]
        if self.format_version < WITH_CATALOG:
            del values["catalog"]
        for key in ("nan_filled", "scale_limits", "resampled_from_arcsec"):
            if not values[key]:
                del values[key]
        text = json.dumps(values, indent=2, ensure_ascii=True)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read and check the manifest of a prepared folder.

        Raises:
            RequestError: the folder is not a prepared one.
            DataError: the manifest is damaged or of another version.
        """
        path = folder / MANIFEST_FILE
        if not path.is_file():
            raise RequestError(f"{folder}: not a prepared folder, {MANIFEST_FILE} is missing")
        try:
            return _parse(_read(path))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"missing key {error}" if isinstance(error, KeyError) else error
            raise DataError(f"{path}: damaged, {reason}; {PREPARE_AGAIN}") from error


def version_for(*, with_objects: bool, newer: bool, scale: ValueScale = MIN_MAX) -> int:
    """Return the earliest version of a manifest that knows all that a folder has.

    Args:
        with_objects: whether images have objects.
        newer: whether it has a catalogue or a scale of values.
        scale: of the values.
    """
    if scale.scale_over == "data":
        return WITH_DATA_SCALE
    if newer:
        return WITH_CATALOG
    return WITH_OBJECTS if with_objects else WITHOUT_OBJECTS


def is_prepared(folder: Path) -> bool:
    """Return whether a folder is a prepared one, possibly damaged, not a folder of images."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return MANIFEST_FORMAT.encode() in stream.read(200) or any(folder.glob("*.tfrecord"))


def is_sha256(value: object) -> bool:
    """Return whether a value is a SHA-256 in hexadecimal digits."""
    return isinstance(value, str) and bool(_SHA256.fullmatch(value))


def _read(path: Path) -> Mapping[str, Any]:
    values = read_json(path, _MAX_BYTES)
    _require(values.get("format") == MANIFEST_FORMAT, "another format")
    version = values.get("format_version")
    _require(
        type(version) is int and WITHOUT_MARGIN <= version <= MANIFEST_VERSION,
        f"format version {version!r:.20}, this program reads versions {WITHOUT_MARGIN} to "
        f"{MANIFEST_VERSION}",
    )
    return values


def _parse(values: Mapping[str, Any]) -> Manifest:
    classes = tuple(_names(values["classes"], "classes"))
    splits = {name: _split(name, split, classes) for name, split in values["splits"].items()}
    _require("train" in splits and set(splits) <= set(SPLITS), "unknown splits, or no train split")
    # Every class has an image, so the data bound the size of the network's output.
    _require(all(splits["train"].per_class.values()), "a class without training images")
    # A shard that is listed many times would be read as many times.
    names = [shard.file for split in splits.values() for shard in split.shards]
    _require(len(set(names)) == len(names), "a shard is listed twice")
    low, high = values["value_range"]
    _require((low, high) == (0, 1), "value_range is not 0 to 1")
    version = values["format_version"]
    settings = _settings(values["settings"], version)
    shape = _image_shape(values["image_shape"])
    _require(shape[0] == settings.get("image_size"), "image_shape does not match image_size")
    return Manifest(
        classes=classes,
        image_shape=shape,
        splits=splits,
        fingerprint=_digest(values["fingerprint"]),
        settings=settings,
        rejected=_count(values["rejected"], "rejected"),
        **_later_fields(values),
        scale_limits=_scale_limits(values.get("scale_limits"), settings, shape[2]),
        catalog=_catalog(values["catalog"], splits) if version >= WITH_CATALOG else None,
        format_version=version,
    )


def _later_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that versions before 3 do not have."""
    if values["format_version"] < WITH_LEFT_OUT:
        return {}
    left_out, bands = _counts(values["left_out"], "left_out"), values["bands_left_out"]
    _require(set(left_out) <= set(LEFT_OUT), "left_out contains an unknown reason")
    numbers = [_count(band, "bands_left_out") for band in bands]
    _require(numbers == sorted(set(numbers)), "bands_left_out is not a list of rising numbers")
    return {
        "left_out": left_out,
        "duplicates": _counts(values["duplicates"], "duplicates"),
        "groups": _counts(values["groups"], "groups"),
        "objects": _objects(values),
        "passed_over": _counts(values["passed_over"], "passed_over"),
        "nan_filled": _counts(values.get("nan_filled", {}), "nan_filled"),
        "bands_left_out": tuple(numbers),
        "pixel_scale_arcsec": _scale(values["pixel_scale_arcsec"]),
        "resampled_from_arcsec": _scale(values.get("resampled_from_arcsec")),
        "source_side": _source_side(values["source_side"]),
        "band_names": _band_names(values["band_names"], values["image_shape"][2]),
    }


def _objects(values: Mapping[str, Any]) -> dict[str, int]:
    has_objects = values["format_version"] >= WITH_OBJECTS
    return _counts(values["objects"], "objects") if has_objects else {}


def _catalog(values: Any, splits: Mapping[str, Split]) -> CatalogFacts | None:
    if values is None:
        return None
    units, digests = _mapping(values["units"], "units"), _mapping(values["sha256"], "sha256")
    _require(all(isinstance(unit, str) for unit in units.values()), "a unit is not a text")
    _require(set(digests) == (set(splits) if units else set()), "a split without its catalogue")
    return CatalogFacts(
        name=_text(values["name"], "catalog"),
        roles=tuple(_names(values["roles"], "roles")),
        units=units,
        missing=_count(values["missing"], "missing"),
        first_missing=tuple(_names(values["first_missing"], "first_missing")),
        passed_over=tuple(_names(values["passed_over"], "passed_over")),
        sha256={name: _digest(digest) for name, digest in digests.items()},
    )


def _properties(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked settings of the source images' pixels."""
    names, scales = settings["band_names"], ("pixel_scale_arcsec", "resample_to_arcsec")
    for key in scales:
        _require(is_scale(settings[key]), f"{key} is not a positive number")
    needs, has = (settings[key] is not None for key in reversed(scales))
    _require(has or not needs, "resample_to_arcsec without a pixel scale")
    return {"band_names": None if names is None else tuple(_names(names, "band_names"))}


def _band_names(value: Any, bands: int) -> tuple[str, ...] | None:
    names = None if value is None else tuple(_names(value, "band_names"))
    _require(names is None or len(names) == bands, "band_names does not name each band")
    return names


def _scale(value: Any) -> float | None:
    _require(is_scale(value), "pixel_scale_arcsec is not a positive number")
    return value


def _source_side(value: Any) -> int | None:
    side = None if value is None else _count(value, "source_side")
    _require(side is None or 0 < side <= MAX_SOURCE_SIDE, "source_side is not a number of pixels")
    return side


def _settings(value: Any, version: int) -> dict[str, Any]:
    settings = _mapping(value, "settings")
    if version == WITHOUT_MARGIN:
        _require("margin" not in settings, f"a margin in version {version}")
        return settings | {"margin": 0}
    if version >= WITH_LEFT_OUT:
        settings |= _properties(settings)
    _selection(settings)
    if "scale" in settings:
        _require(version >= WITH_CATALOG, f"a scale in version {version}")
        over = ValueScale.from_dict(settings["scale"]).scale_over
        known = over == "image" or version >= WITH_DATA_SCALE
        _require(known, f"a scale over the data in version {version}")
    margin, size = settings["margin"], settings["image_size"]
    is_margin = type(margin) is int and type(size) is int and 0 <= margin <= size
    _require(is_margin, f"margin is not a whole number from 0 to image_size, {margin!r:.20}")
    return settings


def _scale_limits(value: Any, settings: Mapping[str, Any], bands: int) -> Limits | None:
    """Return the checked ends of the interval of a scale over the data."""
    scale = ValueScale.from_dict(settings["scale"]) if "scale" in settings else MIN_MAX
    _require((scale.scale_over == "data") == (value is not None), "scale_over without its limits")
    if value is None:
        return None
    limits = replace(scale, limits=value).limits
    expected = bands if scale.scale_bands == "each" else 1
    _require(limits is not None and len(limits) == expected, "scale_limits of other bands")
    return limits


def _selection(settings: Mapping[str, Any]) -> Selection:
    return Selection.from_dict({key: settings.get(key) for key in SELECTION_KEYS})


def _split(name: str, values: Mapping[str, Any], classes: tuple[str, ...]) -> Split:
    shards = tuple(_shard(shard) for shard in values["shards"])
    per_class = _mapping(values["per_class"], "per_class")
    counts = [_count(count, "per_class") for count in per_class.values()]
    count = _count(values["count"], "count")
    in_shards = sum(shard.count for shard in shards)
    _require(tuple(per_class) == classes, "per_class does not list the classes")
    _require(count == in_shards, f"{name}: count is not the sum over the shards")
    _require(not classes or count == sum(counts), f"{name}: count is not the sum over the classes")
    masses, content = _count(values["masses"], "masses"), _digest(values["content"])
    return Split(name, count, per_class, masses, shards, content)


def _shard(values: Mapping[str, Any]) -> Shard:
    name = values["file"]
    # Only names that this package writes: a manifest must not refer to files outside its folder.
    valid = isinstance(name, str) and _SHARD_NAME.fullmatch(name)
    _require(bool(valid), "not the file name of a shard")
    return Shard(name, _count(values["count"], "count"), _digest(values["sha256"]))


def _image_shape(value: Any) -> tuple[int, int, int]:
    height, width, bands = (_count(side, "image_shape") for side in value)
    _require(height == width and height > 0 and bands > 0, "image_shape is not (S, S, C)")
    return height, width, bands


def _count(value: Any, key: str) -> int:
    _require(type(value) is int and 0 <= value < 2**40, f"{key} is not a valid number")
    return value


def _counts(value: Any, key: str) -> dict[str, int]:
    return {name: _count(count, key) for name, count in _mapping(value, key).items()}


def _digest(value: Any) -> str:
    _require(is_sha256(value), "a digest is not SHA-256")
    return value


def _names(value: Any, key: str) -> list[str]:
    valid = isinstance(value, list) and all(isinstance(name, str) for name in value)
    _require(valid and len(set(value)) == len(value), f"{key} is not a list of different names")
    return value


def _text(value: Any, key: str) -> str:
    _require(isinstance(value, str), f"{key} is not a text")
    return value


def _mapping(value: Any, key: str) -> dict[str, Any]:
    _require(isinstance(value, dict), f"{key} is not a mapping")
    return value


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)

"""The manifest of a prepared folder: what is in it, how it was made, and from what."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.json_objects import read_json

FILE = "manifest.json"
FORMAT = "deeplens_tf prepared images"
FORMAT_VERSION = 1
SPLITS = ("train", "validation", "test")

_MAX_BYTES = 8 << 20  # 50,000 shards, so millions of images
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
    """One split: how many images in all, of each class and with a mass, and where they are.

    `content` is a digest of the source images, classes and masses alone: two preparations of the
    same images, at other sizes or in another order, have it in common.
    """

    name: str
    count: int
    per_class: dict[str, int]
    masses: int
    shards: tuple[Shard, ...]
    content: str


@dataclass(frozen=True)
class Manifest:
    """What a prepared folder holds.

    Attributes:
        classes: in label order; empty for unlabelled data.
        image_shape: (height, width, bands) of every image.
        value_range: lowest and highest value of every image.
        splits: by name: train, and validation and test where there are such.
        fingerprint: digest of the source's file names, sizes and times.
        settings: image_size, fit, validation_fraction and seed of the preparation.
        rejected: how many files were left out; `rejected.csv` lists them.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    splits: dict[str, Split]
    fingerprint: str
    settings: dict[str, Any]
    rejected: int = 0
    value_range: tuple[float, float] = (0.0, 1.0)
    format_version: int = FORMAT_VERSION

    def save(self, folder: Path) -> None:
        """Write the manifest into a folder."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=2, ensure_ascii=True)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read and check the manifest of a prepared folder.

        Raises:
            RequestError: the folder is not a prepared one.
            DataError: the manifest is damaged or of another version.
        """
        path = folder / FILE
        if not path.is_file():
            raise RequestError(f"{folder}: not a prepared folder, it has no {FILE}")
        try:
            return _parse(_read(path))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise DataError(f"{path}: damaged, {reason}; prepare the images again") from error


def is_prepared(folder: Path) -> bool:
    """Tell whether a folder is (or was, if damaged) a prepared one, not a folder of images."""
    path = folder / FILE
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return FORMAT.encode() in stream.read(200) or any(folder.glob("*.tfrecord"))


def _read(path: Path) -> Mapping[str, Any]:
    values = read_json(path, _MAX_BYTES)
    _require(values.get("format") == FORMAT, "another format")
    version = values.get("format_version")
    _require(version == FORMAT_VERSION, f"version {version!r:.20}, this program reads 1")
    return values


def _parse(values: Mapping[str, Any]) -> Manifest:
    classes = tuple(_texts(values["classes"], "classes"))
    splits = {name: _split(name, split, classes) for name, split in values["splits"].items()}
    _require("train" in splits and set(splits) <= set(SPLITS), "splits are not train, ...")
    # Every class has an image, so there is never more of a network than of data to train it.
    _require(all(splits["train"].per_class.values()), "a class without training images")
    # A shard that is named often would be read as often.
    names = [shard.file for split in splits.values() for shard in split.shards]
    _require(len(set(names)) == len(names), "a shard that is named twice")
    low, high = values["value_range"]
    _require((low, high) == (0, 1), "value_range is not 0 to 1")
    settings = _mapping(values["settings"], "settings")
    shape = _image_shape(values["image_shape"])
    _require(shape[0] == settings.get("image_size"), "image_shape is not of image_size")
    return Manifest(
        classes=classes,
        image_shape=shape,
        splits=splits,
        fingerprint=_digest(values["fingerprint"]),
        settings=settings,
        rejected=_count(values["rejected"], "rejected"),
    )


def _split(name: str, values: Mapping[str, Any], classes: tuple[str, ...]) -> Split:
    shards = tuple(_shard(shard) for shard in values["shards"])
    per_class = _mapping(values["per_class"], "per_class")
    counts = [_count(count, "per_class") for count in per_class.values()]
    count = _count(values["count"], "count")
    _require(tuple(per_class) == classes, "per_class does not name the classes")
    _require(count == sum(shard.count for shard in shards), f"{name}: count is not the shards' sum")
    _require(not classes or count == sum(counts), f"{name}: count is not the classes' sum")
    return Split(
        name,
        count,
        per_class,
        _count(values["masses"], "masses"),
        shards,
        _digest(values["content"]),
    )


def _shard(values: Mapping[str, Any]) -> Shard:
    name = values["file"]
    # A plain name of ours: a manifest must not lead outside its folder.
    _require(isinstance(name, str) and bool(_SHARD_NAME.fullmatch(name)), "a shard's file name")
    return Shard(name, _count(values["count"], "count"), _digest(values["sha256"]))


def _image_shape(value: Any) -> tuple[int, int, int]:
    height, width, bands = (_count(side, "image_shape") for side in value)
    _require(height == width and height > 0 and bands > 0, "image_shape is not (S, S, C)")
    return height, width, bands


def _count(value: Any, key: str) -> int:
    _require(type(value) is int and 0 <= value < 2**40, f"{key} is not a number of things")
    return value


def _digest(value: Any) -> str:
    _require(isinstance(value, str) and bool(_SHA256.fullmatch(value)), "a digest is not SHA-256")
    return value


def _texts(value: Any, key: str) -> list[str]:
    good = isinstance(value, list) and all(isinstance(text, str) for text in value)
    _require(good and len(set(value)) == len(value), f"{key} is not a list of names")
    return value


def _mapping(value: Any, key: str) -> dict[str, Any]:
    _require(isinstance(value, dict), f"{key} is not a mapping")
    return value


def _require(truth: bool, complaint: str) -> None:
    if not truth:
        raise ValueError(complaint)

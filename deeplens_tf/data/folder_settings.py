"""The settings of a folder's images, where a caller or a configuration leaves them open."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from deeplens_tf.config import IMAGE_SIZE, VALIDATION_FRACTION, Config, DataConfig
from deeplens_tf.data.catalog import CatalogRequest
from deeplens_tf.data.formats.image_formats import SELECTED_BY
from deeplens_tf.data.header_scales import first_stated_scale
from deeplens_tf.data.image_properties import image_properties
from deeplens_tf.data.manifest import MANIFEST_FILE, PREPARE_AGAIN, Manifest, is_prepared
from deeplens_tf.data.source_folders import FOLDERS_ALONE
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.preprocessing.scaling import FIT_MODES
from deeplens_tf.preprocessing.value_scale import MIN_MAX, SCALE_KEYS, ValueScale

# Of a folder of images that is not prepared yet.
RAW_IMAGE_SIZE, RAW_FIT, RAW_VALIDATION_FRACTION = 64, "resize", 0.1
# Keys of `data` that a prepared folder decides, and those that any folder may.
PREPARED_KEYS = ("image_size", "fit", "validation_fraction", "resample_to_arcsec")
PROPERTY_KEYS = (
    "band_names",
    "pixel_scale_arcsec",
    "fits_hdu",
    "hdf5_dataset",
    "stacks",
    "band_files",
)
READING_KEYS = ("bands", "mixed_sizes", "catalog", "catalog_columns", "strict")


def with_folder_settings(config: Config) -> Config:
    """Return a configuration in which what is null in `data` is the folder's own.

    `data.image_size`, `data.fit` and `data.validation_fraction` are not null then.

    Raises:
        RequestError: a value contradicts the folder's `images.yaml`.
        DataError: the prepared folder or `images.yaml` is damaged.
    """
    data = config.data
    given = {key: getattr(data, key) for key in PREPARED_KEYS + PROPERTY_KEYS}
    request = CatalogRequest.of(data.catalog, data.catalog_columns)
    chosen = folder_settings(data.path, given | {"scale": scale_of(data)}, request)
    scale = chosen.pop("scale")
    # Min-max scaling that nobody asked for stays open, as in the runs of earlier versions.
    keys = SCALE_KEYS if scale != MIN_MAX or scale_of(data) else ()
    values = {key: getattr(scale, key) for key in keys}
    return replace(config, data=replace(data, **chosen, **values))


def preparation_arguments(config: Config) -> dict[str, Any]:
    """Return what `prepare_folder` and `open_folder` take of a configuration, by argument.

    Raises:
        RequestError: a parameter of the scale of values that is out of range.
    """
    same = (*PREPARED_KEYS, *PROPERTY_KEYS, *READING_KEYS)
    values = {key: getattr(config.data, key) for key in same}
    return {"seed": config.seed, "scale": scale_of(config.data), **values}


def scale_of(data: DataConfig) -> ValueScale | None:
    """Return the scale of values that a configuration sets, or None if it leaves it open.

    A parameter of another interval or stretch than the one that is set does not count: it may be
    that of a run whose stretch is changed.

    Raises:
        RequestError: a parameter that is out of range.
    """
    given = {key: getattr(data, key) for key in SCALE_KEYS if getattr(data, key) is not None}
    if data.interval not in (None, "percentile"):
        given.pop("percentiles", None)
    if data.stretch not in (None, "asinh"):
        given.pop("asinh_softening", None)
    if data.max_nan_fraction == 0:
        given.pop("nan_fill", None)
    try:
        return ValueScale(**given) if given else None
    except ValueError as error:
        raise RequestError(f"data.{error}") from error


def folder_settings(
    folder: str | Path, given: Mapping[str, Any], request: CatalogRequest = FOLDERS_ALONE
) -> dict[str, Any]:
    """Return given settings; those that are None are the folder's own.

    A prepared folder has its own. Raw images, and a folder that does not exist, get
    `RAW_IMAGE_SIZE`, `RAW_FIT`, `RAW_VALIDATION_FRACTION` and min-max scaling, and the bands'
    names, the pixel scale and the layout of the files of `images.yaml`. A pixel scale that it
    lacks is the first one in the catalogue, or in the header of a FITS file.

    Args:
        folder: of images, or a prepared one.
        given: the values of `PREPARED_KEYS`, `PROPERTY_KEYS` and "scale", a `ValueScale`.
        request: the catalogue of raw images.

    Raises:
        RequestError: a given value contradicts the folder's `images.yaml`, or there is no such
            catalogue.
        DataError: the prepared folder, `images.yaml` or the catalogue is damaged.
    """
    folder = Path(folder)
    raw = (RAW_IMAGE_SIZE, RAW_FIT, RAW_VALIDATION_FRACTION, None, MIN_MAX)
    keys = (*PREPARED_KEYS, "scale")
    own = _prepared(folder) if is_prepared(folder) else dict(zip(keys, raw, strict=True))
    chosen = {key: own[key] if given[key] is None else given[key] for key in keys}
    names = given["band_names"]
    properties = image_properties(folder).confirmed(
        folder,
        band_names=None if names is None else tuple(names),
        pixel_scale_arcsec=given["pixel_scale_arcsec"],
        fits_hdu=given["fits_hdu"],
        hdf5_dataset=given["hdf5_dataset"],
        stacks=given["stacks"],
        band_files=given["band_files"],
    )
    if properties.pixel_scale_arcsec is None and not is_prepared(folder):
        found = first_stated_scale(folder, request, properties.selection)
        properties = replace(properties, pixel_scale_arcsec=found)
    return chosen | asdict(properties)


def without_settings_of(
    trained_on: DataConfig, config: Config, overrides: Sequence[str] = ()
) -> Config:
    """Return a configuration without what it took over of another folder's images.

    The HDU of FITS files and the array of HDF5 files stay where the folder names none: the first or
    only one may be another.

    Args:
        trained_on: the section of the run that the configuration continues.
        config: with another `data.path`, or with the same one, which changes nothing.
        overrides: keys, or arguments of `--set`, that the user gives; they stay.
    """
    if Path(config.data.path).resolve() == Path(trained_on.path).resolve():
        return config
    folder = Path(config.data.path)
    keys = [*PROPERTY_KEYS, *["validation_fraction"] * is_prepared(folder)]
    if not is_prepared(folder):
        own = image_properties(folder)
        keys = [key for key in keys if key not in SELECTED_BY or getattr(own, key) is not None]
    config = _without_catalog_of(trained_on, config, overrides)
    kept = {override.partition("=")[0] for override in overrides}
    inherited = [key for key in keys if getattr(config.data, key) == getattr(trained_on, key)]
    open_again: dict[str, Any] = {key: None for key in inherited if f"data.{key}" not in kept}
    return replace(config, data=replace(config.data, **open_again))


def _without_catalog_of(trained_on: DataConfig, config: Config, overrides: Sequence[str]) -> Config:
    """Return a configuration without the catalogue of another folder's images."""
    given = any(override.startswith("data.catalog") for override in overrides)
    if given or config.data.catalog != trained_on.catalog:
        return config
    return replace(config, data=replace(config.data, catalog=None, catalog_columns={}))


def _prepared(folder: Path) -> dict[str, Any]:
    manifest = Manifest.load(folder)
    own = {key: manifest.settings.get(key) for key in PREPARED_KEYS} | {"scale": manifest.scale}
    checks = {
        "image_size": IMAGE_SIZE.admits,
        "fit": lambda fit: fit in FIT_MODES,
        "validation_fraction": VALIDATION_FRACTION.admits,
    }
    for key, is_valid in checks.items():
        if own[key] is None or not is_valid(own[key]):
            raise DataError(
                f"{folder / MANIFEST_FILE}: damaged, {key} {own[key]!r:.20} is not valid; "
                f"{PREPARE_AGAIN}"
            )
    return own

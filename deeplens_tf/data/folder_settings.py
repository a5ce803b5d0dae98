"""The size and the fit of a folder's images, where a caller or a configuration leaves them open."""

from dataclasses import replace
from pathlib import Path
from typing import cast

from deeplens_tf.config import IMAGE_SIZE, Config, Fit
from deeplens_tf.data.manifest import MANIFEST_FILE, PREPARE_AGAIN, Manifest, is_prepared
from deeplens_tf.preprocessing.scaling import FIT_MODES
from deeplens_tf.errors import DataError

RAW_IMAGE_SIZE, RAW_FIT = 64, "resize"  # of a folder of images that is not prepared yet


def with_folder_settings(config: Config) -> Config:
    """Return a configuration whose `data.image_size` and `data.fit` are not null.

    Raises:
        DataError: the prepared folder is damaged.
    """
    data = config.data
    size, fit = size_and_fit(Path(data.path), data.image_size, data.fit)
    return replace(config, data=replace(data, image_size=size, fit=cast(Fit, fit)))


def size_and_fit(folder: Path, image_size: int | None, fit: str | None) -> tuple[int, str]:
    """Return the given size in pixels and fit; for None, those of the folder.

    A prepared folder has its own. Raw images, and a folder that does not exist, get
    `RAW_IMAGE_SIZE` and `RAW_FIT`.

    Raises:
        DataError: the prepared folder is damaged.
    """
    if image_size is not None and fit is not None:
        return image_size, fit
    own_size, own_fit = _prepared(folder) if is_prepared(folder) else (RAW_IMAGE_SIZE, RAW_FIT)
    return own_size if image_size is None else image_size, own_fit if fit is None else fit


def _prepared(folder: Path) -> tuple[int, str]:
    settings = Manifest.load(folder).settings
    size, fit = settings["image_size"], settings.get("fit")
    if not IMAGE_SIZE.admits(size) or fit not in FIT_MODES:
        raise DataError(
            f"{folder / MANIFEST_FILE}: damaged, image_size {size!r:.20} or fit {fit!r:.20} is not "
            f"valid; {PREPARE_AGAIN}"
        )
    return size, fit

"""Whether data are read and preprocessed as those that a network was trained on."""

from dataclasses import replace

from deeplens_tf.data.formats.image_formats import SELECTED_BY
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.data.preparing import OTHER_LIMITS
from deeplens_tf.errors import RequestError
from deeplens_tf.preprocessing.framing import same_scale
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.selection import Selection
from deeplens_tf.preprocessing.value_scale import SCALE_KEYS


def require_same_preprocessing(
    trained: Preprocessing | None,
    data: PreparedData,
    network: str,
    folder: str | None = None,
    accept_bands: bool | None = None,
) -> None:
    """Refuse data of another size, fit, bands or pixel scale than those of a network's training.

    Args:
        trained: of the network; None, as in files of earlier versions, for no check.
        data: the opened data.
        network: what the message names, such as the path of its file.
        folder: what the message calls the data; None for the prepared folder.
        accept_bands: whether bands of other names are accepted (`data.other_bands`); None where
            that cannot be asked for.

    Raises:
        RequestError: they differ; the message has the keys that would be right.
    """
    own = data.preprocessing
    if trained is None:
        return
    of_any_band = replace(trained, band_names=None)
    if not (found := (of_any_band if accept_bands else trained).differences(own)):
        return
    keys = _right_keys(trained, own)
    if accept_bands is False and not of_any_band.differences(own):
        keys.append("data.other_bands=true to use it on other bands")
    remedy = f": set {', '.join(keys)}" if keys else ""
    if not keys and trained.scaling.limits and own.scaling.limits:
        remedy = f": {OTHER_LIMITS}"
    raise RequestError(
        f"{folder or data.folder}: images are not as those that {network} was trained on, "
        f"{'; '.join(found)}{remedy}"
    )


def other_parts(trained: Preprocessing, data: PreparedData, network: str) -> list[str]:
    """Return in words which other HDU or array than in a network's training is an image of data.

    It is no reason to refuse the data: in other files another HDU may be the image.
    """
    before, now = trained.selection, data.preprocessing.selection
    if before is None or now is None or before == now:
        return []
    names = [name.partition("#")[0].lower() for name in data.index("train")["file"]]
    return [
        f"{network}: trained with data.{key}={_shown(before, key)}, and these files are read with "
        f"data.{key}={_shown(now, key)}"
        for key, suffixes in SELECTED_BY.items()
        if getattr(before, key) != getattr(now, key) and any(n.endswith(suffixes) for n in names)
    ]


def other_bands(trained: Preprocessing, data: PreparedData, network: str) -> list[str]:
    """Return in words that the images of data are of other bands than a network's training."""
    own = data.preprocessing
    if not trained.has_other_bands(own):
        return []
    before, now = (", ".join(each.band_names or ()) for each in (trained, own))
    return [f"{network}: trained on {before}, and these images are {now}"]


def _shown(selection: Selection, key: str) -> str:
    value = getattr(selection, key)
    return "null" if value is None else str(value)


def _right_keys(trained: Preprocessing, own: Preprocessing) -> list[str]:
    keys = []
    if own.image_size != trained.image_size:
        keys.append(f"data.image_size={trained.image_size}")
    if own.fit != trained.fit:
        keys.append(f"data.fit={trained.fit}")
    scale, other = vars(trained.scaling.of_values), vars(own.scaling.of_values)
    for key in [key for key in SCALE_KEYS if scale[key] not in (other[key], None)]:
        value = list(scale[key]) if isinstance(scale[key], tuple) else scale[key]
        keys.append(f"data.{key}={value}")
    if own.bands == 1 and own.repeat != trained.image_shape[2]:
        keys.append(f"data.bands={trained.image_shape[2]}")
    # With another size or fit the pixels may have the right scale already.
    target, found = trained.pixel_scale_arcsec, own.pixel_scale_arcsec
    if not keys and target and found and not same_scale(target, found):
        keys.append(f"data.resample_to_arcsec={target:.6g}")
    if not (target and found) and trained.has_other_side(own):
        keys.append("data.mixed_sizes=true if both show the same field")
    return keys

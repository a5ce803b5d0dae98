"""A fine-tuned model with the images that it is given, preprocessed as those of its training."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from deeplens_tf.data.header_scales import holds_fits
from deeplens_tf.data.image_properties import (
    PROPERTIES_FILE,
    ImageProperties,
    given_settings,
    image_properties,
)
from deeplens_tf.data.manifest import is_prepared
from deeplens_tf.errors import RequestError
from deeplens_tf.files.products import MODEL
from deeplens_tf.inference.given_images import GivenImages
from deeplens_tf.inference.new_images import NewImages
from deeplens_tf.inference.reading import Reading
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.preprocessing.framing import same_scale
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.selection import Selection
from deeplens_tf.probes.outputs import ExactOutputs
from deeplens_tf.runs.run_folder import run_of
from deeplens_tf.saving.keras_files import load_fine_tuned
from deeplens_tf.terminal import print_lines


@dataclass(frozen=True)
class ModelInput:
    """A model and the images to predict for.

    Attributes:
        file: that the model was read from.
        model: image -> class probabilities or mass.
        images: as the model takes them.
    """

    file: Path
    model: DownstreamModel
    images: NewImages

    @cached_property
    def outputs(self) -> ExactOutputs:
        """The outputs of the model for some of the images."""
        return ExactOutputs(self.model)


def open_input(
    run: Path,
    given: GivenImages,
    pixel_scale_arcsec: float | None = None,
    resample: bool = False,
    mixed_sizes: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> ModelInput:
    """Load a model and find out how new images are preprocessed for it.

    Args:
        run: run folder, or file of the model.
        given: the images.
        pixel_scale_arcsec: of images that state none; None for that of the folder, or unknown.
        resample: whether to resample images of another pixel scale.
        mixed_sizes: whether images may have different sizes.
        settings: how the files are read, where not as in training, see `given_settings`.

    Raises:
        RequestError: no such run or file, images of other bands or of another pixel scale than the
            model's, or a setting that contradicts the folder's images.yaml.
        DataError: the folder's images.yaml is damaged.
    """
    file = run / MODEL if run.is_dir() else run
    model = load_fine_tuned(run)
    how = model.preprocessing or preprocessing_of_run(file, model.image_shape)
    options = (pixel_scale_arcsec, resample, mixed_sizes, settings)
    return ModelInput(file, model, open_images(file, how, given, *options))


def open_images(
    file: Path,
    how: Preprocessing,
    given: GivenImages,
    pixel_scale_arcsec: float | None = None,
    resample: bool = False,
    mixed_sizes: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> NewImages:
    """Return new images as a network takes them.

    Args:
        file: of the network.
        how: the images of its training were preprocessed.
        given: the images.
        pixel_scale_arcsec: see `open_input`, also for the errors.
        resample: see there.
        mixed_sizes: see there.
        settings: see there.
    """
    chosen = given_settings(settings or {}, "reading images")
    if given.folder is not None and is_prepared(given.folder):
        is_scaled = resample or pixel_scale_arcsec is not None
        _require_as_prepared(given.folder, is_scaled, given.catalog is not None, chosen)
        return NewImages(given, {given.folder: Reading(how)})
    how = replace(how, source_side=None) if mixed_sizes else how
    options = (pixel_scale_arcsec, resample, chosen)
    places = given.places
    readings = {
        place: open_reading(file, how, place, *options) for place in dict.fromkeys(places.values())
    }
    by_home = {home: readings[place] for home, place in places.items()}
    return NewImages(given, by_home, mixed_sizes)


def open_reading(
    file: Path,
    how: Preprocessing,
    folder: Path,
    pixel_scale_arcsec: float | None,
    resample: bool,
    given: Mapping[str, Any],
) -> Reading:
    """Return how the images of a folder, which is no prepared one, are read for a network.

    Args:
        file: of the network.
        how: the images of its training were preprocessed.
        folder: of the images.
        pixel_scale_arcsec: see `open_input`, also for the errors.
        resample: see there.
        given: checked settings, see `given_settings`.
    """
    own = image_properties(folder).confirmed(folder, **given)
    _require_same_bands(folder, how.names_of_used(own.band_names), how)
    selection = _selection(file, how.selection, folder, own, given)
    scale = _stated_scale(how, folder, own.pixel_scale_arcsec, pixel_scale_arcsec)
    return Reading(_for_scale(how, folder, scale, resample), selection, scale)


def _require_as_prepared(
    folder: Path, is_scaled: bool, has_catalog: bool, given: Mapping[str, Any]
) -> None:
    """Refuse options for a prepared folder, whose own preprocessing counts."""
    if is_scaled:
        raise RequestError(f"{folder}: prepared already, so its pixels cannot be resampled")
    if has_catalog:
        raise RequestError(f"{folder}: prepared already, with what its own catalogue says")
    if given:
        raise RequestError(f"{folder}: prepared already: leave data.{next(iter(given))} out")


def preprocessing_of_run(file: Path, image_shape: tuple[int, ...]) -> Preprocessing:
    """Return the preprocessing of a model of an earlier version, from its run's configuration.

    Raises:
        RequestError: the file is in no run's folder.
    """
    run = run_of(file)
    if run is None:
        raise RequestError(
            f"{file}: it does not record the preprocessing of its images, as models of earlier "
            "versions do not: give the folder of its run"
        )
    data = run.load_config().data
    height, _, bands = image_shape
    repeat = 1 if data.bands is None else data.bands
    fit = data.fit or "resize"
    print_lines(f"{file}: of an earlier version; {fit} to {height} pixels is its run's setting")
    return Preprocessing(height, fit, bands // repeat, repeat=repeat)


def _selection(
    file: Path,
    trained: Selection | None,
    folder: Path,
    own: ImageProperties,
    given: Collection[str],
) -> Selection:
    """Return which part of a file is its image: as the folder says, else as in training.

    What is given is not as in training, also where the folder says nothing.
    """
    run = run_of(file)
    if trained is None and run:
        trained = Selection.of(run.load_config().data)
    is_open = own.fits_hdu is None and "fits_hdu" not in given
    if trained is None and is_open and holds_fits(folder):
        print_lines(
            f"{file}: not in the folder of its run, so the HDU of its training is unknown: the "
            f"first image of each FITS file is read; fits_hdu in {folder / PROPERTIES_FILE}, or "
            "data.fits_hdu, may name another"
        )
    known = {key: value for key, value in vars(own.selection).items() if value is not None}
    return replace(trained or Selection(), **{**dict.fromkeys(given), **known})


def _require_same_bands(
    folder: Path, names: tuple[str, ...] | None, preprocessing: Preprocessing
) -> None:
    if names and preprocessing.band_names and tuple(names) != preprocessing.band_names:
        raise RequestError(
            f"{folder}: its bands are {', '.join(names)}, and the model was trained on "
            f"{', '.join(preprocessing.band_names)}"
        )


def _stated_scale(
    how: Preprocessing, folder: Path, own: float | None, given: float | None
) -> float | None:
    """Return the pixel scale of a folder's images: its own, or the one that the caller gives."""
    if given is None:
        return own
    if own not in (None, given):
        raise RequestError(
            f"--pixel-scale-arcsec is {given:g}, and {folder}/images.yaml has pixels of {own:g} "
            "arcsec: leave the option out, or correct the file"
        )
    if how.pixel_scale_arcsec is None:
        raise RequestError(
            f"--pixel-scale-arcsec {given:g}: the pixel scale of the model's images is unknown, so "
            "it cannot be compared; leave the option out"
        )
    return given


def _for_scale(
    how: Preprocessing, folder: Path, scale: float | None, resample: bool
) -> Preprocessing:
    """Return the preprocessing of the images of a folder.

    Args:
        how: as in training, whose files' pixel scale counts for images of unknown scale.
        folder: of the images.
        scale: that is stated for all images; None for none.
        resample: whether to resample them, which needs the scale of each.
    """
    trained = how.pixel_scale_arcsec
    if not trained:
        if resample:
            raise RequestError("--resample: the pixel scale of the model's images is unknown")
        return how
    resampled = resample or how.resampled
    if scale and not resampled and how.fit == "crop" and not same_scale(scale, trained):
        raise RequestError(
            f"{folder}: its pixels are of {scale:g} arcsec, and the model was trained on pixels of "
            f"{trained:g} arcsec: --resample resamples them"
        )
    source = scale or (None if resample else how.source_scale_arcsec)
    return replace(how, source_scale_arcsec=source, resampled=resampled)

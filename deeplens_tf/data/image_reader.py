"""From the files of source folders to examples of one shape, each with its split."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from deeplens_tf.data.copies import Contradictions
from deeplens_tf.data.folders import SourceFile
from deeplens_tf.data.image_sizes import ImageSizes
from deeplens_tf.data.mass_tables import (
    LARGE_MASS_EV,
    large_masses_text,
    read_masses,
    resolve_mass,
)
from deeplens_tf.data.placement import Placement
from deeplens_tf.data.preparation_settings import PreparationSettings
from deeplens_tf.data.rejects import RejectedFiles
from deeplens_tf.data.shards import Example
from deeplens_tf.data.source_folders import Folders, kept_columns, shown_name, texts_of
from deeplens_tf.data.source_images import SourceImage, read_source_images
from deeplens_tf.data.splitting import shuffled
from deeplens_tf.errors import DataError, NoSignal, RequestError, UnusableFile
from deeplens_tf.preprocessing.constant_bands import require_content
from deeplens_tf.preprocessing.framing import Framing, same_scale
from deeplens_tf.process_pool import Workers

FILES_PER_TASK = 32  # at most, that a worker process reads at once
NO_PIXELS = np.empty(0, np.float32)
TASK_BYTES = 1 << 20  # of prepared images of one band, from which a task has fewer files


class ReadAgain(Exception):
    """A file shows that the examples before it were made on a wrong assumption."""


@dataclass
class Learnt:
    """What holds for all files and may be known only after the last one.

    Attributes:
        mass_required: class folders in which every file must have a mass.
        contradictions: images in two classes or with two masses.
        left_out_bands: bands that are constant in every image so far; None before the first one.
    """

    mass_required: set[Path] = field(default_factory=set)
    contradictions: Contradictions = field(default_factory=dict)
    left_out_bands: frozenset[int] | None = None


class ImageReader:
    """Reads the images of source folders; files that are not used go to `rejected`.

    Args:
        rejected: collects the files that are left out.
        settings: size and fit of the images, split and order of the examples.
        learnt: from earlier readings of the same files; this one adds to it.
        workers: read the files. Examples and errors are the same for any number of them.
        bands: number of bands that was asked for, see `read_image`.
        framing: what becomes of an image; None for that of the settings.
    """

    def __init__(
        self,
        rejected: RejectedFiles,
        settings: PreparationSettings,
        learnt: Learnt,
        workers: Workers,
        *,
        bands: int | None = None,
        framing: Framing | None = None,
    ) -> None:
        self.rejected, self.settings, self.learnt = rejected, settings, learnt
        self._workers, self._framing = workers, framing or settings.framing
        self.bands, self._wanted_bands = 0, bands
        self.group_counts: dict[str, int] = {}
        self.object_counts: dict[str, int] = {}
        self.nan_filled: Counter[str] = Counter()  # "images" that were filled, and "pixels"
        self._file_bands = 0
        self._first_name = ""  # the file that set the number of bands
        self._with_mass: set[Path] = set()  # class folders
        self._without_mass: set[Path] = set()
        self._masses_are_optional = False  # a folder of a catalogue may have images of all classes
        self._tables: dict[Path, dict[str, str]] = {}
        self._large_masses: dict[Path, list[float]] = {}  # in eV, by class folder
        self._complete: Counter[bool] = Counter()  # images by whether they have all used bands
        self._sizes = ImageSizes(settings.image_size, settings.fit)
        self._scales: list[float] = []  # the smallest and the largest of the files, in arcsec

    def read_splits(
        self, folders: Folders, advance: Callable[[], object]
    ) -> Iterator[tuple[str, Example]]:
        """Read every file once; yield the name of its split and its example.

        Args:
            folders: the source folder as "train", the test folder as "test".
            advance: called after each file.

        Raises:
            DataError: the images do not all have the same number of bands or the same size, or a
                table cannot be used.
            ReadAgain: something was learnt of a file that matters for others: read all of them
                again with it.
        """
        placement = Placement(folders, self.settings, self.rejected, self.learnt.contradictions)
        self.group_counts = placement.group_counts
        self.object_counts = placement.object_counts
        columns = kept_columns(folders)
        for split, folder in folders.items():
            masses = read_masses(folder.root, folder.known_names)
            self._masses_are_optional = folder.catalog is not None
            self._tables |= {folder.root / name: table for name, table in masses.items()}
            objects = placement.objects(split)
            files = shuffled(folder.files, self.settings.seed, objects)
            for file, found in zip(files, self._source_images(files), strict=True):
                name = shown_name(split, folder, file.name)
                example = self._example(split, file, name, found)
                chosen = example and placement.place(split, file, name, example)
                if example and chosen and not self._is_lost(found, name, chosen):
                    self._note_used(found)
                    texts = texts_of(folder, file.name, columns)
                    yield chosen, replace(example, object=objects.get(file.name, ""), texts=texts)
                advance()
        if self._complete[False] > self._complete[True]:
            raise DataError(
                f"{self._complete[False]} of {self._complete.total()} images are constant in a "
                f"band that others use; {self.rejected}"
            )
        uneven = self._with_mass & self._without_mass
        self.learnt.mass_required |= uneven
        if uneven or placement.found_contradictions:
            raise ReadAgain

    def _is_lost(self, found: SourceImage | UnusableFile, name: str, split: str) -> bool:
        """Return whether the interval of the data leaves nothing of an image; list it then."""
        if isinstance(found, UnusableFile) or not found.is_lost:
            return False
        self.rejected.leave_out(name, "no signal", str(found.scaled), split)
        return True

    def _note_used(self, found: SourceImage | UnusableFile) -> None:
        if not isinstance(found, SourceImage):
            return
        if found.nan_filled:
            self.nan_filled += Counter(images=1, pixels=found.nan_filled)
        if found.pixel_scale_arcsec:
            scales = sorted([*self._scales, found.pixel_scale_arcsec])
            self._scales = [scales[0], scales[-1]]

    def notes(self) -> list[str]:
        """Return what a user should know of the images that are used, one line each."""
        return [large_masses_text(*found) for found in sorted(self._large_masses.items())]

    @property
    def pixel_scale_arcsec(self) -> float | None:
        """Pixel scale of the examples; None if it is unknown or differs."""
        scale, factor = self.settings.pixel_scale_arcsec, self._sizes.factor
        known = scale * factor if scale and factor else None
        return self.settings.resample_to_arcsec or known

    @property
    def resampled_from_arcsec(self) -> float | None:
        """The one pixel scale of the files that are resampled; None if none are, or of several."""
        own = self.settings.pixel_scale_arcsec
        if not (self.settings.resample_to_arcsec and own and self._scales):
            return None
        return own if all(same_scale(own, scale) for scale in self._scales) else None

    @property
    def source_side(self) -> int | None:
        """Side in source pixels of the squares that become examples; None if it differs."""
        return self._sizes.side

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """Names of the bands of the examples; None if unknown."""
        names, left_out = self.settings.band_names, self.learnt.left_out_bands or ()
        if names is None:
            return None
        return tuple(name for i, name in enumerate(names) if i not in left_out)

    def _source_images(self, files: Sequence[SourceFile]) -> Iterator[SourceImage | UnusableFile]:
        stored_bytes = 4 * (self.settings.image_size + 2 * self.settings.margin) ** 2
        size = max(1, min(FILES_PER_TASK, TASK_BYTES // stored_bytes))
        tasks = (files[first : first + size] for first in range(0, len(files), size))
        read = partial(
            read_source_images,
            framing=self._framing,
            bands=self._wanted_bands,
            selection=self.settings.selection,
        )
        return chain.from_iterable(self._workers.map(read, tasks))

    def _example(
        self, split: str, file: SourceFile, name: str, found: SourceImage | UnusableFile
    ) -> Example | None:
        try:
            if isinstance(found, UnusableFile):
                raise found
            mass_ev = self._mass_ev(file, found.mass_ev)
            if isinstance(found.scaled, UnusableFile) and not found.is_lost:
                raise found.scaled
            self._check_bands(found.shape[-1], name)
            self._require_bands(found.shape[-1], found.constant)
        except NoSignal as error:
            self.rejected.leave_out(name, "no signal", str(error), split)
            return None
        except UnusableFile as error:
            self.rejected.add(name, str(error))
            return None
        if not (self.settings.mixed_sizes or self.settings.resample_to_arcsec):
            self._sizes.check(found.shape, name)
        if isinstance(found.scaled, UnusableFile):
            image = NO_PIXELS
        else:
            image, self.bands = found.scaled, found.scaled.shape[-1]
        digests = found.content, found.typed_content
        return Example(image, file.label, mass_ev, file.name, *digests)

    def _mass_ev(self, file: SourceFile, file_mass_ev: float | None) -> float:
        folder = file.path.parent
        required = folder in self.learnt.mass_required
        table = self._tables.get(folder)
        if self._masses_are_optional and file.name not in (table or {}):
            table, required = None, False
        mass_ev = resolve_mass(file.name, file_mass_ev, table, required)
        if mass_ev > LARGE_MASS_EV:
            self._large_masses.setdefault(folder, []).append(mass_ev)
        if file.label >= 0 and not self._masses_are_optional:
            (self._without_mass if math.isnan(mass_ev) else self._with_mass).add(folder)
        return mass_ev

    def _require_bands(self, bands: int, constant: Mapping[int, float]) -> None:
        """Refuse an image whose bands that vary are not those of the other images."""
        self._learn_bands(frozenset(constant))
        left_out = self.learnt.left_out_bands or frozenset()
        self._complete[constant.keys() == left_out] += 1
        require_content(bands, constant, left_out)

    def _learn_bands(self, constant: frozenset[int]) -> None:
        known = self.learnt.left_out_bands
        self.learnt.left_out_bands = constant if known is None else known & constant
        if known is not None and self.learnt.left_out_bands != known:
            raise ReadAgain

    def _check_bands(self, bands: int, name: str) -> None:
        if not self._file_bands:
            self._file_bands, self._first_name = bands, name
            self._check_band_names(bands)
        if bands != self._file_bands:
            raise DataError(
                f"bands differ: {self._first_name} has {self._file_bands}, {name} has {bands}"
            )

    def _check_band_names(self, bands: int) -> None:
        names = self.settings.band_names
        if names is not None and len(names) != bands:
            raise RequestError(
                f"band_names must be {bands}, as many as {self._first_name} has bands. "
                f"Received: {', '.join(names)}"
            )

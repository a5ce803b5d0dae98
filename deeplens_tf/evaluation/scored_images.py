"""The images that a report scores: of the run's own data, or of an external test set."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from deeplens_tf.config import Config
from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.catalog import PLACES
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.overlaps import described, overlap
from deeplens_tf.evaluation.scored_split import split_to_score
from deeplens_tf.preprocessing.statistics import TrainingRange
from deeplens_tf.preprocessing.target import Target
from deeplens_tf.probes.frozen_features import Head, head_targets, is_known
from deeplens_tf.probes.outputs import BATCH_SIZE, ExactOutputs
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.terminal import counted, print_lines

EXTERNAL = "external"


@dataclass(frozen=True)
class ScoredImages:
    """Images to score, of one or more splits of the data.

    Attributes:
        data: opened.
        split: "test", "validation" or "external", as the report calls it.
        folder_name: of the report.
        parts: the splits of the data.
        index: tables of the parts, one after the other, see `ImageData.index`.
        targets: what is predicted of each image, class indices or values, -1 or NaN if unknown.
        rows: True for each image that is scored.
        facts: how the report identifies the images, and their overlap with the training.
    """

    data: PreparedData
    split: str
    folder_name: str
    parts: tuple[str, ...]
    index: pd.DataFrame
    targets: NDArray[Any]
    rows: NDArray[np.bool_]
    facts: dict[str, Any]

    @property
    def truths(self) -> NDArray[Any]:
        """What is predicted of the scored images."""
        return self.targets[self.rows]

    @property
    def scored(self) -> pd.DataFrame:
        """The table of the scored images."""
        return self.index[self.rows]

    def outputs(self, model: keras.Model) -> NDArray[np.float32]:
        """Return the outputs of a model, shape (scored images, outputs).

        Raises:
            NotFiniteOutputs: an output is NaN or infinite.
        """
        exact = ExactOutputs(model)
        with tqdm(unit="image", disable=None, total=int(self.rows.sum())) as bar:
            found = []
            for images in self._batches():
                found.append(exact(images))
                bar.update(len(images))
        return np.concatenate(found)

    def places(self) -> pd.DataFrame:
        """Return what a catalogue calls the scored images and where they are on the sky, as text.

        Those of the columns id, ra and dec that the catalogue has; none without one.
        """
        columns = [name for name in PLACES if name in self.data.catalog_units]
        tables = [self.data.catalog(part, columns) for part in self.parts]
        return pd.concat(tables, ignore_index=True)[self.rows].reset_index(drop=True)

    def unlike(self, training_range: TrainingRange) -> NDArray[np.bool_]:
        """Return True for each scored image that is unlike the training images."""
        return np.concatenate([training_range.unlike(images) for images in self._batches()])

    def some(self, positions: NDArray[np.int64]) -> dict[int, NDArray[np.float32]]:
        """Return the scored images at some positions of the table `scored`, by position."""
        wanted = np.unique(positions)
        if not wanted.size:
            return {}
        rows = np.zeros_like(self.rows)
        rows[np.flatnonzero(self.rows)[wanted]] = True
        images = np.concatenate(list(replace(self, rows=rows)._batches()))
        return dict(zip(wanted.tolist(), images, strict=True))

    def _batches(self) -> Iterator[NDArray[np.float32]]:
        for part, rows in self._rows_of_parts():
            yield from image_batches(self.data, part, BATCH_SIZE, rows).as_numpy_iterator()

    def _rows_of_parts(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        ends = np.cumsum([self.data.count(part) for part in self.parts])
        for part, rows in zip(self.parts, np.split(self.rows, ends[:-1]), strict=True):
            if rows.any():
                yield part, rows


def images_to_score(
    run: Run,
    config: Config,
    data: PreparedData,
    head: Head,
    target: Target,
    *,
    probe: bool = False,
) -> ScoredImages:
    """Choose the images that a report on a run scores, none that it was trained on with labels.

    Of the run's own data it is the test split or, without one, the validation split. Other data
    are an external test set: their test split or, without one, all of their images. What is
    scored, and what is left out, is printed.

    Args:
        run: the run.
        config: the run's configuration, with the data to score on.
        data: of that configuration, opened.
        head: what is predicted; images without such a target are not scored.
        target: the quantity of a regression.
        probe: whether a probe is fitted to the training split, so that it cannot be scored.

    Raises:
        RequestError: there is nothing to score, or the configuration's split is not the run's.
        DataError: every image of the test folder was left out when it was prepared.
    """
    data.require_test_images_kept()
    own = is_own(run, config, data)
    parts = (split_to_score(data),) if own or probe else _external_parts(data)
    split = parts[0] if own or probe else EXTERNAL
    if own and split == "validation":
        _require_same_split(run, config, data)
    index = pd.concat([data.index(part) for part in parts], ignore_index=True)
    targets = np.concatenate([head_targets(data, part, head, target) for part in parts])
    found, known = overlap(run, index, split), is_known(targets)
    rows = known & ~found.trained
    left_out = int((known & found.trained).sum())
    if left_out and not rows.any():
        raise RequestError(
            f"{data.folder}: {run.folder} was trained on all {counted(left_out, 'image')} of the "
            f"{split} split, with their labels: nothing is left to score; give other images"
        )
    copies = sum(data.manifest.duplicates.get(part, 0) for part in parts)
    counts = {"n_left_out_trained": left_out, "n_left_out_copies": copies, **found.counts(rows)}
    notes = described(counts, int(rows.sum()))
    if own and _has_changed(run, data, split, target):
        notes.append(
            f"the {split} split is not the one that the run started with: its images, labels or "
            "values have changed"
        )
    print_lines(*notes)
    if not target.is_mass:  # whose values the digest of a split does not contain
        index["mass_ev"] = targets
    whole = not left_out and target.is_mass
    identity = _identity(data, parts, index[rows], whole=whole)
    origin = {"path": config.data.path, "fingerprint": data.manifest.fingerprint, "own": own}
    facts = {"test_set": identity, "data": origin, **counts, "notes": notes}
    name = split if own else _external_name(config, _identity(data, parts, index, whole=True))
    return ScoredImages(data, split, name, parts, index, targets, rows, facts)


def is_own(run: Run, config: Config, data: PreparedData) -> bool:
    """Return whether data are those of a run: the same folder, or a copy of its content."""
    facts = run.facts()
    place = facts.get("data_path") or Path(run.load_config().data.path).resolve()
    if str(Path(config.data.path).resolve()) == str(place):
        return True
    recorded = facts.get("split_contents")
    contents = {name: split.content for name, split in data.manifest.splits.items()}
    if not isinstance(recorded, dict):
        return False
    compared = {"train", "validation"} | (contents.keys() & {"test"})
    return all(contents.get(name) == recorded.get(name) for name in compared)


def _has_changed(run: Run, data: PreparedData, split: str, target: Target) -> bool:
    """Return whether a split of a run's own data is another than when the run started."""
    facts = run.facts()
    recorded, content = facts.get("split_contents"), data.manifest.splits[split].content
    if not isinstance(recorded, dict) or split not in recorded:  # it was added later
        return False
    # The digest of a split does not contain the values of a column, that of all files does.
    other_files = facts.get("dataset_fingerprint") != data.manifest.fingerprint
    return recorded[split] != content or (not target.is_mass and other_files)


def _external_parts(data: PreparedData) -> tuple[str, ...]:
    """Return the splits of an external test set that are scored, and say so."""
    if data.count("test"):
        parts: tuple[str, ...] = ("test",)
        found = counted(data.count("test"), "test image")
        print_lines(f"other data than the run's: scoring the {found}")
    else:
        parts = tuple(part for part in ("train", "validation") if data.count(part))
        found = counted(sum(map(data.count, parts)), "image")
        print_lines(f"other data than the run's, without a test split: scoring all {found}")
    return parts


def _require_same_split(run: Run, config: Config, data: PreparedData) -> None:
    """Refuse a validation split that the run does not have because of another configuration."""
    recorded = run.facts().get("split_contents")
    content = data.manifest.splits["validation"].content
    if isinstance(recorded, dict) and recorded.get("validation") == content:
        return
    stored = run.load_config()
    fractions = stored.data.validation_fraction, config.data.validation_fraction
    pairs = {"seed": (stored.seed, config.seed), "data.validation_fraction": fractions}
    differing = [
        f"{key} {own} (requested: {new})" for key, (own, new) in pairs.items() if own != new
    ]
    if differing:
        raise RequestError(
            f"{run.folder}: its validation split was made with {', '.join(differing)}; another "
            "split contains images that it was trained on: leave the setting out, or score a test "
            "folder"
        )


def _identity(data: PreparedData, parts: Sequence[str], index: pd.DataFrame, whole: bool) -> str:
    """Return the digest of a whole split or, of parts of splits, of their images and targets."""
    if whole and len(parts) == 1:
        return data.manifest.splits[parts[0]].content
    names = [data.classes[label] if label >= 0 else "" for label in index["label"]]
    content = index["content"].astype(object).where(index["content"] != "", index["file"])
    lines = zip(content, names, index["mass_ev"], strict=True)
    text = "\n".join(sorted(f"{image} {name!r} {mass!r}" for image, name, mass in lines))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _external_name(config: Config, identity: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(config.data.path).resolve().name)
    return f"{EXTERNAL}-{name[:80]}-{identity[:8]}"

"""The split of each usable image, and which images are in none because of other images."""

from collections.abc import Collection, Mapping
from itertools import chain

from deeplens_tf.data.copies import WHERE, Contradictions, Copies, Copy
from deeplens_tf.data.folders import SourceFile, SourceFolder
from deeplens_tf.data.preparation_settings import PreparationSettings
from deeplens_tf.data.rejects import RejectedFiles
from deeplens_tf.data.relations import Relation, connected, read_groups, read_objects
from deeplens_tf.data.shards import Example
from deeplens_tf.data.source_folders import Folders
from deeplens_tf.data.splitting import NamedSplits, SplitAssigner


class Placement:
    """Places the examples of source folders, in the order in which they are read.

    Args:
        folders: the source folder as "train", and "test" if there is a test folder.
        settings: the fraction for validation.
        rejected: collects the files that are left out.
        contradictions: found by earlier readings of the same files; this one adds to it.

    Raises:
        DataError: a `groups.csv` or a table of objects cannot be used.
    """

    def __init__(
        self,
        folders: Folders,
        settings: PreparationSettings,
        rejected: RejectedFiles,
        contradictions: Contradictions,
    ) -> None:
        self._rejected = rejected
        self._groups: dict[str, Relation] = {}
        self._objects: dict[str, Relation] = {}
        self._labels: dict[str, dict[str, tuple[str, ...]]] = {}
        for split, folder in folders.items():
            self._groups[split] = groups = _groups_of(folder)
            self._objects[split] = objects = _objects_of(folder)
            self._labels[split] = _labels(groups, objects)
        # Objects and groups that share images are on one side of the split together.
        self._joint = connected(chain.from_iterable(map(dict.values, self._labels.values())))
        self._copies = Copies(contradictions)
        joint = {name: self._joint[labels[0]] for name, labels in self._labels["train"].items()}
        self._assigner = _assigner(folders["train"], settings.validation_fraction, joint)

    @property
    def found_contradictions(self) -> bool:
        """Whether there are contradictions that earlier readings did not find."""
        return self._copies.found_contradictions

    @property
    def group_counts(self) -> dict[str, int]:
        """Number of "groups", of "images" in them and of "unknown" rows; empty without tables."""
        return _counts(self._groups.values(), "groups")

    @property
    def object_counts(self) -> dict[str, int]:
        """Number of "objects", of "images" of them and of "unknown" rows; empty without tables."""
        return _counts(self._objects.values(), "objects")

    def objects(self, folder: str) -> Mapping[str, str]:
        """Return the objects of the images in "train" or "test", by the images' names."""
        return self._objects[folder].of_image

    def place(self, folder: str, file: SourceFile, name: str, example: Example) -> str | None:
        """Return the split of an example, or None if it is left out.

        Args:
            folder: "train" or "test".
            file: that the example was read from.
            name: of the file in messages.
            example: the usable image.
        """
        copy = Copy(name, example.label, example.mass_ev)
        split = "test" if folder == "test" else self._assigner.next_split(file)
        objection = self._objection(split, file, copy, example.content)
        self._copies.add(example.content, copy, None if objection else split)
        if objection:
            self._rejected.leave_out(name, *objection, split)
            return None
        return split if folder == "test" else self._assigner.assign(file)

    def _objection(
        self, split: str, file: SourceFile, copy: Copy, content: str
    ) -> tuple[str, str] | None:
        if reason := self._copies.contradiction(content, copy):
            return "contradiction", reason
        if split == "test" and (labels := self._labels["test"].get(file.name)):
            where = self._assigner.split_of_group.get(self._joint[labels[0]])
            if where is not None:
                kind, _, _ = labels[0].partition(" ")
                return kind, f"{labels[0]} is {WHERE[where]}"
        reason = self._copies.duplicate(content, split)
        return ("duplicate", reason) if reason else None


def _groups_of(folder: SourceFolder) -> Relation:
    own = folder.catalog.groups if folder.catalog else None
    return _of_part(folder, own or read_groups(folder.root, folder.known_names))


def _objects_of(folder: SourceFolder) -> Relation:
    if folder.catalog is None:
        return read_objects(folder.root, folder.known_names)
    own, class_of = folder.catalog.objects, folder.catalog.labels.__getitem__
    return _of_part(folder, own or read_objects(folder.root, folder.known_names, class_of))


def _of_part(folder: SourceFolder, relation: Relation) -> Relation:
    return relation.among(file.name for file in folder.files) if folder.catalog else relation


def _assigner(
    train: SourceFolder, fraction: float, joint: Mapping[str, str]
) -> SplitAssigner | NamedSplits:
    if train.catalog is None or not train.catalog.names_validation:
        return SplitAssigner(train.files, fraction, joint)
    return NamedSplits(train.catalog.splits, joint, str(train.catalog.path))


def _labels(groups: Relation, objects: Relation) -> dict[str, tuple[str, ...]]:
    """Return what each image belongs to, such as ("group 7", "object A"), by the image's name."""
    of_image: dict[str, tuple[str, ...]] = {}
    for kind, relation in (("group", groups), ("object", objects)):
        for name, found in relation.of_image.items():
            of_image[name] = (*of_image.get(name, ()), f"{kind} {found}")
    return of_image


def _counts(tables: Collection[Relation], what: str) -> dict[str, int]:
    of_images = [found for table in tables for found in table.of_image.values()]
    unknown = sum(table.unknown for table in tables)
    counts = {what: len(set(of_images)), "images": len(of_images)} if of_images else {}
    return counts | ({"unknown": unknown} if unknown else {})

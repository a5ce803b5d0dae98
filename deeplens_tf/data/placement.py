"""The split of each usable image, and which images are in none because of other images."""

from deeplens_tf.data.copies import WHERE, Contradictions, Copies, Copy
from deeplens_tf.data.folders import SourceFile
from deeplens_tf.data.groups import read_groups
from deeplens_tf.data.preparation_settings import PreparationSettings
from deeplens_tf.data.rejects import RejectedFiles
from deeplens_tf.data.shards import Example
from deeplens_tf.data.source_folders import Folders
from deeplens_tf.data.splitting import SplitAssigner


class Placement:
    """Places the examples of source folders, in the order in which they are read.

    Args:
        folders: the source folder as "train", and "test" if there is a test folder.
        settings: the fraction for validation.
        rejected: collects the files that are left out.
        contradictions: found by earlier readings of the same files; this one adds to it.

    Raises:
        DataError: a `groups.csv` cannot be used.
    """

    def __init__(
        self,
        folders: Folders,
        settings: PreparationSettings,
        rejected: RejectedFiles,
        contradictions: Contradictions,
    ) -> None:
        self._rejected = rejected
        self._groups = {split: read_groups(folder) for split, folder in folders.items()}
        self._copies = Copies(contradictions)
        self._assigner = SplitAssigner(
            folders["train"].files,
            settings.validation_fraction,
            self._groups["train"].of_image,
        )

    @property
    def found_contradictions(self) -> bool:
        """Whether there are contradictions that earlier readings did not find."""
        return self._copies.found_contradictions

    @property
    def group_counts(self) -> dict[str, int]:
        """Number of "groups", of "images" in them and of "unknown" rows; empty without tables."""
        tables = self._groups.values()
        of_images = [group for table in tables for group in table.of_image.values()]
        unknown = sum(table.unknown for table in tables)
        counts = {"groups": len(set(of_images)), "images": len(of_images)} if of_images else {}
        return counts | ({"unknown": unknown} if unknown else {})

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
        group = self._groups["test"].of_image.get(file.name) if split == "test" else None
        if group is not None and group in self._assigner.split_of_group:
            return "group", f"group {group} is {WHERE[self._assigner.split_of_group[group]]}"
        reason = self._copies.duplicate(content, split)
        return ("duplicate", reason) if reason else None

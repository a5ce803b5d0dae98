"""Which images a run has seen among those to be scored, by their content."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deeplens_tf.runs.run_folder import Run
from deeplens_tf.runs.seen_images import (
    PRETRAINED,
    SEEN_IMAGES_FILE,
    TRAINED,
    VALIDATION,
    contents_by_use,
    read_images,
)
from deeplens_tf.terminal import counted


@dataclass(frozen=True)
class Overlap:
    """How the weights of a run depend on each of n images.

    Attributes:
        trained: True where the label was trained on, shape (n,).
        chose_epoch: True where the image chose the best epoch and is not `trained`.
        unlabelled: True where the encoder saw the image without its label, and nothing else.
        checked: whether all contents are known, of the run's images and of the n.
    """

    trained: NDArray[np.bool_]
    chose_epoch: NDArray[np.bool_]
    unlabelled: NDArray[np.bool_]
    checked: bool

    def counts(self, scored: NDArray[np.bool_]) -> dict[str, int | bool]:
        """Return what `metrics.json` says of the scored images, and of those left out.

        Args:
            scored: True for each image that is scored, shape (n,).
        """
        return {
            "n_seen_unlabelled": int((self.unlabelled & scored).sum()),
            "n_chose_epoch": int((self.chose_epoch & scored).sum()),
            "overlap_checked": self.checked,
        }


def overlap(run: Run, index: pd.DataFrame, split: str) -> Overlap:
    """Compare images with those that the weights of a run depend on.

    Args:
        run: with `images.csv`; those of earlier versions have none.
        index: of the images, see `ImageData.index`.
        split: that they are of. Without `images.csv`, the validation split of a fine-tuning chose
            its best epoch.

    Raises:
        RequestError: `images.csv` is damaged.
    """
    images = read_images(run)
    seen, content = contents_by_use(images), index["content"]
    trained, chose, unlabelled = (
        content.isin(seen[use]).to_numpy() for use in (TRAINED, VALIDATION, PRETRAINED)
    )
    recorded = (run.folder / SEEN_IMAGES_FILE).exists()
    if not recorded and split == "validation" and run.facts().get("stage") == "finetune":
        chose = np.ones(len(index), bool)
    checked = recorded and bool((images["content"] != "").all() and (content != "").all())
    chose = chose & ~trained
    return Overlap(trained, chose, unlabelled & ~trained & ~chose, checked)


def described(counts: dict[str, int | bool], total: int) -> list[str]:
    """Return what the report says of the overlaps, one line for each that there is.

    Args:
        counts: as `Overlap.counts` returns, with `n_left_out_trained`, images that are not scored
            because they were trained on, and `n_left_out_copies`, left out when preparing.
        total: number of scored images.
    """
    left_out, copies = counts["n_left_out_trained"], counts["n_left_out_copies"]
    lines = {
        f"left out when preparing: {copies} cop{'ies' if copies != 1 else 'y'} of other images, "
        "of the training or of this split": copies,
        f"left out: {counted(left_out, 'image')} that the run was trained on with their "
        "labels": left_out,
        f"{counts['n_chose_epoch']} of the {total} scored images also chose the best epoch: their "
        "scores are too good": counts["n_chose_epoch"],
        f"{counts['n_seen_unlabelled']} of the {total} scored images were seen in pretraining, "
        "without their labels": counts["n_seen_unlabelled"],
        "whether other scored images were trained on cannot be checked: not all contents of the "
        "run's images or of these are recorded": not counts["overlap_checked"],
    }
    return [line for line, applies in lines.items() if applies]

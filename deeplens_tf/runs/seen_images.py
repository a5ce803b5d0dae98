"""`images.csv` of a run: the content of every image that its weights depend on, and how.

Evaluation compares what it scores with it, so that a file's name, place and folder do not matter.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.runs.run_folder import Run

SEEN_IMAGES_FILE = "images.csv"
# An image may have several uses; the first of them counts.
TRAINED = "trained"  # its label was trained on
VALIDATION = "validation"  # it chose the best epoch
PRETRAINED = "pretrained"  # the encoder saw it without its label
IMAGE_USES = (TRAINED, VALIDATION, PRETRAINED)
IMAGE_COLUMNS = ["use", "file", "content"]
MAX_IMAGES_FILE_BYTES = 1 << 30  # of some millions of images
MAX_IMAGES_FILE_TEXT = 4500  # characters of a value: a path has at most 4096
CONTENT_PATTERN = "[0-9a-f]{64}|"  # SHA-256, or nothing where it is unknown


def images_of(index: pd.DataFrame, use: str) -> pd.DataFrame:
    """Return the rows of `images.csv` for images of one use.

    Args:
        index: with the columns file and content; an unknown content is "".
        use: one of `IMAGE_USES`.
    """
    return index[["file", "content"]].assign(use=use)[IMAGE_COLUMNS]


def images_of_encoder(run: Run | None, path: str) -> pd.DataFrame:
    """Return the rows that a training takes over from the run of the encoder it starts from.

    Args:
        run: in which the encoder is, or None.
        path: of the encoder. If its images are unknown, one row of unknown content has its name.
    """
    if run is not None and (run.folder / SEEN_IMAGES_FILE).exists():
        return read_images(run)
    return pd.DataFrame([[PRETRAINED, path, ""]], columns=IMAGE_COLUMNS)


def record_images(run: Run, images: pd.DataFrame) -> None:
    """Write `images.csv` unless the run has it already.

    Raises:
        OSError: the file cannot be written.
    """
    path = run.folder / SEEN_IMAGES_FILE
    if path.exists():
        return
    text = images.to_csv(index=False, lineterminator="\n")
    # The name of a file need not be valid Unicode.
    content = text.encode("utf-8", "surrogateescape")
    write_whole(path, lambda file: file.write(content), durable=True)


def read_images(run: Run) -> pd.DataFrame:
    """Return `images.csv` of a run, which may be untrusted; empty if there is none.

    Raises:
        RequestError: the file is not one that `record_images` wrote.
    """
    path = run.folder / SEEN_IMAGES_FILE
    if not path.exists():
        return pd.DataFrame(columns=IMAGE_COLUMNS)
    if not path.is_file() or path.stat().st_size > MAX_IMAGES_FILE_BYTES:
        raise RequestError(f"{path}: not a regular file of at most {MAX_IMAGES_FILE_BYTES} bytes")
    try:
        return _parse(path)
    except (OSError, ValueError, OverflowError) as error:
        raise RequestError(f"{path}: not the images of a run: {error}") from error


def contents_by_use(images: pd.DataFrame) -> Mapping[str, frozenset[str]]:
    """Return the known contents of each of the `IMAGE_USES`."""
    known = images[images["content"] != ""]
    return {use: frozenset(known["content"][known["use"] == use]) for use in IMAGE_USES}


def _parse(path: Path) -> pd.DataFrame:
    with path.open("rb") as stream:
        while line := stream.readline(
            2 * MAX_IMAGES_FILE_TEXT
        ):  # a gap in a sparse file is one long line
            if len(line) == 2 * MAX_IMAGES_FILE_TEXT:
                raise ValueError(f"a line of {2 * MAX_IMAGES_FILE_TEXT} bytes or more")
    # A file's name need not be valid Unicode, and Arrow, if it is installed, holds no other text.
    kinds = {"use": "str", "file": "object", "content": "str"}
    images = pd.read_csv(
        path, dtype=kinds, keep_default_na=False, encoding_errors="surrogateescape"
    )
    if list(images) != IMAGE_COLUMNS:
        raise ValueError(f"its columns are not {', '.join(IMAGE_COLUMNS)}")
    if not images["use"].isin(IMAGE_USES).all():
        raise ValueError(f"a use is not {', '.join(IMAGE_USES)}")
    if not images["content"].str.fullmatch(CONTENT_PATTERN).all():
        raise ValueError("a content is not SHA-256")
    return images

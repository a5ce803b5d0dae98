"""The table of a split in a prepared folder: one row for each of its images."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from deeplens_tf.data.manifest import PREPARE_AGAIN, is_sha256
from deeplens_tf.errors import DataError
from deeplens_tf.terminal import counted

if TYPE_CHECKING:
    import pandas as pd

MAX_ROW_BYTES = 5000  # of the index: a path has at most 4096, an object at most 200 characters
INDEX_COLUMNS = ["index", "file", "label", "mass_ev", "content", "object"]
LATER_COLUMNS = ("content", "object")  # which tables of earlier versions lack


def index_name(split: str) -> str:
    """Return the file name of a split's index, the table of its images."""
    return f"{split}-index.csv"


def read_index(folder: Path, split: str, count: int) -> "pd.DataFrame":
    """Read the table of a split's images: the `INDEX_COLUMNS`; an unknown mass is NaN.

    `content` is the digest of each source image, and `object` the name of what it shows; "" in a
    folder of an earlier version, or of images whose objects are unknown.

    Args:
        folder: a prepared folder.
        split: name of the split.
        count: number of images in the split; at most one more row is read.

    Raises:
        DataError: the table is missing, damaged or of another length.
    """
    path = folder / index_name(split)
    if path.exists() and not path.is_file():  # opening a pipe would wait forever
        raise DataError(f"{path}: cannot be read: not a regular file")
    try:
        if path.stat().st_size > MAX_ROW_BYTES * (count + 1):
            raise DataError(f"{path}: too large for the table of {counted(count, 'image')}")
        _check_rows(path)
        index = _parse_index(path, count + 1)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(index) != count or index["index"].tolist() != list(range(count)):
        raise DataError(f"{path}: not the table of {counted(count, 'image')}; {PREPARE_AGAIN}")
    if not all(map(is_sha256, index["content"][index["content"] != ""])):
        raise DataError(f"{path}: a content is not SHA-256; {PREPARE_AGAIN}")
    return index


def _check_rows(path: Path) -> None:
    """Refuse very long lines, such as the gap of a sparse file: pandas would read one name."""
    limit = 2 * MAX_ROW_BYTES  # quotation marks are doubled
    with path.open("rb") as stream:
        while line := stream.readline(limit):
            if len(line) == limit:
                raise DataError(f"{path}: a line of {limit} bytes or more; {PREPARE_AGAIN}")


def _parse_index(path: Path, rows: int) -> "pd.DataFrame":
    import pandas as pd

    with path.open("rb") as stream:
        header = stream.readline(2 * MAX_ROW_BYTES).decode(errors="replace").rstrip().split(",")
    lacking = [name for name in LATER_COLUMNS if name not in header]
    index = pd.read_csv(
        path,
        dtype={
            "index": "int64",
            "label": "int64",
            "file": "object",  # Arrow, if it is installed, holds no name that is not Unicode
            "content": "str",
            "object": "str",
        },
        usecols=[name for name in INDEX_COLUMNS if name not in lacking],
        keep_default_na=False,  # an object may be called NA
        # Python's conversion is exact in every version of pandas.
        converters={"mass_ev": lambda text: float(text) if text else math.nan},
        encoding_errors="surrogateescape",
        nrows=rows,
    )
    return index.assign(**dict.fromkeys(lacking, ""))[INDEX_COLUMNS]

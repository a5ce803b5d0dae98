"""The training histories of several runs, to draw them in one figure."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from deeplens_tf.errors import RequestError
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.terminal import printable

MAX_BYTES = 16 << 20
MAX_COLUMNS = 100
MAX_DRAWN_VALUE = 1e30


def read_histories(folders: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Read `history.csv` of each run that has one.

    Args:
        folders: of runs, which may be untrusted.

    Returns:
        Name of the run, or its path if two runs share a name -> table with a row per epoch;
        values too large to be drawn are NaN.

    Raises:
        RequestError: a file is not a history.
    """
    names = [folder.name for folder in folders]
    return {
        printable(folder.name if names.count(folder.name) == 1 else folder): _read(path)
        for folder in folders
        if (path := Run(folder).history).exists()
    }


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise RequestError(f"{path}: not a regular file of at most {MAX_BYTES} bytes")
    try:
        table = pd.read_csv(path).astype("float64")
    except (ValueError, OverflowError) as error:
        raise RequestError(f"{path}: not the history of a run: {error}") from error
    if "epoch" not in table or len(table.columns) > MAX_COLUMNS:
        raise RequestError(f"{path}: not the history of a run: {len(table.columns)} columns")
    return table.where(table.abs() < MAX_DRAWN_VALUE).rename(columns=printable)

"""The training histories of several runs, read to be drawn over each other."""

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
        folders: of runs, which may come from strangers.

    Returns:
        Name of the run, its path where two have one name -> table with a row for each epoch;
        what is too large to be drawn is missing in it.

    Raises:
        RequestError: a file that is no history.
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

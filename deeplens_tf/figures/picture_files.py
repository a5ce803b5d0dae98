"""Writing figures to files."""

from pathlib import Path

from matplotlib.figure import Figure

from deeplens_tf.files.atomic_writing import draft_file

NO_DATE = {".png": {"Software": None}, ".pdf": {"CreationDate": None, "Producer": None}}
"""Metadata to leave out, by file extension, so that the same figure gives the same bytes."""


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure completely or not at all; the same figure gives the same bytes.

    Args:
        figure: the figure.
        path: ends in `.png` or `.pdf`.

    Raises:
        ValueError: another extension.
        OSError: the folder is missing or cannot be written.
    """
    path = Path(path)
    if path.suffix not in NO_DATE:
        raise ValueError(f"path must end in {' or '.join(NO_DATE)}. Received: path={path}")
    with draft_file(path, path.suffix) as draft:
        figure.savefig(draft, metadata=NO_DATE[path.suffix], dpi=150)

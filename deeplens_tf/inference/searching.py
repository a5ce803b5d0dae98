"""The images whose features are most like those of one image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deeplens_tf.data.image_properties import given_settings
from deeplens_tf.errors import DataError, RequestError, UnusableFile
from deeplens_tf.figures.picture_files import save_figure
from deeplens_tf.files.atomic_writing import draft_folder, replace_folder
from deeplens_tf.files.shipped import sha256_of
from deeplens_tf.inference.cells import RECALL_TOP
from deeplens_tf.inference.embedding_files import Embeddings, read_embeddings
from deeplens_tf.inference.frozen_encoder import FrozenEncoder, open_encoder
from deeplens_tf.inference.given_images import name_of_place, place_of, source_of
from deeplens_tf.inference.index_files import index_of
from deeplens_tf.inference.model_input import open_reading
from deeplens_tf.inference.nearest import most_similar
from deeplens_tf.inference.neighbour_pictures import neighbour_grid
from deeplens_tf.terminal import print_lines

Options: TypeAlias = tuple[float | None, bool, Mapping[str, Any]]
NEIGHBOURS_FILE, NEIGHBOURS_PICTURE = "neighbours.csv", "neighbours.png"


@dataclass(frozen=True)
class Neighbours:
    """What `search` wrote.

    Attributes:
        table: the file `neighbours.csv`.
        count: number of its rows.
        picture: of the images, `neighbours.png`; None if their folder is not there.
        recall: which part of the nearest images an index finds, as measured; None for all, since
            every row was compared.
    """

    table: Path
    count: int
    picture: Path | None
    recall: float | None = None


def search(
    embeddings: str | Path | Embeddings,
    like: str | Path,
    out: str | Path | None = None,
    *,
    run: str | Path | None = None,
    top: int = 12,
    index: bool = False,
    pixel_scale_arcsec: float | None = None,
    resample: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Neighbours:
    """Write the images whose features have the largest cosine similarity to those of an image.

    All rows are compared, and the image itself is left out.

    Args:
        embeddings: file that `embed` wrote, or one with the arrays `features` and `file`; or what
            `read_embeddings` returned, so that several searches open the file once.
        like: the `file` or the `id` of a row; with `run` an image file, `<file>#<row>` of a stack,
            or of bands in files of their own `<id>` with the suffix of these, or one of them.
        out: folder to write; None for one next to the embeddings. Earlier neighbours in it are
            replaced.
        run: the encoder that the embeddings are of, to search for an image that is none of them.
        top: number of images.
        index: whether to compare the rows in the nearest cells of an index alone. It lies beside
            the embeddings; the first search builds it, with FAISS. The result is approximate.
        pixel_scale_arcsec: of the image file, see `predict`; only with `run`, as what follows.
        resample: see there.
        settings: see there.

    Returns:
        The table, its count and a picture, if the folder that was embedded is there. The columns
        are `rank`, from 1, `file`, `similarity`, and those of `id`, `ra` and `dec` that the
        embeddings have; with an index also `index_recall`, the same in each row.

    Raises:
        RequestError: no such file or row, an `id` of several rows, features that are all zero,
            another encoder than that of the embeddings, `out` contains something else, an index of
            other embeddings, or FAISS is needed and not installed.
        DataError: the embeddings, the image or the index cannot be used.
    """
    if top < 1:
        raise RequestError(f"--top must be 1 or more. Received: {top}")
    if index and top > RECALL_TOP:
        raise RequestError(
            f"--top {top}: an index is measured for the {RECALL_TOP} nearest: ask for at most "
            "these, or leave --index out"
        )
    options = (pixel_scale_arcsec, resample, given_settings(settings or {}, "search"))
    if run is None and any(value not in (None, False, {}) for value in options):
        raise RequestError(
            "--pixel-scale-arcsec, --resample and --set say how an image file is read: give --run, "
            "the encoder, too"
        )
    found = embeddings if isinstance(embeddings, Embeddings) else read_embeddings(embeddings)
    row = _row_of(found, str(like)) if run is None else None
    query = (
        _features_of(found, Path(like), run, options) if run is not None else found.features[row]
    )
    target = Path(out) if out else found.path.parent / f"{found.path.stem}-like-{_name(like)}"
    _require_free(target)
    cells = index_of(found) if index else None
    among = cells.rows_near(np.asarray(query), top + 1) if cells else None
    try:
        rows, similarities = most_similar(found.features, np.asarray(query), top, row, among)
    except ValueError as error:
        raise RequestError(f"{like}: {error}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    with draft_folder(target) as draft:
        table = _table(found, rows, similarities)
        if cells is not None:
            table["index_recall"] = cells.recall
        with (draft / NEIGHBOURS_FILE).open(
            "w", encoding="utf-8", errors="surrogateescape", newline=""
        ) as stream:
            table.to_csv(stream, index=False, lineterminator="\n")
        picture = _draw(found, table, row, draft / NEIGHBOURS_PICTURE)
        replace_folder(draft, target)
    if row is not None:
        print_lines(f"{like}: row {row} of {found.path}, which is left out of its neighbours")
    drawn = target / NEIGHBOURS_PICTURE if picture else None
    return Neighbours(target / NEIGHBOURS_FILE, len(table), drawn, cells.recall if cells else None)


def _draw(found: Embeddings, table: pd.DataFrame, row: int | None, path: Path) -> bool:
    """Draw the neighbours, after the image itself where it is one of the embeddings."""
    files = table["file"].tolist()
    titles = [f"{rank}: {value:.4f}" for rank, value in enumerate(table["similarity"], 1)]
    if row is not None:
        files, titles = [str(found.columns["file"][row]), *files], ["query", *titles]
    figure = neighbour_grid(found.about, files, titles)
    if figure is not None:
        save_figure(figure, path)
    return figure is not None


def _name(like: str | Path) -> str:
    return name_of_place(Path(str(like).replace("#", "-")))


def _table(
    found: Embeddings, rows: NDArray[np.int64], similarities: NDArray[np.float64]
) -> pd.DataFrame:
    columns = {name: values[rows].tolist() for name, values in found.columns.items()}
    first = {"rank": np.arange(1, len(rows) + 1), "file": columns.pop("file")}
    return pd.DataFrame({**first, "similarity": similarities, **columns})


def _row_of(found: Embeddings, like: str) -> int:
    """Return the row of an image by its file or else its id.

    Raises:
        RequestError: there is none, or an id has several.
    """
    for name in ("file", "id"):
        rows = np.flatnonzero(found.columns.get(name, np.empty(0, "U1")) == like)
        if len(rows) > 1:
            raise RequestError(f"{like}: the {name} of {len(rows)} rows of {found.path}")
        if len(rows):
            return int(rows[0])
    first = found.columns["file"][0]
    hint = _hint(found, like) or f", whose first file is {first}"
    raise RequestError(f"{like}: no file or id of {found.path}{hint}")


def _hint(found: Embeddings, like: str) -> str:
    """Return what the name may mean: a file with more or less of its path, or none of them."""
    names = found.columns["file"].tolist()
    near = [name for name in names if f"/{like}".endswith(f"/{name}") or name.endswith(f"/{like}")]
    if near:
        return f": did you mean {near[0]}?"
    is_file = Path(like).is_file()
    return "; give --run, the encoder, to search for an image file" if is_file else ""


def _features_of(
    found: Embeddings, path: Path, run: str | Path, options: Options
) -> NDArray[np.float32]:
    """Return the features of an image file, made as those of the embeddings were."""
    about = found.about
    layer, control = about.get("layer"), about.get("control", False)
    if not (layer is None or isinstance(layer, str)) or not isinstance(control, bool):
        raise DataError(f"{found.path}: not embeddings: about does not say how they were made")
    encoder = open_encoder(run, layer, control)
    digest, expected = sha256_of(encoder.file), str(about.get("sha256", "unknown"))
    if digest != expected:
        raise RequestError(
            f"{encoder.file} (SHA-256 {digest[:12]}): not the encoder of {found.path}, which is "
            f"{about.get('encoder', 'unknown')} (SHA-256 {expected[:12]}): features of two "
            "encoders cannot be compared"
        )
    return encoder.features(_image(encoder, path, options)[np.newaxis])[0]


def _image(encoder: FrozenEncoder, path: Path, options: Options) -> NDArray[np.float32]:
    """Return an image file, read and preprocessed as one of its folder."""
    reading = open_reading(encoder.file, encoder.preprocessing, place_of(path.parent), *options)
    try:
        return reading.image(source_of(path, reading.selection))[0]
    except UnusableFile as error:
        raise DataError(f"{path}: {error}") from error


def _require_free(target: Path) -> None:
    """Refuse to replace anything but neighbours."""
    own = {NEIGHBOURS_FILE, NEIGHBOURS_PICTURE}
    if target.exists() and (not target.is_dir() or {p.name for p in target.iterdir()} - own):
        raise RequestError(f"{target} contains something else: give --out another folder")

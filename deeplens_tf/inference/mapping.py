"""A sample in two dimensions: its features by principal components and by UMAP."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deeplens_tf.errors import RequestError
from deeplens_tf.figures.map_colors import Coloring, one_color
from deeplens_tf.figures.map_figures import Plane, map_figure, thumbnail_map
from deeplens_tf.figures.picture_files import save_figure
from deeplens_tf.figures.projector_files import CONFIG_FILE, write_projector_files
from deeplens_tf.files.atomic_writing import draft_folder, replace_folder
from deeplens_tf.inference.embedding_files import Embeddings, read_embeddings
from deeplens_tf.inference.map_colorings import coloring_of
from deeplens_tf.inference.map_columns import Columns, columns_of
from deeplens_tf.inference.map_coordinates import (
    METHODS,
    MIN_UMAP_IMAGES,
    principal_components,
    require_spread,
    require_umap,
    umap_coordinates,
)
from deeplens_tf.inference.map_page import MapPage, evenly, map_html
from deeplens_tf.inference.map_thumbnails import Thumbnails, read_thumbnails
from deeplens_tf.terminal import counted, print_lines

TABLE_FILE, PAGE_FILE, PICTURE, IMAGES_PICTURE = "map.csv", "map.html", "map.png", "images.png"
PROJECTOR = "projector"
MAX_POINTS = 50_000  # whose thumbnails fit into one sprite of the projector
POINTS = 20_000


@dataclass(frozen=True)
class EmbeddingMap:
    """What `map_embeddings` wrote.

    Attributes:
        folder: of the files.
        count: number of images.
        explained: share of the variance of each principal component, from 0 to 1.
        umap: whether UMAP was drawn too.
        images: number of those whose thumbnail could be read.
        colorings: names of what the points are colored by.
    """

    folder: Path
    count: int
    explained: tuple[float, float]
    umap: bool
    images: int
    colorings: tuple[str, ...]


def map_embeddings(
    embeddings: str | Path,
    out: str | Path | None = None,
    *,
    method: str | None = None,
    color_by: Sequence[str] = (),
    tables: Sequence[str | Path] = (),
    points: int = POINTS,
) -> EmbeddingMap:
    """Draw a sample in two dimensions: pictures, a page, a table and TensorBoard's projector.

    Args:
        embeddings: file that `embed` wrote, or one with the arrays `features` and `file`.
        out: folder to write; None for `<embeddings>-map` beside them. An earlier map in it is
            replaced.
        method: "pca" for principal components alone, "umap" for UMAP too; None for UMAP where
            umap-learn is installed.
        color_by: columns; the pictures have the colors of the first, the page offers all. Without
            any: the class (the folder of each image), the axion mass and the columns of the tables.
        tables: of the images, with a column `file`; CSV, ECSV, FITS or Parquet.
        points: of larger embeddings so many images, evenly drawn, are on the map.

    Returns:
        The folder and what is in it: `map.csv` (`file`, `pca_1`, `pca_2`, `umap_1`, `umap_2`),
        `map.html`, `map.png`, `images.png` where the images can be read again, and `projector/`.

    Raises:
        RequestError: no such file or column, UMAP is asked for and is not installed or has too
            few images, or `out` contains something else.
        DataError: embeddings or a table that cannot be used, or whose features are all equal.
    """
    if method not in (None, *METHODS):
        raise RequestError(f"--method must be {' or '.join(METHODS)}. Received: {method}")
    if not 2 <= points <= MAX_POINTS:
        raise RequestError(f"--points must be from 2 to {MAX_POINTS}. Received: {points}")
    has_umap = require_umap(method == "umap")
    found = read_embeddings(embeddings)
    target = Path(out) if out else found.path.with_name(f"{found.path.stem}-map")
    _require_free(target)
    rows = evenly(len(found.features), points)
    features = np.asarray(found.features[rows])
    files = found.columns["file"][rows].tolist()
    require_spread(features)
    known = columns_of(found.about, files, [Path(table) for table in tables], color_by)
    planes, explained = _planes(features, method, has_umap)
    colorings = [coloring_of(name, texts) for name, texts in known.items()]
    _say(found, len(rows), colorings)
    thumbnails = read_thumbnails(found.about, files)
    texts = {"file": files, **_ids(found, rows), **known}
    target.parent.mkdir(parents=True, exist_ok=True)
    with draft_folder(target) as draft:
        _write_table(draft / TABLE_FILE, files, planes)
        _write_pictures(draft, planes, colorings or [one_color(len(rows))], thumbnails, found)
        page = MapPage(
            f"Map of {found.path.name}",
            _facts(found, len(rows)),
            texts,
            planes,
            colorings or [one_color(len(rows))],
            thumbnails,
        )
        (draft / PAGE_FILE).write_text(map_html(page), encoding="utf-8")
        _write_projector(draft / PROJECTOR, features, texts, thumbnails)
        replace_folder(draft, target)
    shown, drawn = int(thumbnails.shown.sum()), tuple(coloring.name for coloring in colorings)
    return EmbeddingMap(target, len(rows), explained, len(planes) > 1, shown, drawn)


def _planes(
    features: NDArray[np.float32], method: str | None, has_umap: bool
) -> tuple[list[Plane], tuple[float, float]]:
    """Return the maps and the explained variance; say why there is no UMAP."""
    principal = principal_components(features)
    shares = [f"{share:.1%} of the variance" for share in principal.explained]
    axes = (f"component 1 ({shares[0]})", f"component 2 ({shares[1]})")
    planes = [Plane("Principal components", principal.coordinates, axes)]
    if method == "pca":
        return planes, principal.explained
    if len(features) < MIN_UMAP_IMAGES:
        why = f"UMAP needs {MIN_UMAP_IMAGES} images or more, and there are {len(features)}"
        if method == "umap":
            raise RequestError(f"--method umap: {why}")
        print_lines(f"{why}: principal components alone are drawn")
    elif not has_umap:
        print_lines(
            "umap-learn is not installed (pip install 'deeplens_tf[map]'): principal components "
            "alone are drawn"
        )
    else:
        print_lines(f"UMAP of {len(features)} images; its first use compiles for up to a minute")
        planes.append(Plane("UMAP", umap_coordinates(features), ("UMAP 1", "UMAP 2")))
    return planes, principal.explained


def _say(found: Embeddings, count: int, colorings: Sequence[Coloring]) -> None:
    total = len(found.features)
    if count < total:
        print_lines(f"{found.path}: {count} of {total} images, evenly drawn")
    if not colorings:
        print_lines("nothing is known of the images, so all have one color: give --table")
    for coloring in colorings:
        if missing := int((~coloring.known).sum()):
            print_lines(f"{coloring.name}: {counted(missing, 'image')} without a value, drawn gray")


def _ids(found: Embeddings, rows: NDArray[np.int64]) -> Columns:
    if "id" not in found.columns:
        return {}
    return {"id": found.columns["id"][rows].tolist()}


def _facts(found: Embeddings, count: int) -> list[str]:
    total, dim = found.features.shape
    of = f"{count:,} of {total:,} images, evenly drawn" if count < total else f"{count:,} images"
    about = found.about
    lines = [f"{of}; {counted(dim, 'feature')} each"]
    if "encoder" in about:
        layer = f", layer {about['layer']}" if about.get("layer") else ""
        control = (
            ", with its initial weights (the untrained control)" if about.get("control") else ""
        )
        lines.append(f"Encoder: {about['encoder']}{layer}{control}")
    if "data" in about:
        lines.append(f"Images: {about['data']}")
    return lines


def _write_table(path: Path, files: Sequence[str], planes: Sequence[Plane]) -> None:
    columns: dict[str, object] = {"file": files}
    for name, plane in zip(METHODS, planes, strict=False):
        columns |= {f"{name}_{k + 1}": plane.coordinates[:, k] for k in (0, 1)}
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        pd.DataFrame(columns).to_csv(stream, index=False, lineterminator="\n")


def _write_pictures(
    folder: Path,
    planes: Sequence[Plane],
    colorings: Sequence[Coloring],
    thumbnails: Thumbnails,
    found: Embeddings,
) -> None:
    title = f"{found.path.stem}: {counted(len(thumbnails.shown), 'image')}"
    save_figure(map_figure(planes, colorings[0], title), folder / PICTURE)
    if thumbnails.shown.any():
        pictures = (thumbnails.pixels, thumbnails.shown)
        figure = thumbnail_map(planes, *pictures, colorings[0], title)
        save_figure(figure, folder / IMAGES_PICTURE)


def _write_projector(
    folder: Path, features: NDArray[np.float32], texts: Columns, thumbnails: Thumbnails
) -> None:
    folder.mkdir()
    pixels = thumbnails.pixels if thumbnails.shown.any() else None
    write_projector_files(folder, features, texts, pixels)


def _require_free(target: Path) -> None:
    """Refuse to replace anything but a map."""
    own = {TABLE_FILE, PAGE_FILE, PICTURE, IMAGES_PICTURE, PROJECTOR}
    in_projector = ("features.tsv", "features_columns.tsv", "features.png", CONFIG_FILE)
    own |= {f"{PROJECTOR}/{name}" for name in in_projector}
    if not target.exists():
        return
    inside = target.rglob("*") if target.is_dir() else ()
    if not target.is_dir() or {p.relative_to(target).as_posix() for p in inside} - own:
        raise RequestError(f"{target} contains something else: give --out another folder")

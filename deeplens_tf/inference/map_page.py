"""`map.html`: a sample in two dimensions on one page, which shows the image of each point.

The page is one file that loads nothing. A policy in it allows its own script alone; names, which
may be a stranger's, reach the script as data and the page as text.
"""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_tf import __version__
from deeplens_tf.figures.map_colors import (
    NO_VALUE_COLOR,
    NO_VALUE_NAME,
    Classes,
    Coloring,
    scale_stops,
)
from deeplens_tf.figures.map_figures import Plane
from deeplens_tf.figures.picture_files import jpeg_of
from deeplens_tf.figures.projector_files import sprite
from deeplens_tf.files.html_templates import (
    data_in_page,
    rendered,
    script_in_page,
    text_in_page,
)
from deeplens_tf.inference.map_thumbnails import SIDE, Thumbnails
from deeplens_tf.terminal import counted

TEMPLATES = Path(__file__).with_name("templates")
MAX_THUMBNAILS = 5000
SEARCHED = ("file", "id")  # columns in which the page finds a text
_DECIMALS = 4  # of a coordinate, as a share of the range


@dataclass(frozen=True)
class MapPage:
    """What a page shows.

    Attributes:
        title: of the page.
        facts: lines about the sample and the encoder.
        texts: columns of the images, `file` first, each as texts.
        planes: the coordinates.
        colorings: of the points, one at least.
        thumbnails: of the images.
    """

    title: str
    facts: Sequence[str]
    texts: Mapping[str, Sequence[str]]
    planes: Sequence[Plane]
    colorings: Sequence[Coloring]
    thumbnails: Thumbnails


def map_html(page: MapPage) -> str:
    """Return the page as HTML; the same values give the same text."""
    rows = _rows_with_thumbnails(page.thumbnails.shown)
    script, digest = script_in_page(TEMPLATES / "map.js")
    count = len(page.texts["file"])
    return rendered(
        TEMPLATES / "map.html",
        title=page.title,
        facts=[*page.facts, *_about_thumbnails(page.thumbnails.shown, rows)],
        count=counted(count, "image"),
        planes=[plane.title for plane in page.planes],
        colorings=[coloring.name for coloring in page.colorings],
        data=data_in_page(_data(page, rows)),
        sprite=_sprite(page.thumbnails, rows),
        script=script,
        digest=digest,
        version=__version__,
    )


def _rows_with_thumbnails(shown: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return which rows have a thumbnail in the page, evenly drawn of those that can be read."""
    rows = np.flatnonzero(shown)
    return rows[evenly(len(rows), MAX_THUMBNAILS)]


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most so many of `count` places, at equal distances, the first and the last too."""
    if count <= most:
        return np.arange(count)
    return np.round(np.linspace(0, count - 1, most)).astype(np.int64)


def _about_thumbnails(shown: NDArray[np.bool_], rows: NDArray[np.int64]) -> list[str]:
    if not shown.any():
        return ["The images cannot be read again, so none is shown."]
    if len(rows) == len(shown):
        return []
    return [f"{len(rows):,} of the {len(shown):,} images are in this page and are shown."]


def _sprite(thumbnails: Thumbnails, rows: NDArray[np.int64]) -> str:
    if not len(rows):
        return ""
    return b64encode(jpeg_of(sprite(thumbnails.pixels[rows]))).decode()


def _data(page: MapPage, rows: NDArray[np.int64]) -> dict[str, Any]:
    cells = np.full(len(page.texts["file"]), -1)
    cells[rows] = np.arange(len(rows))
    return {
        "columns": [_column(name, texts) for name, texts in page.texts.items()],
        "planes": [_plane(plane) for plane in page.planes],
        "colorings": [_coloring(coloring) for coloring in page.colorings],
        "none": {"name": NO_VALUE_NAME, "color": NO_VALUE_COLOR},
        "sprite": {
            "side": SIDE,
            "columns": math.isqrt(max(len(rows), 1) - 1) + 1,
            "cells": cells.tolist(),
        },
    }


def _column(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return a column; few different values are written once each."""
    column = {"name": text_in_page(name), "searched": name in SEARCHED}
    different = [*dict.fromkeys(texts)]
    if 2 * len(different) > len(texts):
        return {**column, "texts": [*map(text_in_page, texts)]}
    codes = {text: code for code, text in enumerate(different)}
    names = [*map(text_in_page, different)]
    return {**column, "names": names, "codes": [codes[text] for text in texts]}


def _plane(plane: Plane) -> dict[str, Any]:
    """Return the coordinates as shares of their range; those of a range of nothing are 0.5."""
    low, high = plane.coordinates.min(axis=0), plane.coordinates.max(axis=0)
    shares = (plane.coordinates - low) / np.where(high > low, high - low, 1)
    shares = np.where(high > low, shares, 0.5).round(_DECIMALS)
    x, y = shares.T.tolist()
    return {"title": plane.title, "axes": plane.axes, "x": x, "y": y}


def _coloring(coloring: Coloring) -> dict[str, Any]:
    name = text_in_page(coloring.name)
    if isinstance(coloring, Classes):
        names = [*map(text_in_page, coloring.names)]
        codes = coloring.codes.tolist()
        return {"name": name, "names": names, "colors": coloring.colors, "codes": codes}
    low, high = coloring.limits
    return {
        "name": name,
        "low": f"{low:.4g}",
        "high": f"{high:.4g}",
        "logarithmic": coloring.logarithmic,
        "stops": scale_stops(),
        "places": [-1 if place != place else place for place in coloring.places.round(_DECIMALS)],
    }

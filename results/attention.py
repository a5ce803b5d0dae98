"""Does the network look at the substructure? Maps of it against the true residual.

    python -m results.attention

takes the first 150 test lenses of `axion` and of `cdm` (`no_sub` has no substructure) and writes
results/attention.csv, a share for each lens, results/attention.md, the table of means in per cent,
and results/figures/attention.png. The true residual is the image of a lens minus the image of the
same lens without its substructure, by the simulator, in the window of the network. The marked
pixels of a lens are the smallest set that holds half of the sum of |residual|. The share of a map:

    share = (sum of the map over the marked pixels) / (sum of the map over all pixels)
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

import deeplens_tf as dl
from deeplens_tf.figures import save_figure
from deeplens_tf.figures.style import IMAGE_COLOURS, MATRIX_COLOURS, in_house_style
from deeplens_tf.inference.frozen_encoder import open_encoder
from deeplens_tf.metrics.bootstrap import bootstrap_intervals
from results.residuals import CLASSES, Floats, Lenses, draw_lenses, marked_pixels

ENCODER = "vit_nano_same_lens"
LENSES = 150  # of a class
PATCH = 4  # of the encoder, and of the cover, which covers one after the other
HERE = Path(__file__).parent
TABLE, PAGE = HERE / "attention.csv", HERE / "attention.md"
PICTURE = HERE / "figures" / "attention.png"
BRIGHTNESS = "brightness of the image, of patches"
# Name of a map of a network -> its column for the untrained network.
NETWORK_MAPS = {
    name: f"{name}, untrained"
    for name in ("roll-out", "occlusion by the median", "occlusion by the minimum")
}
DRAWN = ("roll-out", "occlusion by the median")
SHOWN = 2  # lenses of a class in the figure


def maps_of(lenses: Lenses, networks: Sequence[keras.Model]) -> dict[str, Floats]:
    """Return the name of each map -> it for each lens, shape (lenses, height, width).

    Args:
        lenses: the images.
        networks: the pretrained encoder and the untrained one.
    """
    brightness, truth = lenses.images[..., 0], np.abs(lenses.residuals)
    maps: dict[str, Floats] = {
        "uniform: the area of the marked pixels": np.ones_like(brightness),
        "brightness of the image, of pixels": brightness,
        BRIGHTNESS: of_patches(brightness),
        "the residual itself, of patches": of_patches(truth),
    }
    for network, of in zip(networks, (list(NETWORK_MAPS), NETWORK_MAPS.values()), strict=True):
        found = [dl.inference.attention_rollout(network, lenses.images)]
        cover = {"patch": PATCH, "stride": PATCH}
        for fill in ("median", "minimum"):
            found.append(dl.inference.occlusion_maps(network, lenses.images, **cover, fill=fill))
        maps |= {name: each.pixels for name, each in zip(of, found, strict=True)}
    return maps


def of_patches(images: Floats) -> Floats:
    """Return images whose pixels have the mean of their patch."""
    count, height, width = images.shape
    cells = images.reshape(count, height // PATCH, PATCH, width // PATCH, PATCH)
    return np.kron(cells.mean(axis=(2, 4)), np.ones((1, PATCH, PATCH)))


def shares(maps: Mapping[str, Floats], marked: NDArray[np.bool_]) -> dict[str, Floats]:
    """Return the share of each map within the marked pixels, for each lens."""
    found = {}
    for name, each in maps.items():
        positive = np.maximum(each, 0).astype(np.float64)  # of 1 - cosine but for rounding errors
        found[name] = (positive * marked).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))
    return found


def measure(count: int) -> tuple[Lenses, dict[str, Floats], pd.DataFrame]:
    """Return lenses, the maps of them, and a table with a row for each lens."""
    trained, untrained = (open_encoder(ENCODER, control=control) for control in (False, True))
    lenses = draw_lenses(count, trained.preprocessing)
    maps = maps_of(lenses, (trained.network, untrained.network))
    columns = shares(maps, marked_pixels(lenses.residuals))
    return lenses, maps, pd.DataFrame({"class": lenses.classes, **columns})


def page(table: pd.DataFrame) -> str:
    """Return the table of mean shares with 95 % intervals, and of the differences."""
    heads = ["map", *CLASSES, "both", "minus untrained", "minus brightness of patches"]
    lines = [_line(heads), _line(["---"] + ["---:"] * (len(heads) - 1))]
    for name in table.columns[1:]:
        values = [*(table[name][table["class"] == each] for each in CLASSES), table[name]]
        cells = ["{:.1f} [{:.1f}, {:.1f}]".format(*_mean(each)) for each in values]
        lines.append(_line([name, *cells, *_differences(table, name)]))
    return "\n".join(lines) + "\n"


def _differences(table: pd.DataFrame, name: str) -> Iterator[str]:
    """Yield a map of a network minus that of the untrained one, and minus the brightness."""
    is_of_network = name in {*NETWORK_MAPS, *NETWORK_MAPS.values()}
    for other in (NETWORK_MAPS.get(name), BRIGHTNESS if is_of_network else None):
        words = "{:+.1f} [{:+.1f}, {:+.1f}]"
        yield words.format(*_mean(table[name] - table[other])) if other else ""


def _mean(values: pd.Series) -> tuple[float, float, float]:
    """Return the mean in per cent, and its 95 % interval over the lenses by the bootstrap."""
    percent = 100 * values.to_numpy()

    def mean(
        each: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        return {"mean": weights @ each / weights.sum(axis=1)}

    low, high = bootstrap_intervals(mean, [percent], seed=0)["mean"] or (np.nan, np.nan)
    return float(percent.mean()), low, high


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


@in_house_style
def picture(lenses: Lenses, maps: Mapping[str, Floats], table: pd.DataFrame) -> Figure:
    """Draw some lenses, their residual and the maps, with the marked pixels in outline."""
    columns = [each for name in DRAWN for each in (name, NETWORK_MAPS[name])]
    rows = [i for each in CLASSES for i in np.flatnonzero(lenses.classes == each)[:SHOWN]]
    figure = Figure(figsize=(2.1 * (2 + len(columns)), 2.2 * len(rows) + 0.6))
    panels = figure.subplots(len(rows), 2 + len(columns), squeeze=False)
    marked = marked_pixels(lenses.residuals)
    for axes, i in zip(panels, rows, strict=True):
        shown = [lenses.images[i, ..., 0], np.abs(lenses.residuals[i])]
        shown += [maps[name][i] for name in columns]
        titles = [str(lenses.classes[i]), "|residual|"]
        names = [name.replace(", ", "\n") for name in columns]
        titles += [
            f"{name}: {100 * table[of][i]:.0f} %" for name, of in zip(names, columns, strict=True)
        ]
        for k, (panel, each, title) in enumerate(zip(axes, shown, titles, strict=True)):
            colours = IMAGE_COLOURS if k < 2 else MATRIX_COLOURS
            panel.imshow(each, cmap=colours, vmin=0, origin="lower", interpolation="nearest")
            if k:
                panel.contour(marked[i], levels=[0.5], colors="white", linewidths=0.8)
            panel.set(xticks=[], yticks=[])
            panel.set_title(title, fontsize=9)
            panel.grid(False)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the shares, the table and the figure."""
    parser = argparse.ArgumentParser(prog="python -m results.attention", description=__doc__)
    parser.parse_args(argv)
    lenses, maps, table = measure(LENSES)
    table.to_csv(TABLE, index=False, float_format="%.5f")
    PAGE.write_text(page(pd.read_csv(TABLE)))
    save_figure(picture(lenses, maps, table), PICTURE)


if __name__ == "__main__":
    main()

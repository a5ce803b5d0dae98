"""The figures of the study, from the stored predictions: results/figures/*.png.

python -m results.figures [labels roc masses maps learned ...]
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from deeplens_tf.figures import save_figure
from deeplens_tf.figures.style import GREY, PALETTE, in_house_style, name_axes
from results import store
from results.finetunings import LENSES_OF_A_CLASS
from results.learned import CLASSES, FEATURES, PARAMETERS
from results.learned import STORE as LEARNED
from results.maps import STAGES, read_maps
from results.rows import ALL, SKIES, Sky
from results.scores import score_of, scores

FOLDER = Path(__file__).with_name("figures")
CLEAN = SKIES[0]
SEED = 0
LENSES = len(ALL) * LENSES_OF_A_CLASS  # with all labels
AREAS = (0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995)  # ticks
# Name of a row, its name in a figure, its colour.
ROWS = {
    "untrained": ("untrained network", GREY),
    "scratch": ("supervised", "black"),
    "scratch_features": ("features of the supervised network, all labels", "0.35"),
    "image": ("two views of an image", PALETTE[1]),
    "object": ("two images of a lens", PALETTE[0]),
    "object_cdm": ("two images of a lens, cdm alone", PALETTE[5]),
    "supervised_contrastive": ("supervised contrastive, all labels", PALETTE[2]),
}
PROBES = {"probe-classification-0.01": 0.01, "probe-classification-0.1": 0.1}
PROBES |= {"probe-classification-1": 1.0}
FINETUNED = {"classes-1-test": 0.01, "classes-100-test": 1.0}
DRAWN = ("clean", "noisy")  # skies


@in_house_style
def label_efficiency() -> Figure:
    """Draw the macro AUC against the number of labelled lenses; all seeds as points."""
    figure = Figure(figsize=(10.5, 4.6))
    skies = [sky for sky in SKIES if sky.name in DRAWN]
    skies = [sky for sky in skies if store.seeds_of(sky, store.UNTRAINED)]
    panels = figure.subplots(1, len(skies), sharey=True)
    for axes, sky in zip(panels, skies, strict=True):
        for name, (title, colour) in ROWS.items():
            _draw_labels(axes, _areas(sky, name, PROBES), title, colour, "o-")
            whole = title if name == "scratch" else f"{title}, fine-tuned"
            _draw_labels(axes, _areas(sky, name, FINETUNED), whole, colour, "X--")
        axes.set_xscale("log")
        axes.set_xticks([LENSES // 100, LENSES // 10, LENSES], ["81", "810", "8,100"])
        axes.set_yscale("logit")
        axes.set_yticks(AREAS, [f"{area:g}" for area in AREAS])
        axes.set_ylim(0.74, 0.9975)
        axes.minorticks_off()
        name_axes(axes, sky.title.capitalize(), "labelled lenses", "macro AUC")
    keys: dict[str, Artist] = {}
    for axes in panels:
        lines, names = axes.get_legend_handles_labels()
        keys |= dict(zip(names, lines, strict=True))
    figure.legend(list(keys.values()), list(keys), loc="outside lower center", ncols=3)
    return figure


@in_house_style
def roc_of_few_labels() -> Figure:
    """Draw each class against the rest, with 1 % of the labels; rates of 0 are drawn at 5e-4."""
    figure = Figure(figsize=(11, 4.4))
    panels = figure.subplots(1, len(ALL), sharey=True)
    steps = {"untrained": "probe-classification-0.01", "scratch": "classes-1-test"}
    steps |= {name: "probe-classification-0.01" for name in ("image", "object_cdm", "object")}
    for axes, label in zip(panels, ALL, strict=True):
        for name, step in steps.items():
            table = store.predictions(CLEAN, name, SEED)[step]
            false_positive, true_positive, _ = roc_curve(
                table["label"] == label, table[f"p_{label}"]
            )
            title, colour = ROWS[name]
            axes.plot(np.maximum(false_positive, 5e-4), true_positive, label=title, color=colour)
        axes.set_xscale("log")
        name_axes(axes, f"{label} against the rest", "false positive rate", "true positive rate")
    figure.suptitle("1 % of the labels: 81 lenses")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


@in_house_style
def masses() -> Figure:
    """Draw predicted against true masses, by ridge regression on frozen features."""
    figure = Figure(figsize=(8, 4.2))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, name in zip(panels, ("untrained", "object"), strict=True):
        table = store.predictions(CLEAN, name, SEED)["probe-regression-0.741"]
        ends = [table[store.MASS].min(), table[store.MASS].max()]
        axes.plot(ends, ends, color=GREY, linestyle=":")
        colour = PALETTE[0]
        axes.plot(table[store.MASS], table["predicted"], ".", color=colour, markersize=3, alpha=0.5)
        found = {score.quantity: score.value for score in scores(table)}
        axes.locator_params(nbins=5)
        title = f"{ROWS[name][0]}: R² {found['r2']:.3f}, MAE {found['mae_dex']:.3f} dex"
        name_axes(axes, title, "true log10(mass / eV)", "predicted log10(mass / eV)")
    figure.suptitle("Ridge regression on frozen features, 2,000 labels")
    return figure


@in_house_style
def maps() -> Figure:
    """Draw the stored maps before and after pretraining, by class and by mass."""
    figure = Figure(figsize=(7.5, 7.0))
    panels = figure.subplots(2, len(STAGES))
    classes = pd.read_csv(store.FOLDER / CLEAN.name / "classes.csv")
    mass = pd.read_csv(store.FOLDER / CLEAN.name / "masses.csv").set_index("file")[store.MASS]
    places = read_maps()
    for column, stage in enumerate(STAGES):
        upper, lower = panels[0, column], panels[1, column]
        for label, colour in zip(ALL, PALETTE, strict=False):
            chosen = places[stage][classes["label"] == label]
            upper.plot(*chosen.T, ".", color=colour, markersize=3, alpha=0.6, label=label)
        axion = places[stage][classes["label"] == "axion"]
        values = classes["file"][classes["label"] == "axion"].map(mass)
        points = lower.scatter(*axion.T, c=values, s=6, cmap="viridis")
        upper.set_title(f"{stage} pretraining")
    panels[0, 0].legend(markerscale=4)
    figure.colorbar(points, ax=list(panels[1]), label="log10(mass / eV) of axion")
    for axes in panels.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
    return figure


@in_house_style
def learned() -> Figure:
    """Draw what a linear model reads from the features of each row, and the AUC at each depth."""
    table = pd.read_csv(LEARNED / "wide.csv")
    figure = Figure(figsize=(12, 3.4 + 0.4 * table["row"].nunique()))
    left, right = figure.subplots(1, 2, width_ratios=(2.2, 1))
    _draw_parameters(left, table[table["layer"] == FEATURES])
    for colour, row in zip((GREY, *PALETTE), table["row"].unique(), strict=False):
        areas = table[(table["row"] == row) & (table["parameter"] == CLASSES)]
        right.plot(areas["depth"], areas["score"], "o-", color=colour, label=row)
    layers = list(table["layer"].unique())
    right.set_xticks(range(1, len(layers) + 1), layers, rotation=30, ha="right")
    name_axes(right, "The classes, at each depth", "", "macro AUC")
    right.legend()
    return figure


def _draw_parameters(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the R² of each parameter, a line for each row of the study; below 0 as 0."""
    names = [name for name in PARAMETERS if name in set(table["parameter"])]
    scores = table.pivot(index="row", columns="parameter", values="score")
    values = scores.loc[table["row"].unique(), names].clip(lower=0)
    axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for (i, j), value in np.ndenumerate(values.to_numpy()):
        colour = "black" if value > 0.6 else "white"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour)
    titles = [PARAMETERS[name].title for name in names]
    axes.set_xticks(range(len(names)), titles, rotation=30, ha="right")
    axes.set_yticks(range(len(values)), values.index)
    axes.grid(False)
    axes.set_title("R² of a ridge regression, from the features")


FIGURES: dict[str, Callable[[], Figure]] = {
    "labels": label_efficiency,
    "roc": roc_of_few_labels,
    "masses": masses,
    "maps": maps,
    "learned": learned,
}


def _areas(sky: Sky, name: str, steps: dict[str, float]) -> dict[float, list[float]]:
    """Return number of labelled lenses -> macro AUC of each seed."""
    areas: dict[float, list[float]] = {}
    for seed in store.seeds_of(sky, name):
        found = store.predictions(sky, name, seed)
        for step in steps.keys() & found.keys():
            area = score_of(scores(found[step]), "macro_auc").value
            areas.setdefault(steps[step] * LENSES, []).append(area)
    return dict(sorted(areas.items()))


def _draw_labels(
    axes: Axes, areas: dict[float, list[float]], title: str, colour: str, look: str
) -> None:
    if areas:
        means = [np.mean(values) for values in areas.values()]
        axes.plot(list(areas), means, look, color=colour, label=title)
        for lenses, values in areas.items():
            axes.plot([lenses] * len(values), values, look[0], color=colour, alpha=0.4)


def main(names: Sequence[str]) -> None:
    """Draw some of the figures, or all."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or FIGURES:
        save_figure(FIGURES[name](), FOLDER / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1:])

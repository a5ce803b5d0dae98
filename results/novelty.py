"""A substructure that was never seen: is `axion` new to a network that knows `cdm` and `no_sub`?

    python -m results.novelty [--sky clean] [--seed 0]

trains on these two classes alone: the encoder `object_known` by pairs, without a label, and the
same network by all labels. The distance of a test image is the mean cosine distance of its features
to those of the 10 nearest training images. The area under the ROC curve of that distance, `axion`
against the others, is written to results/novelty.md with its 95 % interval (DeLong), beside that of
the untrained network. The distances are kept in results/predictions/novelty.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from deeplens_tf.metrics.ranking import area_influence, area_under_curve
from results.budgets import chosen_settings
from results.finetunings import FINETUNINGS, NETWORK, row_folder
from results.pages import table_page
from results.row_steps import data_steps, pretraining
from results.rows import ROWS, SKIES, Sky
from results.scores import area_score
from results.steps import Step, as_words, run_step
from results.store import FOLDER

NEW = "axion"
NEIGHBOURS = 10
KNOWN = next(row for row in ROWS if row.name == "object_known")
SUPERVISED = next(each for each in FINETUNINGS if each.name == "classes-100")
# Column of the distances -> title.
NETWORKS = {
    "untrained": "untrained network",
    "supervised": "supervised, all labels of `cdm` and `no_sub`",
    KNOWN.name: "two images of a lens, of `cdm` and `no_sub`",
}
STORE = FOLDER / "novelty"
PAGE = Path(__file__).with_name("novelty.md")


def training_steps(sky: Sky, seed: int) -> Iterator[Step]:
    """Return the simulations and the trainings."""
    yield from data_steps(KNOWN, sky)
    yield pretraining(KNOWN, sky, seed)
    scratch, run = ROWS[0], _run("supervised", sky, seed)
    settings = {**NETWORK, **chosen_settings(scratch, SKIES[0], SUPERVISED.name), "seed": seed}
    where = ("--data", str(sky.folder(KNOWN.classes)), "--run-dir", str(run))
    words = ("--head", "classification", "--encoder", "none", *as_words(settings), *where)
    yield Step(run.with_suffix(".json"), "finetune", words)


def embedding_steps(network: str, sky: Sky, seed: int) -> Iterator[Step]:
    """Return the embeddings of the known training images and of all test images."""
    run = _run(network, sky, seed)
    control = ("--control",) if network == "untrained" else ()
    for name in ("known", "test"):
        out = _embeddings(network, sky, seed, name)
        folder = f"{sky.folder()}_test" if name == "test" else str(sky.folder(KNOWN.classes))
        words = ("--run", str(run), *control, "--data", folder, "--out", str(out))
        yield Step(out.with_suffix(".json"), "embed", words)


def distances(known: NDArray, test: NDArray) -> NDArray:
    """Return the mean cosine distance of each test image to the nearest known images."""
    nearest = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine").fit(known)
    found: NDArray = nearest.kneighbors(test)[0]
    return found.mean(axis=1)


def measure(sky: Sky, seed: int) -> None:
    """Keep the distance of each test image to the known ones, of each network."""
    columns = {}
    for network in NETWORKS:
        with (
            np.load(_embeddings(network, sky, seed, "known")) as known,
            np.load(_embeddings(network, sky, seed, "test")) as test,
        ):
            columns["file"] = test["file"].astype(str)
            columns[network] = distances(known["features"], test["features"])
    STORE.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(columns)
    table.insert(1, "label", table["file"].str.split("/").str[0])
    table.to_csv(STORE / f"{sky.name}-{seed}.csv", index=False, float_format="%.6g")


def write_page() -> None:
    """Write the areas of all stored distances."""
    head = ["images", "seed", *NETWORKS.values()]
    lines = []
    for path in sorted(STORE.glob("*.csv")):
        table = pd.read_csv(path)
        is_new = (table["label"] == NEW).to_numpy()
        cells = [_cell(is_new, table[network].to_numpy()) for network in NETWORKS]
        lines.append([*path.stem.rsplit("-", 1), *cells])
    title = f"Is `{NEW}` new? Area under the curve of the distance"
    PAGE.write_text(table_page(title, head, lines))


def _cell(is_new: NDArray[np.bool_], values: NDArray[np.float64]) -> str:
    area, influence = area_under_curve(is_new, values), area_influence(is_new, values)
    return str(area_score("area", area, influence))


def _run(network: str, sky: Sky, seed: int) -> Path:
    return row_folder(KNOWN, sky, seed) / ("supervised" if network == "supervised" else "pretrain")


def _embeddings(network: str, sky: Sky, seed: int, name: str) -> Path:
    return row_folder(KNOWN, sky, seed) / f"novelty-{network}-{name}.npz"


def main(argv: Sequence[str] | None = None) -> None:
    """Train, embed, measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m results.novelty")
    skies = {sky.name: sky for sky in SKIES}
    parser.add_argument("--sky", choices=skies, default=SKIES[0].name)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    sky, seed = skies[arguments.sky], arguments.seed
    for step in training_steps(sky, seed):
        run_step(step)
    for network in NETWORKS:
        for step in embedding_steps(network, sky, seed):
            run_step(step)
    measure(sky, seed)
    write_page()


if __name__ == "__main__":
    main()

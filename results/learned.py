"""What is learned: which parameters of the simulation a linear model reads from frozen features.

    python -m results.learned ROW... [--sky wide]

takes the encoders of rows that were run with the first seed, and the untrained network. At
each depth it fits a ridge regression of each parameter, and a logistic regression of the classes,
to images that are used for nothing else, and scores them on the test images. The scores are kept in
results/predictions/learned/<sky>.csv; `python -m results.figures learned` draws them.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deeplens_tf as dl
from deeplens_tf.probes.sklearn_probes import RIDGE_PENALTIES, probe_classification
from deeplens_tf.simulation.priors import Lens
from deeplens_tf.simulation.request_file import recorded_request
from results.finetunings import row_folder
from results.row_steps import TEST_IMAGES, TEST_SEED
from results.rows import ALL, ROWS, SKIES, Row, Sky
from results.steps import WORK, Step, run_step
from results.store import FOLDER, UNTRAINED
from results.tables import TITLES

SEED = 0
FIT_SEED = 31
STORE = FOLDER / "learned"
FEATURES = "features"  # the encoder's own, after the last block
CLASSES = "classes"  # the macro AUC, beside the parameters
Targets = NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """A quantity of the simulation.

    Attributes:
        title: as the figure shows it.
        of: the lens of an image -> its components, whose R² are averaged.
        classes: of the images that have it.
    """

    title: str
    of: Callable[[Lens], Sequence[float]]
    classes: tuple[str, ...] = ALL


def _vortex(lens: Lens) -> Sequence[float]:
    """Return a line's direction, which is the same after half a turn."""
    doubled = 2 * (lens.vortex_angle_rad or 0.0)
    return np.cos(doubled), np.sin(doubled)


def _masses(lens: Lens) -> NDArray[np.float64]:
    return np.array([subhalo.mass_solar for subhalo in lens.substructure])


PARAMETERS = {
    "source": Parameter(
        "source: position", lambda lens: (lens.source_x_arcsec, lens.source_y_arcsec)
    ),
    "halo_mass": Parameter("halo: log10 mass", lambda lens: (np.log10(lens.halo_mass_solar),)),
    "halo_shape": Parameter("halo: ellipticity", lambda lens: (lens.halo_e1, lens.halo_e2)),
    "shear": Parameter("shear", lambda lens: (lens.shear_gamma1, lens.shear_gamma2)),
    "vortex": Parameter("vortex: direction", _vortex, ("axion",)),
    "axion_mass": Parameter(
        "axion: log10 mass", lambda lens: (np.log10(lens.axion_mass_ev or np.nan),), ("axion",)
    ),
    "subhalo_mass": Parameter(
        "subhalos: log10 mass", lambda lens: (np.log10(_masses(lens).sum()),), ("cdm",)
    ),
    "subhalo_count": Parameter(
        "subhalos: number > 10⁹ suns", lambda lens: ((_masses(lens) > 1e9).sum(),), ("cdm",)
    ),
}


def read_scores(
    fit: NDArray, test: NDArray, images: dict[str, pd.DataFrame]
) -> Iterator[tuple[str, float]]:
    """Yield the score of each parameter that varies, and the macro AUC of the classes.

    Args:
        fit: features of the images to fit to, shape (images, dim).
        test: features of the test images.
        images: "fit" and "test" -> label and lens of each image, in the order of the features.
    """
    for name, parameter in PARAMETERS.items():
        (x, y), (x_test, y_test) = (
            _having(parameter, features, images[key])
            for key, features in (("fit", fit), ("test", test))
        )
        if y.std(axis=0).min() > 0:
            ridge = make_pipeline(StandardScaler(), RidgeCV(RIDGE_PENALTIES)).fit(x, y)
            yield name, float(r2_score(y_test, ridge.predict(x_test).reshape(y_test.shape)))
    labels = [images[key]["label"].map(ALL.index).to_numpy() for key in ("fit", "test")]
    probed = probe_classification(fit, labels[0], test, labels[1], ALL, resamples=2)
    yield CLASSES, float(probed.metrics["macro_auc"])


def _having(
    parameter: Parameter, features: NDArray, images: pd.DataFrame
) -> tuple[NDArray, Targets]:
    chosen = images["label"].isin(parameter.classes).to_numpy()
    values = [parameter.of(lens) for lens in images["lens"][chosen]]
    return features[chosen], np.array(values, dtype=np.float64)


def measure(row: Row | None, sky: Sky, run: Path) -> pd.DataFrame:
    """Return the scores of an encoder at each depth.

    Args:
        row: that was pretrained; None for the untrained network.
        sky: of the images.
        run: of the pretraining, or of any that began with the untrained network.
    """
    name, lines = row.name if row else UNTRAINED, []
    layers = (*(block.name for block in dl.load_encoder(run).blocks), FEATURES)
    for depth, layer in enumerate(layers, start=1):
        found = {
            key: _features(run, sky, key, layer, control=row is None) for key in ("fit", "test")
        }
        images = {key: _images(sky, key, files) for key, (files, _) in found.items()}
        for parameter, score in read_scores(found["fit"][1], found["test"][1], images):
            lines.append((name, depth, layer, parameter, score))
    return pd.DataFrame(lines, columns=["row", "depth", "layer", "parameter", "score"])


def _features(
    run: Path, sky: Sky, key: str, layer: str, control: bool
) -> tuple[list[str], NDArray[np.float32]]:
    file = run.with_name(f"learned-{key}-{layer}{'-control' * control}.npz")
    if not file.is_file():
        own = None if layer == FEATURES else layer
        dl.inference.embed(run, _folder(sky, key), file, layer=own, control=control)
    with np.load(file) as found:
        return found["file"].astype(str).tolist(), found["features"]


def _images(sky: Sky, key: str, files: Sequence[str]) -> pd.DataFrame:
    """Return the label and the lens of each file, as the simulation drew them.

    Raises:
        FileNotFoundError: the folder is of no simulation.
    """
    request = recorded_request(_folder(sky, key))
    if request is None:
        raise FileNotFoundError(f"{_folder(sky, key)}: no simulation in it")
    labels = [Path(file).parent.name for file in files]
    indices = [int(Path(file).stem.rpartition("_")[2]) for file in files]
    lenses = [request.lens(*each) for each in zip(labels, indices, strict=True)]
    return pd.DataFrame({"label": labels, "lens": lenses})


def simulation_steps(sky: Sky) -> Iterator[Step]:
    """Return the simulations of the images to fit to, and of the test images."""
    options = {
        "fit": ("--seed", str(FIT_SEED)),
        "test": ("--seed", str(TEST_SEED), "--split", "test"),
    }
    for key, words in options.items():
        out = _folder(sky, key) if key == "fit" else sky.folder()
        arguments = ("--out", str(out), *sky.options, "--count", str(TEST_IMAGES), *words)
        yield Step(WORK / sky.name / f"learned-{key}.json", "simulate", arguments)


def _folder(sky: Sky, key: str) -> Path:
    return Path(f"{sky.folder()}_{'learned' if key == 'fit' else 'test'}")


def main(argv: Sequence[str]) -> None:
    """Measure the rows of the command line."""
    parser = argparse.ArgumentParser(prog="python -m results.learned")
    rows, skies = {row.name: row for row in ROWS}, {sky.name: sky for sky in SKIES}
    del rows[ROWS[0].name]  # from random weights
    parser.add_argument("rows", nargs="+", choices=rows)
    parser.add_argument("--sky", choices=skies, default="wide")
    arguments = parser.parse_args(argv)
    sky = skies[arguments.sky]
    file = STORE / f"{sky.name}.csv"
    for step in simulation_steps(sky):
        run_step(step)
    for row in (rows[name] for name in arguments.rows):
        run = row_folder(row, sky, SEED) / "pretrain"
        add(file, [measure(which, sky, run) for which in (None, row)])


def add(file: Path, tables: Sequence[pd.DataFrame]) -> None:
    """Add scores to those of a file; of a row that it has already, the new ones count."""
    known = [pd.read_csv(file)] if file.is_file() else []
    keys = ["row", "layer", "parameter"]
    both = pd.concat([*known, *tables]).drop_duplicates(keys, keep="last")
    file.parent.mkdir(parents=True, exist_ok=True)
    order = both["row"].map(list(TITLES).index)
    both.assign(order=order).sort_values(["order", "depth"], kind="stable").drop(
        columns="order"
    ).to_csv(file, index=False, float_format="%.4f")


if __name__ == "__main__":
    main(sys.argv[1:])

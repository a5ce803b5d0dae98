"""Predictions of the study for the test images, kept in the repository.

Tables and figures are made of them alone. Of each sky there are the true values (classes.csv and
masses.csv), the processor time of each step (processor_seconds.csv), and in `<row>-<seed>.npz` the
predictions of each step in the order of the images: log-probabilities of the classes, or log10
masses.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results.finetunings import FINETUNINGS
from results.rows import ROWS, Sky
from results.steps import Step

FOLDER = Path(__file__).with_name("predictions")
UNTRAINED = "untrained"  # the row of the control
SCRATCH = ROWS[0].name
# The row of the probes on the features of `SCRATCH`, which is stored with it.
SUPERVISED_FEATURES = "scratch_features"
CONTROL = "control_"  # prefix of its columns in a report
MASS = "log10_mass_ev"
# Between outputs of one untrained network on two processors.
TOLERANCE = 0.02
Array = NDArray[np.floating]


def collect(sky: Sky, row_name: str, seed: int, steps: Iterable[Step]) -> None:
    """Add to the store what the finished steps of a row predict; its other steps stay.

    Raises:
        ValueError: the images, or the untrained network, are not those of the store.
    """
    found, control, seconds = {}, {}, {}
    for step in (step for step in steps if step.record.is_file()):
        name, record = step.record.stem, json.loads(step.record.read_text())
        seconds[name] = record["processor_seconds"]
        if step.stage == "evaluate":
            table = _report(Path(record["report"]), sky)
            found[name] = _outputs(table, "", sky)
            if f"{CONTROL}predicted" in table:
                control[name] = _outputs(table, CONTROL, sky)
    _add(sky, row_name, seed, found)
    _add_control(sky, seed, control)
    _add_seconds(sky, row_name, seed, seconds)


def seeds_of(sky: Sky, row_name: str) -> list[int]:
    """Return the seeds with which a row is stored."""
    if row_name == SUPERVISED_FEATURES:
        return [seed for seed in seeds_of(sky, SCRATCH) if predictions(sky, row_name, seed)]
    paths = (FOLDER / sky.name).glob(f"{row_name}-*.npz")
    ends = (path.stem.removeprefix(f"{row_name}-") for path in paths)
    return sorted(int(end) for end in ends if end.isdigit())


def predictions(sky: Sky, row_name: str, seed: int) -> dict[str, pd.DataFrame]:
    """Return what each step of a row predicts; nothing where the row is not stored.

    Returns:
        Name of the step -> table with the columns file, label, p_<class>..., or file,
        log10_mass_ev, predicted.
    """
    of_features = row_name == SUPERVISED_FEATURES
    stored = _arrays(sky, SCRATCH if of_features else row_name, seed)
    if row_name in (SCRATCH, SUPERVISED_FEATURES):
        stored = {step: a for step, a in stored.items() if step.startswith("probe-") == of_features}
    return {step: _table(sky, array) for step, array in stored.items()}


def processor_seconds(sky: Sky, row_name: str, seed: int) -> float:
    """Return the processor time of all steps of a row."""
    table = pd.read_csv(FOLDER / sky.name / "processor_seconds.csv")
    return float(table["seconds"][(table["row"] == row_name) & (table["seed"] == seed)].sum())


def _report(folder: Path, sky: Sky) -> pd.DataFrame:
    """Return the predictions of a report, after comparing its true values with the store's."""
    table = pd.read_csv(folder / "predictions.csv").sort_values("file", ignore_index=True)
    kind, column = ("masses", MASS) if MASS in table else ("classes", "label")
    path = FOLDER / sky.name / f"{kind}.csv"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        table[["file", column]].to_csv(path, index=False)
    if not pd.read_csv(path).equals(table[["file", column]]):
        raise ValueError(f"{folder}: other images than in {path}")
    return table


def _outputs(table: pd.DataFrame, prefix: str, sky: Sky) -> Array:
    if MASS in table:
        return table[f"{prefix}predicted"].to_numpy("float32")
    probabilities = table[[f"{prefix}p_{name}" for name in sky.classes]].to_numpy()
    return np.log(np.maximum(probabilities, 1e-300)).astype("float16")


def _table(sky: Sky, outputs: Array) -> pd.DataFrame:
    if outputs.ndim == 1:
        return pd.read_csv(FOLDER / sky.name / "masses.csv").assign(
            predicted=outputs.astype("float64")
        )
    shares = np.exp(outputs.astype("float64"))
    shares /= shares.sum(axis=1, keepdims=True)  # rounded logarithms do not sum to one
    columns = {f"p_{name}": share for name, share in zip(sky.classes, shares.T, strict=True)}
    return pd.read_csv(FOLDER / sky.name / "classes.csv").assign(**columns)


def _arrays(sky: Sky, row_name: str, seed: int) -> dict[str, Array]:
    with contextlib.suppress(FileNotFoundError), np.load(_path(sky, row_name, seed)) as arrays:
        return dict(arrays)
    return {}


def _path(sky: Sky, row_name: str, seed: int) -> Path:
    return FOLDER / sky.name / f"{row_name}-{seed}.npz"


def _add(sky: Sky, row_name: str, seed: int, found: Mapping[str, Array]) -> None:
    if found:
        everything: dict[str, Any] = {**_arrays(sky, row_name, seed), **found}
        np.savez_compressed(_path(sky, row_name, seed), **dict(sorted(everything.items())))


def _add_control(sky: Sky, seed: int, control: Mapping[str, Array]) -> None:
    """Add the control of a row, which is that of all rows with this seed.

    Raises:
        ValueError: the stored one is another network.
    """
    known = _arrays(sky, UNTRAINED, seed)
    for step in known.keys() & control.keys():
        ours, theirs = (_comparable(arrays[step]) for arrays in (control, known))
        if np.abs(ours - theirs).max() > TOLERANCE:
            raise ValueError(f"another untrained network in {step} than in {UNTRAINED}-{seed}")
    _add(sky, UNTRAINED, seed, {**control, **known})


def _comparable(outputs: Array) -> Array:
    return outputs if outputs.ndim == 1 else np.exp(outputs.astype("float64"))


def _without_earlier_budgets(known: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Leave out the times of fine-tunings that a row does by another budget now."""
    starts = (f"{finetuning.name}-" for finetuning in FINETUNINGS)
    repeated = tuple(start for start in starts if new["step"].str.startswith(start).any())
    of_row = known["row"].isin(new["row"]) & known["seed"].isin(new["seed"])
    return known[~(of_row & known["step"].str.startswith(repeated))]


def _add_seconds(sky: Sky, row_name: str, seed: int, seconds: Mapping[str, float]) -> None:
    path = FOLDER / sky.name / "processor_seconds.csv"
    keys = ["row", "seed", "step"]
    new = pd.DataFrame(
        [(row_name, seed, *each) for each in seconds.items()], columns=[*keys, "seconds"]
    )
    known = [_without_earlier_budgets(pd.read_csv(path), new)] if path.is_file() else []
    both = pd.concat([*known, new]).drop_duplicates(keys, keep="last").sort_values(keys)
    path.parent.mkdir(parents=True, exist_ok=True)
    both.to_csv(path, index=False)

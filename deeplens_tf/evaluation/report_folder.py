"""`evaluation/<split>/` of a run folder: metrics.json, predictions.csv, figures and report.html."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deeplens_tf.figures.picture_files import save_figure
from deeplens_tf.files.atomic_writing import draft_folder, replace_folder
from deeplens_tf.metrics.classification import checked_classes
from deeplens_tf.preprocessing.target import MASS, Target
from deeplens_tf.probes.output_columns import class_columns, value_columns
from deeplens_tf.terminal import counted, printable

PAGE = "report.html"
SHOWN_THRESHOLDS = (0.5, 0.9)
FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def write_report(
    run_dir: str | Path,
    metrics: Mapping[str, Any],
    predictions: pd.DataFrame | None = None,
    figures: Mapping[str, Figure] | None = None,
    folder_name: str | None = None,
    page: Callable[[Path], str] | None = None,
) -> Path:
    """Write the report of one split; it replaces an earlier one only when it is complete.

    Args:
        run_dir: folder of the run.
        metrics: must contain `split`; values that are not finite become null.
        predictions: one row per image, as `classification_predictions` returns, or None.
        figures: file name without extension -> figure, or None.
        folder_name: of the report; None for the name of the split.
        page: folder of the written figures -> `report.html`; None for no page.

    Returns:
        The folder `<run_dir>/evaluation/<split>` or `<run_dir>/evaluation/<folder_name>`.

    Raises:
        ValueError: `split` or the name of a figure is missing or not a plain name.
        OSError: the folder cannot be written; an earlier report is then unchanged.
    """
    name = _plain_name(folder_name or metrics.get("split"), "metrics['split']")
    target = Path(run_dir) / "evaluation" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with draft_folder(target) as draft:
        _write_contents(draft, metrics, predictions, figures or {})
        if page is not None:
            (draft / PAGE).write_text(page(draft / "figures"), encoding="utf-8")
        replace_folder(draft, target)
    return target


def classification_predictions(
    files: Sequence[str | Path],
    labels: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Return the table of `predictions.csv` for a classifier.

    Args:
        files: n file names.
        labels: shape (n,), true class indices.
        probabilities: shape (n, classes).
        class_names: one per column of `probabilities`.

    Returns:
        Columns `file`, `label`, `predicted` (class names) and `p_<class>` for each class.

    Raises:
        ValueError: lengths that differ, or as `classification_metrics`.
    """
    labels, probabilities = checked_classes(labels, probabilities, class_names)
    columns: dict[str, ArrayLike] = {
        "file": pd.Series([str(file) for file in files], dtype=object),
        "label": np.asarray(class_names, object)[labels],
        **class_columns(probabilities, class_names),
    }
    return pd.DataFrame(columns)


def regression_predictions(
    files: Sequence[str | Path],
    log10_mass_ev: ArrayLike,
    predicted: ArrayLike,
    std_dex: ArrayLike | None = None,
    target: Target = MASS,
) -> pd.DataFrame:
    """Return the table of `predictions.csv` for a mass regressor, or one of another quantity.

    Args:
        files: n file names.
        log10_mass_ev: shape (n,), log10 of the true mass in eV.
        predicted: shape (n,), log10 of the predicted mass in eV.
        std_dex: shape (n,), predicted standard deviations; None leaves the column empty.
        target: the quantity, which names the columns.

    Returns:
        Columns `file`, `log10_mass_ev`, `predicted`, `std_dex`, or `Target.headers`.

    Raises:
        ValueError: lengths that differ.
    """
    columns: dict[str, ArrayLike] = {
        "file": pd.Series([str(file) for file in files], dtype=object),
        target.headers[0]: np.asarray(log10_mass_ev),
        **value_columns(predicted, std_dex, target),
    }
    return pd.DataFrame(columns)


def summary_table(metrics: Mapping[str, Any]) -> str:
    """Return the scalar values of `metrics`, one per line, with their 95 % intervals.

    For a classifier, purity and completeness of the images above some of the thresholds follow.

    Args:
        metrics: as `classification_metrics` or `regression_metrics` returns, with `split` and
            `intervals_95` if known.

    Returns:
        Plain text without a final newline.
    """
    intervals = metrics.get("intervals_95", {})
    rows = [
        (printable(name), _with_interval(value, intervals.get(name)))
        for name, value in _scalars(metrics)
    ]
    width = max((len(name) for name, _ in rows), default=0)
    head = f"{metrics.get('split', 'unnamed')} split, {counted(metrics['n_test'], 'image')}"
    if "target" in metrics:
        target = Target.from_dict(metrics["target"])
        errors = f"; errors in {target.error_unit}" if target.error_unit else ""
        head = f"{printable(target.label)}: {head}{printable(errors)}"
    scalars = [f"  {name:<{width}}  {text}".rstrip() for name, text in rows]
    return "\n".join([head, *scalars, *_threshold_lines(metrics.get("thresholds", {}))])


def _threshold_lines(thresholds: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return a table of the selections by probability: a line per class and threshold."""
    rows = [("selected", "images", "purity", "completeness")] if thresholds else []
    for label, scores in thresholds.items():
        for row in scores:
            if row["threshold"] in SHOWN_THRESHOLDS:
                name = f"p_{printable(label)} >= {row['threshold']:g}"
                purity, completeness = (
                    _with_interval(row[key], row[f"{key}_95"]) for key in ("purity", "completeness")
                )
                rows.append((name, str(row["selected"]), purity, completeness))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _scalars(metrics: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    """Return the values to print; those of a class have the name of their interval."""
    per_class = {name: metrics.get(name, {}) for name in ("per_class_auc", "average_precision")}
    report = metrics.get("classification_report", {})
    per_class |= {f"classification_report.{label}": row for label, row in report.items()}
    flat = dict(metrics)
    for name, values in per_class.items():
        flat |= {f"{name}.{part}": value for part, value in values.items()}
    return [(k, v) for k, v in flat.items() if v is None or isinstance(v, float)]


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    text = "undefined" if value is None else f"{value:.4f}"
    if interval and value is not None:
        text += f"  [{interval[0]:.4f}, {interval[1]:.4f}]"
    return text


def _write_contents(
    folder: Path,
    metrics: Mapping[str, Any],
    predictions: pd.DataFrame | None,
    figures: Mapping[str, Figure],
) -> None:
    (folder / "figures").mkdir()
    text = json.dumps(_json_value(metrics), indent=2, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    if predictions is not None:
        predictions.to_csv(
            folder / "predictions.csv",
            index=False,
            lineterminator="\n",
            errors="surrogateescape",  # a file name need not be valid Unicode
        )
    for name, figure in figures.items():
        save_figure(figure, folder / "figures" / f"{_plain_name(name, 'figure')}.png")


def _plain_name(name: object, what: str) -> str:
    if not isinstance(name, str) or not FOLDER_NAME.fullmatch(name):
        raise ValueError(
            f"{what} must consist of letters, digits, '_', '.' and '-'. Received: {name!r}"
        )
    return name


def _json_value(value: Any) -> Any:
    """Convert NumPy to plain Python, and values that are not finite to None: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _json_value(value.tolist())
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value

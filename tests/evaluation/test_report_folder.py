"""Reports: complete or absent, valid JSON, tables that read back unchanged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from deeplens_tf.evaluation import report_folder as report
from deeplens_tf.evaluation.report_folder import (
    classification_predictions,
    regression_predictions,
    summary_table,
    write_report,
)
from deeplens_tf.metrics.classification import classification_intervals, classification_metrics
from deeplens_tf.metrics.regression import regression_metrics

TABLE = pd.DataFrame({"file": ["a.npy"], "label": ["cdm"]})


def tree(folder):
    """Every file below a folder with its content, hidden ones too."""
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def write(folder, accuracy=0.5, figures=("roc",)):
    metrics = {"split": "test", "accuracy": accuracy}
    return write_report(folder, metrics, TABLE, {name: Figure() for name in figures})


def test_a_report_has_the_documented_layout(tmp_path):
    assert write(tmp_path) == tmp_path / "evaluation" / "test"
    assert set(tree(tmp_path)) == {
        "evaluation/test/metrics.json",
        "evaluation/test/predictions.csv",
        "evaluation/test/figures/roc.png",
    }


def test_a_repeat_replaces_the_complete_report_and_no_other_split(tmp_path):
    write_report(tmp_path, {"split": "validation"}, TABLE, {})
    write(tmp_path, figures=("roc", "confusion"))
    folder = write(tmp_path, accuracy=0.9)
    assert json.loads((folder / "metrics.json").read_text())["accuracy"] == 0.9
    assert [path.name for path in (folder / "figures").iterdir()] == ["roc.png"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["test", "validation"]


def test_the_same_report_gives_the_same_bytes(tmp_path):
    write(tmp_path)
    first = tree(tmp_path)
    write(tmp_path)
    assert tree(tmp_path) == first


def test_a_report_that_fails_half_way_leaves_the_earlier_one(tmp_path, monkeypatch):
    write(tmp_path)
    earlier = tree(tmp_path)

    def fill_the_disk(figure, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(report, "save_figure", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, accuracy=0.9)
    assert tree(tmp_path) == earlier


def test_a_swap_that_fails_restores_the_earlier_report(tmp_path, monkeypatch):
    write(tmp_path)
    earlier = tree(tmp_path)
    rename, calls = Path.rename, []

    def fail_the_second(path, target):
        calls.append(target)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_the_second)
    with pytest.raises(PermissionError):
        write(tmp_path, accuracy=0.9)
    assert tree(tmp_path) == earlier


def test_a_first_report_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="figure"):
        write(tmp_path, figures=("../outside",))
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("split", [None, "", "../test", ".hidden", "a/b", 3])
def test_a_split_that_is_not_a_plain_name_is_refused(tmp_path, split):
    with pytest.raises(ValueError, match="split"):
        write_report(tmp_path, {"split": split}, TABLE, {})
    assert tree(tmp_path) == {}


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def test_numpy_values_and_nan_become_valid_json(tmp_path):
    metrics = {
        "split": "test",
        "loss": float("nan"),
        "r2": np.float32(0.5),
        "n_test": np.int64(3),
        "matrix": np.array([[1.0, np.inf]]),
        "nested": {"a": (np.nan, True, None)},
        "run": tmp_path,
    }
    folder = write_report(tmp_path, metrics, TABLE, {})
    text = (folder / "metrics.json").read_text()
    assert json.loads(text, parse_constant=refuse_constant) == {
        "split": "test",
        "loss": None,
        "r2": 0.5,
        "n_test": 3,
        "matrix": [[1.0, None]],
        "nested": {"a": [None, True, None]},
        "run": str(tmp_path),
    }


def test_classification_predictions_read_back_unchanged(tmp_path):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=4)
    files = [Path("axion/a.npy"), "cdm/b, c.npy", "d.npy", "e.npy"]
    table = classification_predictions(files, [0, 1, 2, 2], probabilities, ["axion", "cdm", "x"])
    folder = write_report(tmp_path, {"split": "test"}, table, {})
    read = pd.read_csv(folder / "predictions.csv")
    assert list(read) == ["file", "label", "predicted", "p_axion", "p_cdm", "p_x"]
    assert list(read["file"]) == [str(file) for file in files]
    assert list(read["label"]) == ["axion", "cdm", "x", "x"]
    winners = [["axion", "cdm", "x"][row.argmax()] for row in probabilities]
    assert list(read["predicted"]) == winners
    assert np.array_equal(read.filter(like="p_").to_numpy(), probabilities)


def test_regression_predictions_leave_unknown_deviations_empty(tmp_path):
    table = regression_predictions(["a.npy", "b.npy"], [-23.0, -22.5], [-22.9, -22.4])
    assert list(table) == ["file", "log10_mass_ev", "predicted", "std_dex"]
    folder = write_report(tmp_path, {"split": "test"}, table, {})
    lines = (folder / "predictions.csv").read_text().splitlines()
    assert lines[1] == "a.npy,-23.0,-22.9,"
    known = regression_predictions(["a.npy"], [-23.0], [-22.9], [0.2])
    assert known["std_dex"].tolist() == [0.2]


def test_tables_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="length"):
        classification_predictions(["a.npy"], [0, 1], np.full((2, 2), 0.5), ["a", "b"])
    with pytest.raises(ValueError, match="length"):
        regression_predictions(["a.npy"], [-23.0, -22.0], [-23.0, -22.0], [0.1, 0.1])


def test_the_summary_names_every_metric_with_its_interval():
    labels = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    metrics = classification_metrics(labels, probabilities, ["axion", "cdm"])
    metrics["split"] = "test"
    metrics["intervals_95"] = classification_intervals(labels, probabilities, ["axion", "cdm"], 0)
    text, _, selections = summary_table(metrics).partition("\n  selected")
    lines = text.splitlines()
    assert lines[0] == "test split, 4 images"
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    low, high = metrics["intervals_95"]["accuracy"]
    assert rows["accuracy"] == ["0.7500", f"[{low:.4f},", f"{high:.4f}]"]
    assert rows["per_class_auc.cdm"][0] == "0.7500"
    assert rows["classification_report.cdm.recall"][0] == "0.5000"
    assert all(len(row) == 3 for row in rows.values())  # every metric has an interval
    assert len({line.index(".", 30) for line in lines[1:]}) == 1  # the numbers are aligned
    heading, *selected = selections.splitlines()
    assert heading.split() == ["images", "purity", "completeness"]
    low, high = metrics["thresholds"]["cdm"][2]["purity_95"]
    assert selected[2].split()[:7] == (f"p_cdm >= 0.5 1 1.0000 [{low:.4f}, {high:.4f}]".split())
    assert [line.split()[2] for line in selected] == ["0.5", "0.9"] * 2


def test_the_summary_marks_undefined_metrics():
    text = summary_table(regression_metrics([-23.0], [-22.5]))
    assert "r2        undefined" in text
    assert "mae_dex   0.5000" in text


def test_the_stray_folder_of_a_killed_run_is_no_obstacle(tmp_path):
    folder = write(tmp_path)
    shutil.copytree(folder, folder.with_name(".test-0badcafe"))
    write(tmp_path, accuracy=0.9)
    assert json.loads((folder / "metrics.json").read_text())["accuracy"] == 0.9

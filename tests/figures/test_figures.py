"""Figures of results: their content, and that files are complete and reproducible."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from deeplens_tf.figures import (
    confusion_matrix_figure,
    predicted_against_true,
    reliability_figure,
    roc_curves,
    save_figure,
)
from deeplens_tf.metrics.calibration import reliability_curve
from deeplens_tf.metrics.classification import classification_metrics

NAMES = ["axion", "cdm", "no_sub"]


def simulated(n=200):
    generator = np.random.default_rng(0)
    return generator.integers(3, size=n), generator.dirichlet(np.ones(3), size=n)


def masses(n=200):
    generator = np.random.default_rng(0)
    true = generator.uniform(-24, -22, n)
    return true, generator.normal(true, 0.3)


def drawn_points(axes):
    """The x and y of a panel's points, as they are drawn."""
    (points,) = [line for line in axes.lines if line.get_marker() == "o"]
    return points.get_xdata(), points.get_ydata()


def legend_texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def every_figure():
    labels, probabilities = simulated()
    true, predicted = masses()
    return {
        "roc": roc_curves(labels, probabilities, NAMES),
        "confusion": confusion_matrix_figure(np.arange(9).reshape(3, 3), NAMES),
        "reliability": reliability_figure(reliability_curve(labels, probabilities), 0.1),
        "masses": predicted_against_true(true, predicted, np.full(200, 0.3)),
    }


def test_predicted_and_true_masses_stay_paired():
    true, predicted = masses()
    upper, lower = predicted_against_true(true, predicted).axes
    x, y = drawn_points(upper)
    assert set(zip(x, y, strict=True)) == set(zip(true, predicted, strict=True))
    assert np.std(y - x) == pytest.approx(np.std(predicted - true))
    # Sorting both would hide the spread.
    assert np.std(y - x) > 2 * np.std(np.sort(predicted) - np.sort(true))
    residual_x, residual_y = drawn_points(lower)
    residuals = set(zip(true, predicted - true, strict=True))
    assert set(zip(residual_x, residual_y, strict=True)) == residuals


def test_the_line_of_equality_is_one_to_one():
    upper = predicted_against_true(*masses()).axes[0]
    (line,) = [line for line in upper.lines if line.get_label() == "predicted = true"]
    assert np.array_equal(line.get_xdata(), line.get_ydata())


def test_residual_bins_hold_the_median_of_the_images_in_them():
    true, predicted = masses(n=100)
    lower = predicted_against_true(true, predicted).axes[1]
    (median,) = [line for line in lower.lines if line.get_label() == "median residual"]
    order = np.argsort(true)
    expected = [np.median((predicted - true)[order[k : k + 20]]) for k in range(0, 100, 20)]
    assert median.get_ydata() == pytest.approx(expected)


@pytest.mark.parametrize(("images", "bars"), [(50, 1), (400, 0)])
def test_error_bars_are_drawn_only_for_few_points(images, bars):
    true, predicted = masses(n=images)
    figure = predicted_against_true(true, predicted, np.full(images, 0.2))
    assert len(figure.axes[0].collections) == bars


@pytest.mark.parametrize("images", [1, 2, 5])
def test_very_few_masses_can_be_drawn(images, tmp_path):
    true, predicted = masses(n=images)
    save_figure(predicted_against_true(true, predicted), tmp_path / "masses.png")


def test_marked_masses_are_lines_in_both_panels_and_one_entry_each_in_the_legend():
    figure = predicted_against_true(*masses(), marks={"the ring": -23.4, "a pixel": -22.2})
    for axes in figure.axes:
        positions = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "-."]
        assert positions == [-23.4, -22.2]
    texts = legend_texts(figure.legends[0])
    assert texts.count("the ring") == texts.count("a pixel") == 1


def test_a_column_of_predictions_is_refused_and_not_broadcast():
    true, predicted = masses()
    with pytest.raises(ValueError, match="one shape"):
        predicted_against_true(true, predicted[:, None])


def test_roc_curves_enclose_the_area_in_their_legend():
    labels, probabilities = simulated()
    axes = roc_curves(labels, probabilities, NAMES).axes[0]
    for k, name in enumerate(NAMES):
        area = roc_auc_score(labels == k, probabilities[:, k])
        (line,) = [line for line in axes.lines if str(line.get_label()).startswith(name)]
        assert line.get_label() == f"{name}, AUC {area:.3f}"
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(area)


def test_an_absent_class_is_named_without_a_curve(tmp_path):
    labels, probabilities = simulated()
    figure = roc_curves(labels[labels != 1], probabilities[labels != 1], NAMES)
    assert "cdm: area undefined here" in legend_texts(figure.axes[0].get_legend())
    save_figure(figure, tmp_path / "roc.png")


def test_the_rows_of_the_confusion_matrix_are_true_classes():
    figure = confusion_matrix_figure([[5, 1200, 0], [0, 4, 0], [0, 0, 0]], NAMES)
    axes = figure.axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts[(1, 0)] == "1,200\n99.6%"  # x is the predicted class, y the true one
    assert texts[(0, 2)] == "0\n0.0%"  # a class without images
    assert axes.get_ylabel() == "true class"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == NAMES


def test_the_reliability_figure_shows_the_metrics():
    labels, probabilities = simulated()
    metrics = classification_metrics(labels, probabilities, NAMES)
    error = metrics["expected_calibration_error"]
    upper, lower = reliability_figure(metrics["reliability"], error).axes
    _, accuracy = drawn_points(upper)
    drawn = [value for value in metrics["reliability"]["accuracy"] if value is not None]
    assert list(accuracy) == drawn
    assert sum(bar.get_height() for bar in lower.patches) == 200
    assert f"model, calibration error {error:.3f}" in legend_texts(upper.get_legend())


def test_every_figure_has_a_title_and_names_its_axes():
    for figure in every_figure().values():
        assert figure.axes[0].get_title()
        panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
        assert all(axes.get_ylabel() for axes in panels)
        assert panels[-1].get_xlabel()
    lower = every_figure()["masses"].axes[1]
    assert lower.get_xlabel() == "true log10(axion mass / eV)"
    assert lower.get_ylabel() == "residual (dex)"


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for extension in ("png", "pdf"):
        for turn in ("first", "second"):
            for name, figure in every_figure().items():
                save_figure(figure, tmp_path / f"{turn}-{name}.{extension}")
        for first in tmp_path.glob(f"first-*.{extension}"):
            second = first.with_name(first.name.replace("first", "second"))
            assert first.read_bytes() == second.read_bytes()
            assert len(first.read_bytes()) > 5_000


def test_a_figure_that_cannot_be_written_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "roc.png"
    path.write_text("earlier")

    def fill_the_disk(figure, target, **options):
        target.write_text("half")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Figure, "savefig", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        save_figure(Figure(), path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["earlier"]


def test_an_unknown_extension_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"end in \.png or \.pdf"):
        save_figure(Figure(), tmp_path / "roc.gif")


def test_neither_pyplot_nor_tensorflow_is_imported_and_settings_do_not_change():
    program = """
import sys, tempfile, matplotlib
before = matplotlib.rcParams.copy()  # reading them one by one would import pyplot
from deeplens_tf.evaluation import report_folder
from deeplens_tf.figures import *
from deeplens_tf.probes import sklearn_probes
save_figure(roc_curves([0, 1], [[.6, .4], [.3, .7]], ["a", "b"]), tempfile.mkdtemp() + "/roc.png")
assert matplotlib.rcParams.copy() == before
print(sorted({"matplotlib.pyplot", "tensorflow", "keras"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")

"""Training curves: one panel per quantity, one colour per run, one line style per split."""

import numpy as np
import pandas as pd
import pytest

from deeplens_tf.figures import line_colours, save_figure, training_curves


def history(epochs=5, **quantities):
    return pd.DataFrame({"epoch": range(epochs)} | quantities)


def lines_of(axes):
    return [(line.get_color(), line.get_linestyle(), list(line.get_ydata())) for line in axes.lines]


def test_training_and_validation_share_a_colour_and_differ_in_style(tmp_path):
    first, second = np.arange(5.0), np.arange(5.0) * 2
    runs = {
        "rotation": history(loss=first, val_loss=first + 1, auc=first),
        "noise": history(loss=second, val_loss=second + 1),
    }
    figure = training_curves(runs)
    loss, auc = figure.axes
    assert (loss.get_ylabel(), auc.get_ylabel()) == ("loss", "AUC")
    one, two = line_colours(2)
    assert lines_of(loss) == [
        (one, "-", first.tolist()),
        (one, "--", (first + 1).tolist()),
        (two, "-", second.tolist()),
        (two, "--", (second + 1).tolist()),
    ]
    assert lines_of(auc) == [(one, "-", first.tolist())]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["rotation", "noise", "training", "validation"]
    save_figure(figure, tmp_path / "curves.png")


def test_a_quantity_of_validation_alone_has_a_panel():
    (axes,) = training_curves({"run": history(val_auc=np.arange(5.0))}).axes
    assert axes.get_ylabel() == "AUC"
    assert axes.get_xlabel() == "epoch"


def epochs_drawn(table):
    return list(training_curves({"run": table}).axes[0].lines[0].get_xdata())


def test_epochs_are_numbered_from_one_with_and_without_a_column_of_epochs():
    table = history(loss=np.ones(5))
    assert epochs_drawn(table) == [1, 2, 3, 4, 5]
    assert epochs_drawn(table.drop(columns="epoch")) == [1, 2, 3, 4, 5]
    assert epochs_drawn(table[2:]) == [3, 4, 5]


def test_the_legend_names_only_line_styles_that_are_drawn():
    for columns, words in (
        ({"loss": np.ones(5)}, ["run", "training"]),
        ({"val_loss": np.ones(5)}, ["run", "validation"]),
    ):
        (legend,) = training_curves({"run": history(**columns)}).legends
        assert [text.get_text() for text in legend.get_texts()] == words


def test_some_quantities_have_longer_names():
    table = history(mae_dex=np.ones(5), feature_std=np.ones(5), probe_loss=np.ones(5))
    labels = [axes.get_ylabel() for axes in training_curves({"run": table}).axes]
    assert labels == [
        "mean absolute error / dex",
        "spread of the features\n(feature_std)",
        "probe loss",
    ]


def test_a_single_epoch_is_visible():
    (axes,) = training_curves({"run": history(1, loss=[0.3])}).axes
    assert axes.lines[0].get_marker() == "o"


def test_every_run_has_its_own_colour():
    for count in (1, 7, 12):
        assert len(set(line_colours(count))) == count


@pytest.mark.parametrize("runs", [1, 12])
def test_the_legend_stays_inside_the_figure(runs):
    name = "contrastive-rotation-and-flips"
    figure = training_curves({f"{name}-{k}": history(loss=np.ones(5)) for k in range(runs)})
    figure.draw_without_rendering()
    legend, page = figure.legends[0].get_window_extent(), figure.bbox
    assert legend.x0 >= 0
    assert legend.x1 <= page.x1
    assert figure.axes[0].get_window_extent().height > 100


def test_the_learning_rate_is_not_drawn():
    runs = {"run": history(learning_rate=np.ones(5), val_loss=np.ones(5))}
    figure = training_curves(runs)
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["run", "validation"]


@pytest.mark.parametrize(
    "histories", [{}, {"run": history()}, {"run": history(learning_rate=np.ones(5))}]
)
def test_histories_without_a_quantity_are_refused(histories):
    with pytest.raises(ValueError, match="quantity"):
        training_curves(histories)


def test_a_quantity_measured_every_other_epoch_is_one_line():
    nothing = float("nan")
    history = pd.DataFrame({"epoch": [0, 1, 2, 3], "val_knn": [nothing, 0.5, nothing, 0.7]})
    (line,) = training_curves({"run": history}).axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), [2, 4])
    np.testing.assert_array_equal(line.get_ydata(), [0.5, 0.7])
    assert line.get_marker() == "o"

"""What is saved of a training, and when."""

import keras
import numpy as np
import pytest

from deeplens_tf.saving.keras_files import save_model
from deeplens_tf.terminal import bar_verbosity, progress_verbosity
from deeplens_tf.training.callbacks import CollapseWarning, PlateauWarning, SaveBest


class Notebook:
    """Stands in for a model: writes down how often it was saved."""

    variables = ()

    def __init__(self):
        self.saved = 0

    def save(self, path):
        self.saved += 1
        path.write_text(str(self.saved))


class Fails:
    def save(self, path):
        path.write_text("half")
        raise OSError("disk full")


@pytest.mark.parametrize(
    ("values", "epochs_saved"),
    [
        ([3.0, 2.0, 1.0], [0, 1, 2]),
        ([3.0, 4.0, 2.0, 2.0, 5.0], [0, 2]),
        ([float("nan"), 1.0, float("nan"), 0.5], [1, 3]),
        ([float("nan")] * 2, []),
    ],
)
def test_the_file_is_that_of_the_lowest_value_so_far(tmp_path, values, epochs_saved):
    model, path = Notebook(), tmp_path / "model.keras"
    saver = SaveBest(path, "val_loss")
    saver.set_model(model)
    saved = []
    for epoch, value in enumerate(values):
        before = model.saved
        saver.on_epoch_end(epoch, {"loss": -epoch, "val_loss": value})
        saved += [epoch] if model.saved > before else []
    assert saved == epochs_saved
    assert path.exists() == bool(epochs_saved)


def test_epochs_that_do_not_measure_it_are_passed_over(tmp_path):
    model = Notebook()
    saver = SaveBest(tmp_path / "model.keras", "val_loss", measured=lambda epoch: epoch % 2 == 1)
    saver.set_model(model)
    for epoch, logs in enumerate([{}, {"val_loss": 1.0}, {}, {"val_loss": 2.0}]):
        saver.on_epoch_end(epoch, logs)
    assert (model.saved, saver.best) == (1, 1.0)


def test_a_quantity_that_is_not_logged_is_no_silence(tmp_path):
    saver = SaveBest(tmp_path / "model.keras", "val_loss")
    saver.set_model(Notebook())
    with pytest.raises(KeyError, match="val_loss"):
        saver.on_epoch_end(0, {"loss": 1.0})


def test_a_save_that_fails_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "model.keras"
    save_model(Notebook(), path)
    with pytest.raises(OSError, match="disk full"):
        save_model(Fails(), path)
    assert path.read_text() == "1"


def test_a_save_leaves_nothing_but_the_file(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    save_model(model, tmp_path / "model.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize(("terminal", "verbosities"), [(True, (1, 1)), (False, (2, 0))])
def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch, terminal, verbosities):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert (progress_verbosity(), bar_verbosity()) == verbosities


def warnings_of(callback, values, capsys):
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"feature_std": value})
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_no_silence(value, capsys):
    lines = warnings_of(CollapseWarning(), [0.5, value, value, 0.001], capsys)
    diverged = "features are not finite, the training has diverged"
    assert lines == [
        f"warning: epoch 2: {diverged}: feature_std {value}",
        "warning: epoch 4: features are collapsing: feature_std 0.0010",
    ]


@pytest.mark.parametrize(("loss", "warns"), [(4.8, True), (4.4, True), (3.7, False)])
def test_alike_features_that_tell_pairs_apart_have_not_collapsed(loss, warns, capsys):
    callback = CollapseWarning(plateau=4.852)
    callback.on_epoch_end(0, {"feature_std": 0.02, "pretext_loss": loss})
    assert bool(capsys.readouterr().err) == warns


def test_a_resumed_run_does_not_warn_again(capsys):
    first, second = CollapseWarning(), CollapseWarning()
    assert len(warnings_of(first, [0.001], capsys)) == 1
    second.restore(first.state())
    assert warnings_of(second, [0.001], capsys) == []


def plateau_lines(callback, losses, capsys, begin=0):
    for epoch, loss in enumerate(losses, begin):
        callback.on_epoch_end(epoch, {"loss": loss + 1, "pretext_loss": loss})
    return capsys.readouterr().err.splitlines()


def plateau_of_128(**options):
    return PlateauWarning(4.852, 128, ["this", "that"], **options)


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        ([4.9, 4.85, 4.85, 4.85], [2]),  # once for a plateau
        ([4.85, 4.81], [2]),  # within one percent
        ([4.85, 4.80, 4.7], []),  # beyond it
        ([4.85], []),  # the first epoch begins there
        ([4.2, 5.5, 4.2, 4.85], [2, 4]),  # above it, and back on it
        ([4.85, float("nan")], []),  # which is another line's
    ],
)
def test_a_loss_that_stays_on_its_plateau_is_named_once(losses, epochs, capsys):
    lines = plateau_lines(plateau_of_128(), losses, capsys)
    assert [line.split(":")[1] for line in lines] == [f" epoch {epoch}" for epoch in epochs]


def test_the_line_says_what_the_loss_means_and_what_helps(capsys):
    assert plateau_lines(plateau_of_128(), [4.9, 4.8467], capsys) == [
        "warning: epoch 2: the loss is 4.847, and that of projections which tell no pairs of a "
        "batch of 128 apart is 4.852; what may help: this, that"
    ]


def test_a_resumed_run_does_not_name_its_plateau_again(capsys):
    first, second = plateau_of_128(), plateau_of_128()
    assert len(plateau_lines(first, [4.85, 4.85], capsys)) == 1
    second.restore(first.state())
    assert plateau_lines(second, [4.85], capsys, begin=2) == []
    begun_before_there_was_one = plateau_of_128()
    assert len(plateau_lines(begun_before_there_was_one, [4.85, 4.85], capsys, begin=2)) == 1


def test_only_the_chief_names_a_plateau(capsys):
    assert plateau_lines(plateau_of_128(is_chief=False), [4.85, 4.85], capsys) == []

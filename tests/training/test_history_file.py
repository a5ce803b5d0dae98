"""history.csv is whole at any time, and that of a checkpoint after going back to it."""

import keras
import numpy as np
import pandas as pd
import pytest

from deeplens_tf.models import WarmUpSchedule
from deeplens_tf.training.history_file import HistoryFile


def test_every_epoch_adds_a_row_of_exact_numbers(tmp_path):
    history = HistoryFile(tmp_path / "history.csv")
    history.on_epoch_end(0, {"loss": 0.1 + 0.2, "accuracy": 1 / 3})
    history.on_epoch_end(1, {"loss": 1e-300, "accuracy": float("nan")})
    assert (tmp_path / "history.csv").read_text() == (
        "epoch,accuracy,loss\n0,0.3333333333333333,0.30000000000000004\n1,nan,1e-300\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_an_epoch_without_a_validation_has_empty_fields(tmp_path):
    history = HistoryFile(tmp_path / "history.csv")
    history.on_epoch_end(0, {"loss": 1.0})
    history.on_epoch_end(1, {"loss": 0.5, "accuracy": 0.9, "val_loss": 2.0})
    history.on_epoch_end(2, {"loss": 0.25})
    assert (tmp_path / "history.csv").read_text() == (
        "epoch,accuracy,loss,val_loss\n0,,1.0,\n1,0.9,0.5,2.0\n2,,0.25,\n"
    )


def test_going_back_takes_later_rows_away(tmp_path):
    history = HistoryFile(tmp_path / "history.csv")
    history.on_epoch_end(0, {"loss": 1.0})
    state = {"rows": list(history.state()["rows"])}
    history.on_epoch_end(1, {"loss": 2.0})
    again = HistoryFile(tmp_path / "history.csv")
    again.restore(state)
    assert list(pd.read_csv(tmp_path / "history.csv")["loss"]) == [1.0]
    again.on_epoch_end(1, {"loss": 3.0})
    assert list(pd.read_csv(tmp_path / "history.csv")["loss"]) == [1.0, 3.0]


def test_at_the_beginning_there_is_none(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss\n0,1.0\n")
    HistoryFile(tmp_path / "history.csv").restore({"rows": []})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def model():
    """A model that warms up over four of its steps."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(WarmUpSchedule(0.8, 4)), "mse")
    return model


def test_the_learning_rate_is_that_of_the_epochs_last_step(model, tmp_path):
    history = HistoryFile(tmp_path / "history.csv")
    model.fit(np.ones((6, 2)), np.ones(6), 2, epochs=2, verbose=0, callbacks=[history])
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table) == ["epoch", "learning_rate", "loss"]
    np.testing.assert_allclose(table["learning_rate"], [0.6, 0.8], rtol=1e-6)  # steps 3 and 6


def test_rows_of_earlier_versions_have_no_learning_rate(model, tmp_path):
    history = HistoryFile(tmp_path / "history.csv")
    history.restore({"rows": [{"epoch": 0, "loss": 1.0}]})
    assert (tmp_path / "history.csv").read_text() == "epoch,loss\n0,1.0\n"
    history.set_model(model)
    history.on_epoch_end(1, {"loss": 0.5})
    table = pd.read_csv(tmp_path / "history.csv")
    np.testing.assert_allclose(table["learning_rate"], [np.nan, 0.2], rtol=1e-6)
    assert list(table["loss"]) == [1.0, 0.5]

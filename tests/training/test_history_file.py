"""history.csv is whole at any time, and that of a checkpoint after going back to it."""

import pandas as pd

from deeplens_tf.training.history_file import HistoryFile


def test_every_epoch_adds_a_row_of_exact_numbers(tmp_path):
    history = HistoryFile(tmp_path / "history.csv")
    history.on_epoch_end(0, {"loss": 0.1 + 0.2, "accuracy": 1 / 3})
    history.on_epoch_end(1, {"loss": 1e-300, "accuracy": float("nan")})
    assert (tmp_path / "history.csv").read_text() == (
        "epoch,accuracy,loss\n0,0.3333333333333333,0.30000000000000004\n1,nan,1e-300\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


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

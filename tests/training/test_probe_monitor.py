"""Probing while a network is trained: what is measured when, and what a checkpoint keeps."""

import keras
import numpy as np
import pandas as pd
import pytest

from deeplens_tf.training.probe_monitor import ProbeMonitor


class Network:
    """A network that is its one weight."""

    def __init__(self, weight):
        self.weight = weight

    def get_weights(self):
        return [self.weight]

    def set_weights(self, weights):
        (self.weight,) = weights


class Model:
    def __init__(self):
        self.encoder = Network(0.0)


def history(path, every=2, is_chief=True):
    callback = ProbeMonitor(
        path, every, Network(-1.0), ["auc"], lambda network: {"auc": network.weight}, is_chief
    )
    callback.set_model(Model())
    return callback


def train(callback, epochs):
    for epoch in epochs:
        callback.model.encoder.weight = float(epoch)
        callback.on_epoch_end(epoch, {"loss": 1.0})


def test_every_few_epochs_the_trained_network_stands_beside_the_untrained_one(tmp_path):
    train(history(tmp_path / "history.csv"), range(4))
    rows = pd.read_csv(tmp_path / "history.csv")
    assert list(rows) == ["epoch", "loss", "val_auc", "val_auc_control"]
    np.testing.assert_array_equal(rows["val_auc"], [np.nan, 1.0, np.nan, 3.0])
    np.testing.assert_array_equal(rows["val_auc_control"], [np.nan, -1.0, np.nan, -1.0])


@pytest.mark.parametrize("stopped_after", [1, 2, 3])
def test_a_resumed_run_has_the_control_and_the_file_of_an_uninterrupted_one(
    tmp_path, stopped_after
):
    train(history(tmp_path / "whole.csv"), range(4))
    path = tmp_path / "history.csv"
    first = history(path)
    train(first, range(stopped_after))
    second = history(path)
    second.restore(first.state())
    train(second, range(stopped_after, 4))
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_worker_that_is_not_the_chief_probes_nothing(tmp_path):
    callback = history(tmp_path / "history.csv", every=1, is_chief=False)
    callback.scores = lambda network: pytest.fail("probed")
    train(callback, range(2))
    rows = pd.read_csv(tmp_path / "history.csv")
    assert np.isnan(rows[["val_auc", "val_auc_control"]].to_numpy()).all()


def test_the_network_that_is_trained_is_left_as_it_is(tmp_path):
    trained, copy = (keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]) for _ in "ab")
    callback = ProbeMonitor(tmp_path / "history.csv", 1, copy, ["auc"], lambda network: {"auc": 1})
    model = Model()
    model.encoder = trained
    callback.set_model(model)
    before = [weight.copy() for weight in trained.get_weights()]
    callback.on_epoch_end(0, {})
    for weight, other, kept in zip(trained.get_weights(), copy.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
        np.testing.assert_array_equal(other, weight)

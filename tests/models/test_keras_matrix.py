"""Plain Keras trains every method alike: in any precision, compiled or not, on two devices."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from deeplens_tf.models import ContrastiveModel
from deeplens_tf.models.heads import linear_probe, projection_head
from tests.distribution.processes import run_program
from tests.distribution.test_strategy import part
from tests.models.plain_training import BATCH, COMBINATIONS, FACTORS, STEPS, pairs
from tests.models.pretexts import CLASSES, make_batch
from tests.models.tiny import assert_same_values, dense_encoder

FLOAT32 = 2e-6  # of weights that move by 1e-2: sums in another order
# Of the whole way of the weights, eight steps long. A number has 8 bits in bfloat16 and 11 in
# float16, and the gradient is a difference of such numbers. A loss that is counted twice is 1 off.
MIXED = {"mixed_bfloat16": 0.15, "mixed_float16": 0.05}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What `plain_training` leaves."""
    folder = tmp_path_factory.mktemp("matrix")
    run_program("tests.models.plain_training", folder, map(str, range(len(COMBINATIONS))))
    return folder


def test_every_two_settings_meet():
    """All but those that `possible` leaves out: replicas with XLA, several steps, or eager."""
    met = set().union(*map(pairs, COMBINATIONS))
    each = [[(i, value) for value in factor] for i, factor in enumerate(FACTORS)]
    every = {
        (a, b) for i, first in enumerate(each) for a in first for c in each[i + 1 :] for b in c
    }
    assert every - met == {((2, "xla"), (4, 2)), ((3, 3), (4, 2))}


def way(arrays):
    """How far all trained weights have come, in one row."""
    begun = part(arrays, "begun")
    trained = {
        path: value - begun[path]
        for path, value in part(arrays, "weights").items()
        if not path.endswith(("updates", "mean", "variance"))
    }
    return np.concatenate([value.ravel() for value in trained.values()]).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(COMBINATIONS)), ids=map(str, COMBINATIONS))
def test_the_weights_are_those_of_the_reference(folder, number):
    combination = COMBINATIONS[number]
    found, expected = (
        dict(np.load(folder / f"{name}.npz")) for name in (number, combination.method)
    )
    assert part(found, "weights").keys() == part(expected, "weights").keys()
    metrics, scores = (
        {name: value.item() for name, value in part(arrays, "metrics").items()}
        for arrays in (found, expected)
    )
    assert np.abs(way(expected)).max() > 5e-3
    if combination.precision == "float32":
        for path, value in part(expected, "weights").items():
            np.testing.assert_allclose(
                part(found, "weights")[path], value, rtol=0, atol=FLOAT32, err_msg=path
            )
        assert metrics == pytest.approx(scores, rel=1e-5, abs=1e-6)
        return
    apart = np.linalg.norm(way(found) - way(expected)) / np.linalg.norm(way(expected))
    assert 0 < apart < MIXED[combination.precision]
    # A rounding may change the class of one image.
    assert metrics == pytest.approx(scores, rel=0.02, abs=1 / (BATCH * STEPS) + 1e-6)


def compiled(rate=0.1, **options):
    keras.utils.set_random_seed(0)
    model = ContrastiveModel(dense_encoder(), projection_head(6), probe=linear_probe(CLASSES))
    model.compile(keras.optimizers.SGD(rate), **{"run_eagerly": True, **options})
    return model


def fit(model, *callbacks, epochs=3, rows=None):
    data = tf.data.Dataset.from_tensor_slices(make_batch(16) if rows is None else rows).batch(8)
    return model.fit(data, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks))


def test_xla_without_a_graph_is_switched_off_with_keras_warning():
    with pytest.warns(UserWarning, match="`run_eagerly` is True, then `jit_compile`"):
        model = compiled(jit_compile=True)
    assert not model.jit_compile
    fit(model)


def test_model_checkpoint_keeps_a_model_that_loads_and_continues(tmp_path):
    path, model = tmp_path / "best.keras", compiled(0.01)
    kept = keras.callbacks.ModelCheckpoint(
        path, monitor="pretext_loss", mode="min", save_best_only=True
    )
    losses = fit(model, kept).history["pretext_loss"]
    assert np.argmin(losses) == len(losses) - 1
    loaded = keras.saving.load_model(path)
    for each in (model, loaded):
        fit(each, epochs=1)
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


def test_early_stopping_ends_and_restores():
    model, once = compiled(), compiled()
    never = keras.callbacks.EarlyStopping(
        monitor="loss", min_delta=1e6, restore_best_weights=True, patience=1
    )
    assert len(fit(model, never).history["loss"]) == 2
    fit(once, epochs=1)
    assert_same_values(once.encoder, model.encoder)


def test_reduce_lr_on_plateau_lowers_both_rates():
    model = compiled(0.5)
    fit(model, keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e6))
    for optimizer in (model.optimizer, model.optimizer.probe_optimizer):
        assert float(optimizer.learning_rate) == 0.5**3  # after each epoch but the first


def test_a_scheduled_rate_is_the_one_that_steps_are_made_with():
    first, second = compiled(0.5), compiled(0.125)
    fit(first, keras.callbacks.LearningRateScheduler(lambda epoch: 0.125))
    fit(second)
    assert_same_values(first.encoder, second.encoder)
    assert_same_values(first.probe, second.probe)


def test_terminate_on_nan_ends_at_the_first_one():
    rows = make_batch(16)
    rows["view_1"][8:] = np.nan
    history = fit(compiled(), keras.callbacks.TerminateOnNaN(), rows=rows).history
    assert np.isnan(history["loss"]).tolist() == [True]


def test_csv_logger_writes_every_metric(tmp_path):
    history = fit(compiled(), keras.callbacks.CSVLogger(tmp_path / "log.csv")).history
    table = pd.read_csv(tmp_path / "log.csv")
    assert {name for name in table if not name.startswith("val_")} == {"epoch", *history}
    for name, values in history.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-6)


def test_backup_and_restore_ends_as_an_uninterrupted_training(tmp_path):
    whole, stopped = compiled(), compiled()
    fit(whole)

    class StopInThird(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(stopped, keras.callbacks.BackupAndRestore(tmp_path), StopInThird())
    resumed = compiled()
    assert len(fit(resumed, keras.callbacks.BackupAndRestore(tmp_path)).history["loss"]) == 1
    assert_same_values(whole, resumed)

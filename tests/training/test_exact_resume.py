"""A training that is stopped anywhere and taken up again ends bit for bit as if it never was.

On a small network with everything that has a state: dropout, batch normalisation, AdamW with a
schedule, a metric that sums over an epoch, the best model so far; with the scale of values and the
views of a survey.
"""

import signal
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.config import CheckpointConfig, load_config
from deeplens_tf.data.batches import (
    labelled_batches,
)
from deeplens_tf.data.image_data import Share
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.streams import BEGINNING
from deeplens_tf.data.view_making import build_augment
from deeplens_tf.errors import RequestError, Stopped
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.training import fitting
from deeplens_tf.training.callbacks import SaveBest
from deeplens_tf.training.fitting import TrainingPlan, fit
from deeplens_tf.training.model_arrays import arrays_of
from deeplens_tf.training.optimizers import build_optimizer
from tests.conftest import row_by_row

EPOCHS, STEPS, BATCH = 2, 3, 15


class Crash(Exception):
    """Stands in for a SIGKILL: nothing is saved when it comes."""


class Interrupt(keras.callbacks.Callback):
    """Does something after a step of the training or of the validation, counted over the run."""

    def __init__(self, act, step=None, validation=None):
        super().__init__()
        self.act, self.left = act, {"train": step, "test": validation}

    def _count(self, kind):
        if self.left[kind] is not None:
            self.left[kind] -= 1
            if self.left[kind] == 0:
                self.act()

    def on_train_batch_end(self, batch, logs=None):
        self._count("train")

    def on_test_batch_end(self, batch, logs=None):
        self._count("test")

    def state(self):
        return {}

    def restore(self, state):
        pass


class Spoiler(Interrupt):
    """Keeps the logs of the step, which its action may change for the callbacks after it."""

    def on_train_batch_end(self, batch, logs=None):
        self.logs = logs
        super().on_train_batch_end(batch, logs)


def crash():
    raise Crash


def terminate():
    signal.raise_signal(signal.SIGTERM)


pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module", autouse=True)
def soon_measured():
    """See `row_by_row`: the steps are made without a graph."""
    with row_by_row():
        yield


@pytest.fixture(scope="module")
def config(blobs_words):
    survey = ["data.interval=percentile", "data.stretch=asinh"]
    survey += ["augment.views=[flip, jitter, background_noise]"]
    return load_config("finetune", [*blobs_words, *survey, f"train.epochs={EPOCHS}"])


@pytest.fixture(scope="module")
def data(config):
    return open_data(config)


def build_course(config, data):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Flatten(),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(3, activation="softmax"),
        ]
    )
    auc = keras.metrics.AUC(multi_label=True, num_labels=3, name="auc")
    optimizer = build_optimizer(config.optimizer, STEPS, config.schedule_epochs)
    model.compile(
        optimizer, "categorical_crossentropy", metrics=["accuracy", auc], run_eagerly=True
    )

    def batches(start):
        return stream(data, config, "train", start)

    return TrainingPlan(model, data, batches, stream(data, config, "validation"), STEPS)


_STREAMS = {}


def stream(data, config, split, start=BEGINNING):
    """Return a stream, which is made once: that takes longer than to train on it."""
    key = data.folder, split, config.train.epochs, start
    if key not in _STREAMS:
        if split == "train":
            options = BATCH, build_augment(config.augment), config.train.epochs
        else:
            options = (6,)
        _STREAMS[key] = labelled_batches(data, split, target, *options, start=start)
    return _STREAMS[key]


def target(batch):
    return tf.one_hot(batch["label"], 3)


def train(folder, config, data, *callbacks, **checkpoint):
    """Train, or go on; return every variable, the history and the best model's file."""
    settings = CheckpointConfig(
        **({"every_steps": None, "every_minutes": None, "keep": 2} | checkpoint)
    )
    config = replace(config, checkpoint=settings)
    run, course = Run(folder), build_course(config, data)
    folder.mkdir(exist_ok=True)
    fit(course, config, run, [*callbacks, SaveBest(run.model, "val_loss")], [run.model])
    best = keras.saving.load_model(run.model, compile=False)
    return (
        arrays_of(course.model, "model", "optimizer"),
        run.history.read_text(),
        best.get_weights(),
    )


@pytest.fixture(scope="module")
def uninterrupted(config, data, tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "whole", config, data)


def assert_same(found, expected):
    assert found[1] == expected[1]
    assert found[0].keys() == expected[0].keys()
    for key, array in expected[0].items():
        np.testing.assert_array_equal(found[0][key], array, err_msg=key)
    for array, other in zip(found[2], expected[2], strict=True):
        np.testing.assert_array_equal(array, other)


def test_saving_changes_nothing(config, data, tmp_path, uninterrupted):
    assert_same(train(tmp_path / "run", config, data, every_steps=1), uninterrupted)
    assert_same(train(tmp_path / "again", config, data, every_minutes=1e-6), uninterrupted)


# Within an epoch and at the end of one; test_being_stopped_after_every_single_step has them all.
@pytest.mark.parametrize("step", [3, 4])
def test_a_request_to_stop_after_a_step(config, data, tmp_path, uninterrupted, step):
    with pytest.raises(Stopped, match=f"step-{step:09d}; "):
        train(tmp_path / "run", config, data, Interrupt(terminate, step=step))
    assert_same(train(tmp_path / "run", config, data), uninterrupted)


@pytest.mark.parametrize("step", [1, 5])
def test_a_request_to_stop_in_the_validation(config, data, tmp_path, uninterrupted, step):
    with pytest.raises(Stopped):
        train(tmp_path / "run", config, data, Interrupt(terminate, validation=step))
    assert_same(train(tmp_path / "run", config, data), uninterrupted)


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_a_crash_goes_back_to_the_last_checkpoint(config, data, tmp_path, uninterrupted, step):
    with pytest.raises(Crash):
        train(tmp_path / "run", config, data, Interrupt(crash, step=step), every_steps=2)
    assert_same(train(tmp_path / "run", config, data, every_steps=2), uninterrupted)


def test_being_stopped_after_every_single_step(config, data, tmp_path, uninterrupted):
    stops = 0
    while True:
        try:
            found = train(tmp_path / "run", config, data, Interrupt(terminate, step=1))
        except Stopped:
            stops += 1
        else:
            break
    assert stops == EPOCHS * STEPS
    assert_same(found, uninterrupted)


def test_a_best_model_that_was_lost_or_is_of_a_later_step_comes_back(
    config, data, tmp_path, uninterrupted
):
    with pytest.raises(Crash):
        train(tmp_path / "run", config, data, Interrupt(crash, step=5), every_steps=1)
    (tmp_path / "run" / "model.keras").write_bytes(b"of another time")
    assert_same(train(tmp_path / "run", config, data), uninterrupted)


def test_more_epochs_keep_the_first_schedule(config, data, tmp_path):
    train(tmp_path / "run", config, data)
    longer = replace(
        config,
        train=replace(config.train, epochs=3),
        optimizer=replace(config.optimizer, schedule_epochs=EPOCHS),
    )
    once = train(tmp_path / "once", longer, data)
    assert_same(train(tmp_path / "run", longer, data), once)
    assert len(once[1].splitlines()) == 4


@pytest.mark.parametrize("place", ["weights", "optimizer", "loss"])
def test_a_run_that_diverges_within_an_epoch_keeps_what_was_before(
    config, data, tmp_path, uninterrupted, place
):
    def poison():
        model = watch.model
        if place == "loss":  # of a step that float16 skips
            watch.logs["loss"] = np.nan
        else:
            variables = model.weights if place == "weights" else model.optimizer.variables
            variable = variables[-1]
            variable.assign(np.full(variable.shape, np.nan))

    watch = Spoiler(poison, step=5)
    with pytest.raises(RequestError, match=r"epoch 2, step 2: .*the training has diverged"):
        train(tmp_path / "run", config, data, watch, every_steps=1)
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert kept == ["step-000000003", "step-000000004"]
    for name in kept:
        arrays = np.load(tmp_path / "run" / "checkpoints" / name / "arrays.npz")
        assert all(np.isfinite(arrays[key]).all() for key in arrays.files)
    assert_same(train(tmp_path / "run", config, data, every_steps=1), uninterrupted)


def test_weights_that_diverge_in_the_last_step_reach_neither_checkpoint_nor_product(
    config, data, tmp_path
):
    def poison():
        watch.model.weights[0].assign(np.full(watch.model.weights[0].shape, np.inf))

    watch = Interrupt(poison, step=EPOCHS * STEPS)
    whole = replace(build_course(config, data), validation=None)
    config = replace(config, checkpoint=CheckpointConfig(None, None, 2))
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    best = SaveBest(run.model, "loss")
    with pytest.raises(RequestError, match=r"epoch 2: model/.* is not finite"):
        fit(whole, config, run, [watch, best], [run.model])
    weights = keras.saving.load_model(run.model, compile=False).get_weights()
    assert all(np.isfinite(array).all() for array in weights)
    assert not list(run.checkpoints.glob("step-*"))


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_resumed_run_counts_its_epochs_as_the_whole_run_does(
    config, data, tmp_path, capsys, step
):
    with pytest.raises(Stopped):
        train(tmp_path / "run", config, data, Interrupt(terminate, step=step))
    capsys.readouterr()
    train(tmp_path / "run", config, data)
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Epoch")]
    # Step 3 ends an epoch, of which only the validation is left.
    assert shown == {1: ["Epoch 1/2", "Epoch 2/2"], 3: ["Epoch 2/2"], 4: ["Epoch 2/2"]}[step]


def test_a_callback_that_the_run_began_without_begins_anew(config, data, tmp_path, uninterrupted):
    with pytest.raises(Stopped):
        train(tmp_path / "run", config, data, Interrupt(terminate, step=4))
    assert_same(train(tmp_path / "run", config, data, Spoiler(terminate)), uninterrupted)


def test_a_damaged_newest_checkpoint_costs_only_time(config, data, tmp_path, uninterrupted, capsys):
    with pytest.raises(Crash):
        train(tmp_path / "run", config, data, Interrupt(crash, step=5), every_steps=2)
    newest = tmp_path / "run" / "checkpoints" / "step-000000004"
    (newest / "arrays.npz").write_bytes((newest / "arrays.npz").read_bytes()[:1000])
    found = train(tmp_path / "run", config, data)
    assert f"{newest}: damaged, arrays.npz does not match its checksum" in capsys.readouterr().err
    assert_same(found, uninterrupted)


def test_the_checkpoint_of_another_model_is_refused_by_the_variables_that_differ(
    config, data, tmp_path
):
    train(tmp_path / "run", config, data)
    course = build_course(config, data)
    model = keras.Sequential(
        [keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.compile("adam", "mse")
    with pytest.raises(
        RequestError,
        match=r"another model: model/.*/kernel float32\(256, 8\) instead of float32\(256, 3\)",
    ):
        fit(replace(course, model=model), config, Run(tmp_path / "run"))


@pytest.mark.parametrize(
    ("workers", "error", "looked"),
    [
        (2, tf.errors.UnavailableError, False),
        (2, tf.errors.DataLossError, True),
        (1, tf.errors.CancelledError, True),
    ],
)
def test_a_lost_worker_is_no_reason_to_look_at_the_images(
    data, tmp_path, monkeypatch, workers, error, looked
):
    seen = []
    monkeypatch.setattr(fitting, "verify_shards", lambda folder, manifest: seen.append(folder))
    shared = replace(data, share=Share(0, workers))
    with pytest.raises(error), fitting._outside_faults(shared, Run(tmp_path)):
        raise error(None, None, "gone")
    assert seen == ([data.folder] if looked else [])

"""The head first, then everything: each phase alone, the switch, and resuming around it."""

import keras
import numpy as np
import pandas as pd
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError
from deeplens_tf.models import DownstreamModel, SelectiveAdamW, SelectiveSGD
from deeplens_tf.models.heads import classification_head
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.saving.keras_files import load_model
from deeplens_tf.training import finetuning
from deeplens_tf.training.callbacks import HeadFirst
from deeplens_tf.training.finetuning import finetune
from deeplens_tf.training.optimizers import build_optimizer
from tests.models.tiny import SIZES, assert_same_values, tiny_images, tiny_original, values_of
from tests.training.breaking_off import Stop, break_off_in_step

NAMES = ("axion", "cdm", "no_sub")
STEPS, BATCH = 3, 6


class Remember(keras.callbacks.Callback):
    """Keeps all values at the beginning and after each epoch."""

    def on_train_begin(self, logs=None):
        self.values = [values_of(self.model)]

    def on_epoch_end(self, epoch, logs=None):
        self.values.append(values_of(self.model))


def trained(epochs, *callbacks, freeze=False, **compiling):
    keras.utils.set_random_seed(0)
    encoder = tiny_original(dropout=0.3, depth=1)
    model = DownstreamModel(encoder, classification_head(3), NAMES, freeze)
    compiling = {"run_eagerly": True, "jit_compile": False, **compiling}
    model.compile(SelectiveAdamW(0.01, 0.1), "sparse_categorical_crossentropy", **compiling)
    model.optimizer.build(model.trainable_variables)
    memory = Remember()
    model.fit(
        tiny_images(STEPS * BATCH),
        np.arange(STEPS * BATCH) % 3,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[memory, *callbacks],
    )
    return model, memory.values


def changed(before, after):
    return {path for path, value in before.items() if (after[path] != value).any()}


def of_encoder(model):
    return {variable.path for variable in model.encoder.variables}


@pytest.mark.parametrize(
    "compiling",
    [
        {},
        pytest.param({"run_eagerly": False}, marks=pytest.mark.slow),
        pytest.param({"run_eagerly": False, "jit_compile": True}, marks=pytest.mark.slow),
    ],
    ids=["eager", "graph", "xla"],
)
def test_the_encoder_is_bit_equal_until_the_switch_and_trained_after_it(compiling):
    model, (begun, first, second, third) = trained(3, HeadFirst(2), **compiling)
    for before, after in ((begun, first), (first, second)):
        moved = changed(before, after)
        assert moved == {variable.path for variable in model.head.variables}
    moved = changed(second, third)
    assert {variable.path for variable in model.trainable_variables} <= moved
    # The statistics of the BatchNorms move only then.
    assert any("moving_mean" in path for path in moved & of_encoder(model))


def test_the_first_phase_is_the_training_of_a_frozen_encoder():
    first, frozen = trained(2, HeadFirst(2))[0], trained(2, freeze=True)[0]
    for ours, theirs in zip(first.head.variables, frozen.head.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_without_such_epochs_the_training_is_that_of_before():
    plain, zero = trained(1)[0], trained(1, HeadFirst(0))[0]
    assert_same_values(plain, zero)


def test_a_file_of_the_first_phase_is_of_a_model_that_is_not_frozen(tmp_path):
    model = trained(1, HeadFirst(1))[0]
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) > len(model.trainable_variables) == 2
    assert not loaded.freeze


@pytest.fixture
def configured(tmp_path, monkeypatch, blobs_folder):
    """Configurations of fine-tunings of the original's network: dropout and BatchNorms."""
    small = {**VARIANTS["vit_b32_original"], **SIZES, "depth": 1}
    monkeypatch.setitem(VARIANTS, "vit_b32_original", small)
    words = ("finetune.encoder=none", "encoder.name=vit_b32_original", "data.image_size=16")
    words += ("train.batch_size=16", "train.epochs=2", "train.jit_compile=false")
    words += (f"data.cache={tmp_path / 'cache'}", "checkpoint.every_steps=1")

    def configure(*more):
        return load_config("finetune", [*words, *more], str(blobs_folder))

    return configure


HEAD_FIRST = ("finetune.head_epochs=1", "finetune.encoder_rate=0.5", "finetune.layer_decay=0.8")


@pytest.mark.slow
@pytest.mark.usefixtures("eager_steps", "no_pictures")
def test_a_run_resumes_exactly_before_at_and_after_the_switch(configured, tmp_path, monkeypatch):
    config = configured(*HEAD_FIRST)
    whole = finetune(config, "it", str(tmp_path / "whole"))
    weights = load_model(whole.model).get_weights()
    for step in (2, 4, 5):  # of three steps an epoch
        folder = str(tmp_path / f"run-{step}")
        with monkeypatch.context() as patch, pytest.raises(Stop):
            break_off_in_step(patch, HeadFirst, step)
            finetune(config, "it", folder)
        run = finetune(config, "it", folder)
        assert run.history.read_bytes() == whole.history.read_bytes()
        for ours, theirs in zip(load_model(run.model).get_weights(), weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert len(pd.read_csv(whole.history)) == 2


@pytest.mark.usefixtures("eager_steps", "no_pictures")
def test_neutral_settings_change_nothing(configured, tmp_path, monkeypatch):
    """The same optimiser, callbacks and weights as without the settings."""
    seen = {}

    def fit(plan, config, run, recorders, products, phases):
        seen.update(optimizer=plan.model.optimizer, phases=phases)
        raise Stop

    monkeypatch.setattr(finetuning, "fit", fit)
    with pytest.raises(Stop):
        finetune(configured(), "it", str(tmp_path / "run"))
    assert seen["phases"] == []
    assert seen["optimizer"].rate_factors is seen["optimizer"].first_steps is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("freeze=true", "head_epochs=1"),
            r"finetune\.head_epochs must be 0 with finetune\.freeze",
        ),
        (("freeze=true", "encoder_rate=0.1"), r"encoder_rate must be 1 with .*, not 0\.1"),
        (("freeze=true", "layer_decay=0.5"), r"layer_decay must be 1 with finetune\.freeze"),
        (("head_epochs=2",), r"head_epochs must be below train\.epochs, 2, not 2.*freeze=true"),
    ],
)
def test_settings_without_effect_are_refused_before_the_data_is_prepared(
    configured, tmp_path, words, line
):
    config = configured(*(f"finetune.{word}" for word in words))
    with pytest.raises(RequestError, match=line):
        finetune(config, "it", str(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", SelectiveAdamW), ("adamw", SelectiveAdamW), ("sgd", SelectiveSGD)]
)
def test_each_optimiser_has_the_rates(name, kind):
    words = [f"optimizer.name={name}", "optimizer.weight_decay=0"]
    config = load_config("defaults", words).optimizer
    optimizer = build_optimizer(config, 3, 5, rate_factors=[1.0, 0.5])
    assert type(optimizer) is kind
    assert list(optimizer.rate_factors) == [1.0, 0.5]

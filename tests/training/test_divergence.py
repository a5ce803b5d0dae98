"""A training that has diverged says so and leaves no product."""

import keras
import numpy as np
import pandas as pd
import pytest

from deeplens_tf import pretrain
from deeplens_tf.errors import RequestError
from deeplens_tf.training.callbacks import SaveBest
from deeplens_tf.training.checkpointer import SAVED_ALWAYS
from deeplens_tf.training.divergence import StopWhenDiverged, require_finite
from deeplens_tf.training.model_arrays import arrays_of


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
@pytest.mark.parametrize("name", ["loss", "val_loss"])
def test_a_loss_that_is_no_number_ends_it(name, value):
    with pytest.raises(RequestError, match=rf"epoch 3: {name} is .*smaller optimizer\.learning"):
        StopWhenDiverged().on_epoch_end(2, {"loss": 1.0, name: value})


def test_finite_losses_pass():
    StopWhenDiverged().on_epoch_end(0, {"loss": 1e30, "val_loss": -3.0, "auc": float("nan")})
    StopWhenDiverged().on_epoch_end(0, {"loss": 1.0})


@pytest.mark.parametrize(
    ("where", "named"), [("weights", "model/.*kernel"), ("optimizer", "optimizer/.*momentum")]
)
def test_weights_and_optimiser_that_are_not_finite_end_it_though_the_loss_is(where, named):
    model = trained()
    variables = model.weights if where == "weights" else model.optimizer.variables
    variable = next(each for each in variables if len(each.shape) == 2)
    variable.assign(np.full(variable.shape, np.inf))
    with pytest.raises(RequestError, match=rf"epoch 1: {named}.* is not finite, the training has"):
        require_finite("epoch 1", {"loss": 1.0}, arrays_of(model, *SAVED_ALWAYS))


def test_a_best_model_whose_weights_are_not_finite_replaces_no_earlier_one(tmp_path):
    saver = SaveBest(tmp_path / "model.keras", "loss")
    saver.set_model(trained())
    saver.on_epoch_end(0, {"loss": 2.0})
    before = saver.path.read_bytes()
    saver.model.weights[0].assign(np.full((2, 1), np.nan))
    with pytest.raises(RequestError, match=r"epoch 2: model/.* is not finite"):
        saver.on_epoch_end(1, {"loss": 1.0})
    assert saver.path.read_bytes() == before


def test_a_step_that_is_skipped_in_float16_is_no_divergence():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1), initial_scale=1e38)
    model = trained(scaled, images=1e10 * np.ones((4, 2)))  # the gradient overflows
    assert float(scaled.dynamic_scale) < 1e38
    require_finite("epoch 1", model.get_metrics_result(), arrays_of(model, *SAVED_ALWAYS))


def trained(optimizer="adam", images=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="layer")])
    model.compile(optimizer, "mae", run_eagerly=True)
    model.train_on_batch(np.ones((4, 2)) if images is None else images, np.ones((4, 1)))
    return model


@pytest.mark.slow
def test_a_run_that_diverges_leaves_no_product_and_no_checkpoint(
    blobs_words, tmp_path, eager_steps, no_pictures
):
    settings = ("train.epochs=2", "train.batch_size=15", "train.jit_compile=false")
    wild = ("optimizer.learning_rate=1e30", "optimizer.clip_norm=null", "optimizer.name=sgd")
    words = (*blobs_words, *settings, *wild, "encoder.options.depth=1")
    overrides = [part for word in words for part in ("--set", word)]
    run = tmp_path / "run"
    with pytest.raises(RequestError, match="the training has diverged"):
        pretrain.main([*overrides, "--run-dir", str(run)])
    assert not list(run.glob("*.keras"))
    assert not list(run.glob("checkpoints/step-*"))
    assert len(pd.read_csv(run / "history.csv")) == 1

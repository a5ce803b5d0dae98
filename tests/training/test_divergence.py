"""A training that has diverged says so and leaves no product."""

import numpy as np
import pandas as pd
import pytest

from deeplens_tf import pretrain
from deeplens_tf.errors import RequestError
from deeplens_tf.training.divergence import StopWhenDiverged


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
@pytest.mark.parametrize("name", ["loss", "val_loss"])
def test_a_loss_that_is_no_number_ends_it(name, value):
    with pytest.raises(RequestError, match=rf"epoch 3: {name} is .*smaller optimizer\.learning"):
        StopWhenDiverged().on_epoch_end(2, {"loss": 1.0, name: value})


def test_finite_losses_pass():
    StopWhenDiverged().on_epoch_end(0, {"loss": 1e30, "val_loss": -3.0, "auc": float("nan")})
    StopWhenDiverged().on_epoch_end(0, {"loss": 1.0})


@pytest.mark.slow
def test_a_run_that_diverges_leaves_no_product_and_no_checkpoint(blobs_words, tmp_path):
    settings = ("train.epochs=2", "train.batch_size=15", "train.jit_compile=false")
    wild = ("optimizer.learning_rate=1e30", "optimizer.clip_norm=null", "optimizer.name=sgd")
    overrides = [part for word in (*blobs_words, *settings, *wild) for part in ("--set", word)]
    run = tmp_path / "run"
    with pytest.raises(RequestError, match="the training has diverged"):
        pretrain.main([*overrides, "--run-dir", str(run)])
    assert not list(run.glob("*.keras"))
    assert not list(run.glob("checkpoints/step-*"))
    assert len(pd.read_csv(run / "history.csv")) == 1

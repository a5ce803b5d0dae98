"""Validation after every n-th epoch: which rows have its scores, and that nothing else changes."""

import numpy as np
import pandas as pd
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.saving.keras_files import load_model
from deeplens_tf.training import callbacks
from deeplens_tf.training.finetuning import finetune
from tests.training.breaking_off import Stop, break_off_in_step

EPOCHS, EVERY = 3, 2


@pytest.fixture
def tuned(tmp_path, monkeypatch, blobs_folder):
    """Fine-tune a network of one layer from random weights; return the run."""
    small = dict(patch_size=4, width=16, depth=0, heads=2, mlp_width=32)
    monkeypatch.setitem(VARIANTS, "vit_nano", small)
    words = ("finetune.encoder=none", "encoder.name=vit_nano", "data.image_size=16")
    words += ("train.batch_size=16", f"train.epochs={EPOCHS}", "train.jit_compile=false")
    words += (f"data.cache={tmp_path / 'cache'}", "checkpoint.every_steps=1")

    def tune(folder, every):
        words_of_run = [*words, f"train.validate_every_epochs={every}"]
        config = load_config("finetune", words_of_run, str(blobs_folder))
        return finetune(config, "it", str(tmp_path / folder))

    return tune


@pytest.mark.usefixtures("eager_steps", "no_pictures")
def test_scores_are_those_of_the_same_epochs_of_a_run_that_validates_each(tuned):
    every, some = (pd.read_csv(tuned(name, n).history) for name, n in (("a", 1), ("b", EVERY)))
    measured = np.array([False, True, True])  # the last epoch always
    validated = [name for name in every if name.startswith("val_")]
    assert (some[validated].notna().all(axis=1) == measured).all()
    assert some[validated].isna().all(axis=1).tolist() == (~measured).tolist()
    pd.testing.assert_frame_equal(some[measured], every[measured])
    trained = [name for name in every if name not in validated]
    pd.testing.assert_frame_equal(some[trained], every[trained])


@pytest.mark.slow
@pytest.mark.usefixtures("eager_steps", "no_pictures")
def test_a_run_broken_off_around_a_validation_resumes_exactly(tuned, monkeypatch):
    whole = tuned("whole", EVERY)
    weights = load_model(whole.model).get_weights()
    for step in (6, 7):  # of three steps an epoch
        folder = f"run-{step}"
        with monkeypatch.context() as patch, pytest.raises(Stop):
            break_off_in_step(patch, callbacks.ReturnMemory, step)
            tuned(folder, EVERY)
        run = tuned(folder, EVERY)
        assert run.history.read_bytes() == whole.history.read_bytes()
        for ours, theirs in zip(load_model(run.model).get_weights(), weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)

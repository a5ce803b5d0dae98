"""Pretraining end to end: each method from a folder of images to an encoder that loads."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from deeplens_tf import load_encoder
from deeplens_tf.config import load_config
from deeplens_tf.data.batches import pretraining_batches
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.view_making import build_augment
from deeplens_tf.distribution.strategy import ALONE
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation import probe_report, scored_images
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.probes.frozen_features import untrained_encoder
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.training import pretraining
from deeplens_tf.training.callbacks import CollapseWarning
from deeplens_tf.training.fitting import started
from deeplens_tf.training.pretraining import pretrain
from deeplens_tf.training.probe_monitor import ProbeMonitor
from tests.models.pretexts import METHODS
from tests.training.breaking_off import Stop, break_off_in_step

OWN_METRICS = {"inpainting": {"masked_mse", "masked_ssim"}}
SHARED_METRICS = {"loss", "pretext_loss", "feature_std", "probe_loss", "probe_accuracy"}


@pytest.fixture
def configured(blobs_folder, tmp_path, monkeypatch):
    """Configurations of runs that take seconds, on images of 16 pixels a side."""
    small = dict(patch_size=4, width=16, depth=0, heads=2, mlp_width=32)
    monkeypatch.setitem(VARIANTS, "vit_nano", small)

    def configure(name, *words):
        return load_config(
            name,
            [
                "data.image_size=16",
                f"data.cache={tmp_path / 'cache'}",
                "pretrain.projection_width=8",
                "pretrain.inpainting.decoder_depth=1",
                "train.epochs=2",
                "train.batch_size=16",
                "train.jit_compile=false",
                *words,
            ],
            str(blobs_folder),
        )

    return configure


# test_stages.py has the contrastive, and a graph; test_keras_matrix.py the graph of every method.
@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures", "eager_steps")
@pytest.mark.parametrize("method", METHODS[1:])
def test_two_epochs_leave_an_encoder_that_loads(method, configured, tmp_path):
    run = pretrain(configured(method), method, str(tmp_path / "run"))
    history = pd.read_csv(run.history)
    metrics = SHARED_METRICS | OWN_METRICS.get(method, set())
    columns = metrics | {f"val_{name}" for name in metrics}
    assert set(history) == {"epoch", "learning_rate"} | columns
    assert len(history) == 2
    assert np.isfinite(history.to_numpy()).all()
    features = load_encoder(run.folder)(np.zeros((3, 16, 16, 1), "float32"))
    assert features.shape == (3, 16)
    assert (run.figures / "inpainting.png").is_file() == (method == "inpainting")


def test_inpainting_refuses_a_network_without_patches(configured, tmp_path):
    config = configured("inpainting", "encoder.name=resnet50", "data.image_size=32")
    with pytest.raises(
        RequestError,
        match=r"encoder\.name must be a VisionTransformer for .* Received: encoder\.name=resnet50",
    ):
        pretrain(config, "inpainting", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_masked_views_refuse_a_network_without_patches(configured, tmp_path):
    words = ("encoder.name=resnet50", "data.image_size=32", "pretrain.keep_tokens=0.5")
    with pytest.raises(RequestError, match=r"pretrain\.keep_tokens must be 1\.0 .*a ResNet50"):
        pretrain(configured("byol", *words), "byol", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures", "eager_steps")
def test_masked_views_are_named_and_resume_exactly(configured, tmp_path, monkeypatch, capsys):
    config = configured("byol", "pretrain.keep_tokens=0.3", "checkpoint.every_steps=1")
    whole = pretrain(config, "byol", str(tmp_path / "whole"))
    assert "views: 5 of 16 patch tokens each" in capsys.readouterr().out
    with monkeypatch.context() as patch, pytest.raises(Stop):
        break_off_in_step(patch, CollapseWarning, 5)  # in the second epoch
        pretrain(config, "byol", str(tmp_path / "run"))
    run = pretrain(config, "byol", str(tmp_path / "run"))
    assert run.history.read_bytes() == whole.history.read_bytes()
    for ours, theirs in zip(
        load_encoder(run.folder).weights, load_encoder(whole.folder).weights, strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures", "eager_steps")
def test_the_statistics_of_a_normalised_projector_resume_exactly(configured, tmp_path, monkeypatch):
    config = configured("contrastive", "checkpoint.every_steps=1")
    assert config.pretrain.contrastive.projector == "batch_norm"
    whole = pretrain(config, "it", str(tmp_path / "whole"))
    with monkeypatch.context() as patch, pytest.raises(Stop):
        break_off_in_step(patch, CollapseWarning, 5)  # in the second epoch
        pretrain(config, "it", str(tmp_path / "run"))
    run = pretrain(config, "it", str(tmp_path / "run"))
    assert run.history.read_bytes() == whole.history.read_bytes()
    assert pd.read_csv(run.history)["val_pretext_loss"].notna().all()


@pytest.mark.usefixtures("no_pictures", "eager_steps")
def test_a_contrastive_run_on_its_plateau_says_so(configured, tmp_path, monkeypatch, capsys):
    words = ("pretrain.contrastive.projector=plain", "optimizer.learning_rate=1e-9")
    words += ("pretrain.temperature=100",)  # no image is told apart
    pretrain(configured("contrastive", *words), "it", str(tmp_path / "run"))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "the loss is" in line]
    assert line.startswith("warning: epoch 2: the loss is 2.7")
    assert "of a batch of 16 apart is 2.773; " in line
    assert line.endswith(
        "what may help: pretrain.contrastive.projector=batch_norm, a pretrain.temperature above "
        "100, a trained encoder to start from (pretrain.encoder)"
    )


def break_off(patch, epochs):
    """Let trainings break off at the end of so many epochs, before that is saved."""
    write = ProbeMonitor.on_epoch_end

    def write_and_stop(self, epoch, logs=None):
        write(self, epoch, logs)
        if epoch + 1 == epochs:
            raise Stop

    patch.setattr(ProbeMonitor, "on_epoch_end", write_and_stop)


PROBED = ("pretrain.probe_every_epochs=1", "checkpoint.every_steps=1")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures", "eager_steps")
def test_probes_stand_beside_the_control_and_change_nothing_else(configured, tmp_path, monkeypatch):
    config = configured("contrastive", *PROBED)
    run = pretrain(config, "it", str(tmp_path / "run"))
    plain = pretrain(configured("contrastive"), "it", str(tmp_path / "plain"))
    history, others = pd.read_csv(run.history), pd.read_csv(plain.history)
    columns = [
        f"val_{kind}_macro_auc{whose}" for kind in ("logistic", "knn") for whose in ("", "_control")
    ]
    assert set(history) - set(others) == set(columns)
    pd.testing.assert_frame_equal(history[list(others)], others)
    assert history[columns].notna().all(axis=None)

    # As the command line has it, on the validation split; the last epoch's encoder is the run's.
    monkeypatch.setattr(scored_images, "split_to_score", lambda data: "validation")
    for kind, name in (("linear", "logistic"), ("knn", "knn")):
        metrics = probe_report.evaluate_probe(run, config, "classification", kind)[1]
        column = f"val_{name}_macro_auc"
        assert history[column].iloc[-1] == pytest.approx(metrics["macro_auc"], abs=1e-6)
        control = pytest.approx(metrics["control"]["macro_auc"], abs=1e-6)
        assert list(history[f"{column}_control"]) == [control, control]

    with monkeypatch.context() as patch, pytest.raises(Stop):
        break_off(patch, 2)
        pretrain(config, "it", str(tmp_path / "again"))
    again = pretrain(config, "it", str(tmp_path / "again"))
    assert again.history.read_bytes() == run.history.read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_the_control_is_the_network_that_the_run_began_with(configured, method):
    config = configured(method)
    with started(config):
        data = open_data(config)
        begun = pretraining._model(config, data, 3, ALONE).encoder
    for ours, theirs in zip(
        untrained_encoder(config, data.image_shape).get_weights(), begun.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_without_labels_nothing_is_probed_and_that_is_said(configured, blobs_folder, capsys):
    config = configured("contrastive", *PROBED)
    data = replace(config.data, path=str(blobs_folder / "axion"))
    config = replace(config, data=data)
    course = SimpleNamespace(data=open_data(config), distribution=ALONE)
    assert pretraining._probes(course, config, Run(blobs_folder)) == []
    assert capsys.readouterr().out.count("probes: none") == 1


def orders(data, config, batch_size, epochs, seed=0):
    keras.utils.set_random_seed(seed)  # global state must not matter
    augment = build_augment(config.augment)
    batches = pretraining_batches(data, "train", augment, batch_size, epochs, patches=16)
    return list(batches.as_numpy_iterator())


def by_image(batches):
    return {
        image.tobytes(): order
        for batch in batches
        for image, order in zip(batch["image"], batch["patch_order"], strict=True)
    }


def test_the_masks_follow_from_seed_epoch_and_image_alone(configured):
    config = configured("inpainting")
    data = open_data(config)
    batches = orders(data, config, 16, None)
    assert set(batches[0]) == {"image", "label", "view_1", "patch_order"}
    assert batches[0]["patch_order"].dtype == np.int32
    masks = by_image(batches)
    # Epoch 0 of training is shuffled, other batches and another global seed: the same masks.
    shuffled = by_image(orders(data, config, 6, 1, seed=1))
    shared = masks.keys() & shuffled.keys()
    assert len(shared) > 40
    assert all((masks[image] == shuffled[image]).all() for image in shared)


def test_the_masks_are_permutations_that_differ_between_images_and_epochs(configured):
    config = configured("inpainting")
    batches = orders(open_data(config), config, 54, 2)
    first, second = (batch["patch_order"] for batch in batches)
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(epoch, axis=1), np.tile(np.arange(16), (54, 1)))
        assert len({order.tobytes() for order in epoch}) == 54
    assert not {order.tobytes() for order in first} & {order.tobytes() for order in second}
    # Each patch is dropped as often as any other, within chance.
    assert np.abs(np.argsort(first, axis=1).mean(axis=0) - 7.5).max() < 5 * 4.6 / 54**0.5


def test_another_seed_gives_other_masks(configured):
    masks = [
        by_image(orders(open_data(config), config, 16, None))
        for config in (configured("inpainting"), configured("inpainting", "seed=1"))
    ]
    shared = masks[0].keys() & masks[1].keys()
    assert len(shared) > 20
    assert not any((masks[0][image] == masks[1][image]).all() for image in shared)

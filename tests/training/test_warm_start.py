"""A pretraining that starts from an encoder: its weights, what is refused, and what is recorded."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from deeplens_tf import load_encoder
from deeplens_tf.config import load_config
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.distribution.strategy import ALONE
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.origin_text import method_of, origin_seeds, origin_settings
from deeplens_tf.models import DownstreamModel, build_encoder
from deeplens_tf.models.heads import classification_head
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.runs.provenance import features_origin
from deeplens_tf.runs.seen_images import read_images
from deeplens_tf.training import pretraining
from deeplens_tf.training.callbacks import CollapseWarning
from deeplens_tf.training.finetuning import finetune
from deeplens_tf.training.fitting import started
from deeplens_tf.training.pretraining import pretrain
from tests.conftest import write_blobs
from tests.models.tiny import SIZES, randomise
from tests.training.breaking_off import Stop, break_off_in_step

QUICK = ("train.batch_size=8", "train.jit_compile=false", "data.image_size=16")
SHAPE = (16, 16, 1)


@pytest.fixture
def configured(tmp_path, monkeypatch, blobs_folder):
    monkeypatch.setitem(VARIANTS, "vit_nano", SIZES)
    monkeypatch.chdir(tmp_path)

    def configure(name, *words, data=blobs_folder):
        return load_config(name, [*QUICK, f"data.cache={tmp_path / 'cache'}", *words], str(data))

    return configure


def initial_model(config):
    with started(config):
        file = pretraining.initial_file(config, None)
        return pretraining._model(config, open_data(config), 3, ALONE, file)


def random_encoder(**options):
    return randomise(build_encoder("vit_nano", SHAPE, **options))


def test_it_has_the_files_weights_and_trains_them_all(configured):
    encoder = random_encoder()
    frozen = DownstreamModel(encoder, classification_head(3), ("a", "b", "c"), freeze=True)
    frozen.save("model.keras")
    config = configured("contrastive", "pretrain.encoder=model.keras")
    model = initial_model(config)
    for ours, theirs in zip(model.encoder.weights, encoder.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)
    assert len(model.encoder.trainable_variables) == len(encoder.weights)
    assert model.encoder.preprocessing == open_data(config).preprocessing
    other = initial_model(configured("contrastive"))
    assert (other.encoder.weights[0].numpy() != encoder.weights[0].numpy()).any()


def test_it_has_the_precision_of_the_run(configured):
    random_encoder().save("encoder.keras")
    words = ("pretrain.encoder=encoder.keras", "train.precision=mixed_bfloat16")
    policies = {
        layer.dtype_policy.name
        for layer in initial_model(configured("byol", *words)).encoder._flatten_layers()
    }
    assert "mixed_bfloat16" in policies
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "no/encoder.keras: no such file or run folder"),
        (("encoder.pooling=class_token",), "pooling average instead of class_token"),
        (("data.image_size=24",), r"image_shape \(16, 16, 1\) instead of \(24, 24, 1\)"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(configured, words, line):
    random_encoder().save("encoder.keras")
    path = "encoder.keras" if words else "no/encoder.keras"
    with pytest.raises(RequestError, match=line):
        pretrain(configured("byol", f"pretrain.encoder={path}", *words), "it", "run")
    assert not Path("run").exists()


@pytest.mark.usefixtures("eager_steps", "no_pictures")
def test_an_encoder_of_other_images_is_refused(configured):
    words = ("train.epochs=1", "data.fit=crop")
    run = pretrain(configured("byol", *words), "it", "cropped")
    with pytest.raises(RequestError, match=r"cropped/encoder\.keras was trained on.*fit=crop"):
        pretrain(configured("byol", f"pretrain.encoder={run.folder}"), "it", "run")


@pytest.mark.slow
@pytest.mark.usefixtures("eager_steps", "no_pictures")
def test_it_is_recorded_and_resumes_without_the_file_it_started_from(
    configured, tmp_path, monkeypatch
):
    survey = write_blobs(tmp_path / "survey", 8, seed=3)
    config = configured("byol", "train.epochs=1", "seed=3", data=survey)
    first = pretrain(config, "it", "first")
    seen = read_images(first)
    words = ("pretrain.encoder=first", "train.epochs=2", "checkpoint.every_steps=1")
    config = configured("contrastive", *words)
    whole = pretrain(config, "it", "whole")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        break_off_in_step(patch, CollapseWarning, 9)
        pretrain(config, "it", "run")
    shutil.rmtree("first")
    run = pretrain(config, "it", "run")
    assert run.history.read_bytes() == whole.history.read_bytes()
    for ours, theirs in zip(
        load_encoder(run.folder).weights, load_encoder(whole.folder).weights, strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)

    own = open_data(config).index("train")
    rows = set(read_images(run).itertuples(index=False, name=None))
    expected = {("pretrained", *row) for row in zip(own["file"], own["content"], strict=True)}
    assert rows == expected | set(seen.itertuples(index=False, name=None))
    origin = features_origin(run)
    assert (origin["method"], origin["before"]["method"]) == ("contrastive", "byol")
    assert (method_of(origin), origin_seeds(origin)) == ("contrastive", [0, 3])
    assert origin_settings(origin)["encoder's encoder's train.epochs"] == "1"

    other = randomise(load_encoder("run"))
    other.save(run.initial_encoder)
    with pytest.raises(RequestError, match="started with another encoder than"):
        pretrain(configured("contrastive", *words[:1], "train.epochs=3", *words[2:]), "it", "run")


@pytest.mark.slow
@pytest.mark.usefixtures("eager_steps", "no_pictures")
def test_labels_that_affected_the_encoder_stay_known(configured):
    words = ("finetune.encoder=none", "train.epochs=1")
    tuned = finetune(configured("finetune", *words), "it", "tuned")
    config = configured("contrastive", "pretrain.encoder=tuned", "train.epochs=1")
    run = pretrain(config, "it", "run")
    assert method_of(features_origin(run)) == "contrastive + supervised"
    trained = read_images(run)["use"].value_counts()
    assert trained["trained"] == (read_images(tuned)["use"] == "trained").sum() > 0

"""Training records the images that its weights depend on, before it begins."""

import pandas as pd
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.runs.seen_images import read_images
from deeplens_tf.training import finetuning, pretraining
from deeplens_tf.training.finetuning import finetune
from deeplens_tf.training.pretraining import pretrain
from tests.conftest import write_blobs
from tests.models.tiny import SIZES

QUICK = ("train.epochs=1", "train.batch_size=8", "train.jit_compile=false", "data.image_size=16")


@pytest.fixture
def configured(tmp_path, monkeypatch, eager_steps, no_pictures):
    monkeypatch.setitem(VARIANTS, "vit_nano", SIZES)
    monkeypatch.chdir(tmp_path)

    def configure(name, data, *words):
        cache = f"data.cache={tmp_path / 'cache'}"
        return load_config(name, [*QUICK, cache, *words], str(data))

    return configure


def rows_of(data, split, use):
    index = data.index(split)
    return {
        (use, file, content) for file, content in zip(index["file"], index["content"], strict=True)
    }


def recorded(run):
    return set(read_images(run).itertuples(index=False, name=None))


class Stop(Exception):
    pass


def interrupted(*args, **kwargs):
    raise Stop


@pytest.mark.slow
def test_a_fine_tuning_knows_its_images_and_those_of_its_encoder(
    configured, tmp_path, monkeypatch, blobs_folder
):
    first = write_blobs(tmp_path / "survey", 12, seed=3)
    config = configured("contrastive", first)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(pretraining, "fit", interrupted)
        pretrain(config, "it", "pretrained")
    before = recorded(Run(tmp_path / "pretrained"))
    pretrained = pretrain(config, "it", "pretrained")
    assert recorded(pretrained) == before == rows_of(open_data(config), "train", "pretrained")

    words = ("finetune.encoder=pretrained", "finetune.fraction=0.5")
    config = configured("finetune", blobs_folder, *words)
    run = finetune(config, "it", "tuned")
    data, images = open_data(config), recorded(run)
    trained = {row for row in images if row[0] == "trained"}
    assert trained < rows_of(data, "train", "trained")
    assert len(trained) == run.facts()["labels_used"]
    own = trained | rows_of(data, "validation", "validation")
    assert images == own | before

    # A fine-tuning of the fine-tuned encoder has the labels of both.
    config = configured("finetune", first, "finetune.encoder=tuned/model.keras")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(finetuning, "fit", interrupted)
        finetune(config, "it", "again")
    both = recorded(Run(tmp_path / "again"))
    data = open_data(config)
    assert (
        both
        == rows_of(data, "train", "trained") | rows_of(data, "validation", "validation") | images
    )

    _, metrics = evaluate_run(run, configured("finetune", first))
    assert metrics["overlap_checked"]
    assert metrics["n_seen_unlabelled"] == len(before)
    assert metrics["n_test"] == 36
    predictions = pd.read_csv(next((run.folder / "evaluation").glob("external-*/predictions.csv")))
    assert len(predictions) == 36

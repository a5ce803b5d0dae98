"""An encoder's interval goes from stage to stage, and to images of another brightness."""

import numpy as np
import pandas as pd
import pytest

import deeplens_tf as dl
from deeplens_tf.config import load_config
from deeplens_tf.data.folder_settings import with_folder_settings
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.inference.predicting import predict
from deeplens_tf.training.finetuning import finetune
from deeplens_tf.training.pretraining import pretrain
from tests.conftest import eagerly, without_pictures, write_blobs

WORDS = (
    *("data.image_size=16", "train.epochs=1", "train.batch_size=8", "train.jit_compile=false"),
    *("optimizer.warmup_epochs=0", "encoder.options.depth=1", "data.scale_over=data"),
)


def configured(name, root, folder, *words):
    words = (*WORDS, f"data.cache={root}/cache", *words)
    return with_folder_settings(load_config(name, words, str(folder)))


def test_every_stage_scales_by_the_interval_of_the_encoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_blobs(tmp_path / "lenses", 8, 0)
    write_blobs(tmp_path / "fainter", 8, 1)
    for path in (tmp_path / "fainter").rglob("*.npy"):
        np.save(path, 0.25 * np.load(path))
    with eagerly(), without_pictures():
        first = pretrain(
            configured("contrastive", tmp_path, "lenses"), "contrastive", str(tmp_path / "first")
        )
        interval = dl.load_encoder(first.folder).preprocessing.scaling
        assert interval.limits is not None
        onto = configured("finetune", tmp_path, "fainter", f"finetune.encoder={first.folder}")
        tuned = finetune(onto, "finetune", str(tmp_path / "tuned"))
        further = configured(
            "contrastive", tmp_path, "fainter", f"pretrain.encoder={first.encoder}"
        )
        second = pretrain(further, "contrastive", str(tmp_path / "second"))
        alone = configured("finetune", tmp_path, "fainter", "finetune.encoder=none")
        supervised = finetune(alone, "finetune", str(tmp_path / "alone"))
        report, _ = evaluate_run(tuned)
    model = dl.load_model(tuned.model)
    assert model.preprocessing.scaling == interval
    assert dl.load_encoder(second.folder).preprocessing.scaling == interval
    own = dl.load_model(supervised.model).preprocessing.scaling
    np.testing.assert_array_less(own.limits[0][1], interval.limits[0][1])
    scored = pd.read_csv(report / "predictions.csv").set_index("file")
    found = pd.read_csv(predict(tuned.folder, tmp_path / "fainter").table).set_index("file")
    column = next(name for name in scored.columns if name.startswith("p_"))
    np.testing.assert_allclose(found.loc[scored.index, column], scored[column], rtol=1e-5)
    name = scored.index[0]
    raw = np.load(tmp_path / "fainter" / name, allow_pickle=False)
    alone = model.predict_images(raw[None])
    assert np.ravel(alone)[0] == pytest.approx(scored[scored.columns[2]].iloc[0], rel=1e-4)

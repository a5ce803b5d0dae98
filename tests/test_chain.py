"""Every method on simulated lenses, its encoder under both heads, evaluated and compared."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from deeplens_tf import compare, evaluate, finetune, pretrain, simulate
from deeplens_tf.models.vit import VARIANTS

METHODS = ("contrastive", "byol", "twin", "simsiam", "inpainting")
QUICK = (
    "data.image_size=16",
    "train.epochs=1",
    "train.batch_size=6",
    "train.jit_compile=false",
)
SETTINGS = [part for word in QUICK for part in ("--set", word)]


@pytest.fixture(scope="module")
def lenses(tmp_path_factory):
    """Simulated lenses, 10 of each class and 5 to test on, in an otherwise empty folder."""
    folder = tmp_path_factory.mktemp("chain")
    words = ["--preset", "model_ii", "--out", str(folder / "lenses"), "--jobs", "1"]
    simulate.main([*words, "--count", "10"])
    simulate.main([*words, "--count", "5", "--split", "test", "--seed", "1"])
    return folder / "lenses"


@pytest.fixture
def briefly(monkeypatch, eager_steps):
    """A network of one layer, without graphs."""
    small = dict(patch_size=4, width=16, depth=0, heads=2, mlp_width=32)
    monkeypatch.setitem(VARIANTS, "vit_nano", small)


@pytest.mark.slow
@pytest.mark.usefixtures("briefly", "no_pictures")
@pytest.mark.parametrize("method", METHODS)
def test_a_method_goes_through_to_a_head(method, lenses, monkeypatch):
    monkeypatch.chdir(lenses.parent)
    data = ["--data", str(lenses), *SETTINGS]
    pretrain.main(["--config", method, *data, "--run-dir", method])
    evaluate.main(["--run", method, "--probe", "linear"])
    # What a head makes of an encoder does not depend on how that was pretrained.
    heads = (
        {"classification": 15, "regression": 5} if method == METHODS[0] else {"classification": 15}
    )
    for head, images in heads.items():
        run = f"{method}-{head}"
        # No --data: the encoder's own is taken.
        finetune.main(["--head", head, "--encoder", method, *SETTINGS, "--run-dir", run])
        evaluate.main(["--run", run])
        predictions = pd.read_csv(f"{run}/evaluation/test/predictions.csv")
        assert len(predictions) == predictions["file"].nunique() == images
    compare.main([method, f"{method}-classification", "--out", f"{method}-table"])
    table = pd.read_csv(f"{method}-table/comparison.csv")
    assert sorted(table["method"]) == sorted([method, method, "untrained control"])


@pytest.mark.slow
@pytest.mark.usefixtures("briefly")
def test_regression_takes_the_newest_encoder_when_told_nothing(lenses, monkeypatch, capsys):
    monkeypatch.chdir(lenses.parent)
    pretrain.main(["--data", str(lenses), *SETTINGS])
    finetune.main(["--head", "regression", *SETTINGS])
    said = capsys.readouterr().out
    assert "of the newest pretraining run" in said
    assert "9 training images have a mass; skipped: 9 of cdm, 9 of no_sub" in said
    evaluate.main([])
    (report,) = lenses.parent.glob("runs/finetune-*/evaluation/test/metrics.json")
    metrics = json.loads(report.read_text())
    assert metrics["n_test"] == 5
    assert np.isfinite([metrics["mae_dex"], metrics["r2"]]).all()


@pytest.mark.slow
@pytest.mark.usefixtures("briefly")
@pytest.mark.skipif("DEEPLENS_SAMPLE" not in os.environ, reason="DEEPLENS_SAMPLE names no folder")
def test_published_images_go_through_with_the_batches_of_the_configurations(
    tmp_path, monkeypatch, capsys
):
    """The published format, its pickled pairs too: 60 images a class, no test folder."""
    monkeypatch.chdir(tmp_path)
    sample = f"{os.environ['DEEPLENS_SAMPLE']}/Model_II"
    once = ["--set", "train.epochs=1", "--set", "train.jit_compile=false"]
    pretrain.main(["--config", "contrastive", "--data", sample, *once])
    finetune.main(["--head", "classification", *once])
    evaluate.main([])
    assert "scoring the validation split" in capsys.readouterr().out
    (folder,) = tmp_path.glob("runs/finetune-*/evaluation/validation")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["split"], metrics["n_test"]) == ("validation", 18)
    predictions = pd.read_csv(folder / "predictions.csv")
    assert predictions["file"].nunique() == len(predictions) == 18
    assert set(predictions["label"].value_counts()) == {6}

"""Pretraining on pairs of one object: what the log says, exact resuming, what is refused."""

import numpy as np
import pandas as pd
import pytest
import yaml

from deeplens_tf import load_encoder
from deeplens_tf.config import CONFIGS, load_config
from deeplens_tf.data.batches import pair_count
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.errors import RequestError
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.option_use import PRETRAIN, load_stage_config
from deeplens_tf.runs.identity import result_settings
from deeplens_tf.training import pretraining
from deeplens_tf.training.callbacks import CollapseWarning
from deeplens_tf.training.pretraining import pretrain
from tests.data.object_folders import make_objects
from tests.models.pretexts import METHODS
from tests.training.breaking_off import Stop, break_off_in_step

pytestmark = pytest.mark.usefixtures("no_pictures", "eager_steps")
OBJECT = "pretrain.positives=object"


@pytest.fixture
def folder(tmp_path):
    make_objects(tmp_path / "d")
    return tmp_path / "d"


@pytest.fixture
def configured(folder, tmp_path, monkeypatch):
    """Configurations of runs that take seconds, on images of 16 pixels a side."""
    small = dict(patch_size=4, width=16, depth=0, heads=2, mlp_width=32)
    monkeypatch.setitem(VARIANTS, "vit_nano", small)

    def configure(name, *words, data=folder):
        words = [
            *("data.image_size=16", f"data.cache={tmp_path / 'cache'}", "train.epochs=2"),
            *("pretrain.projection_width=8", "train.batch_size=6", "train.jit_compile=false"),
            *("data.validation_fraction=0.3", *words),
        ]
        return load_config(name, words, str(data))

    return configure


def weights(run):
    return [variable.numpy() for variable in load_encoder(run.folder).weights]


def assert_same_run(run, other):
    assert run.history.read_bytes() == other.history.read_bytes()
    for ours, theirs in zip(weights(run), weights(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_configurations_say_what_they_make_the_views_of():
    positives = {
        path.stem: load_config(path.stem).pretrain.positives for path in CONFIGS.glob("*.yaml")
    }
    own = {"contrastive", "survey", "real_lenses"}
    assert {name for name, value in positives.items() if value == "object"} == own
    for path in CONFIGS.glob("original_*.yaml"):
        pretrains = "pretrain.py" in path.read_text() or "deeplens_tf.pretrain" in path.read_text()
        stated = yaml.safe_load(path.read_text()).get("pretrain", {}).get("positives")
        assert stated == ("image" if pretrains else None)


def test_a_run_of_a_version_without_the_key_has_views_of_one_image(tmp_path):
    values = yaml.safe_load((CONFIGS / "defaults.yaml").read_text())
    del values["pretrain"]["positives"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    assert load_config(str(tmp_path / "config.yaml")).pretrain.positives == "image"


def test_runs_that_differ_in_it_are_not_compared_as_one(configured):
    one, other = (result_settings(configured("byol", *w), "pretrain") for w in ((), (OBJECT,)))
    assert {key for key in one if one[key] != other[key]} == {"pretrain.positives"}


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name != "inpainting"])
def test_every_method_of_two_views_trains_on_pairs(method, configured, tmp_path, capsys):
    config = configured(method, OBJECT, "train.epochs=1")
    data = open_data(config)
    sizes = data.objects("train").sizes
    run = pretrain(config, method, str(tmp_path / "run"))
    out = capsys.readouterr().out
    counts = [f"{(sizes == size).sum()} of {size}" for size in (1, 3, 4)]
    (line,) = [line for line in out.splitlines() if line.startswith("positives: ")]
    assert line.startswith(f"positives: {(sizes == 2).sum()} objects of 2 images, ")
    assert all(count in line for count in counts)
    history = pd.read_csv(run.history)
    assert np.isfinite(history.to_numpy()).all()
    assert "val_loss" in history


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_a_run_that_is_stopped_within_an_epoch_resumes_exactly(
    in_memory, configured, tmp_path, monkeypatch
):
    words = (OBJECT, f"data.in_memory={in_memory}", "pretrain.keep_tokens=0.5")
    words += ("train.batch_size=3",)
    steps = pair_count(open_data(configured("contrastive", *words)), "train", "object") // 3
    assert steps > 3
    config = configured("contrastive", *words, f"checkpoint.every_steps={steps + 1}")
    whole = pretrain(config, "it", str(tmp_path / "whole"))
    with monkeypatch.context() as patch, pytest.raises(Stop):
        break_off_in_step(patch, CollapseWarning, steps + 2)  # in the second epoch
        pretrain(config, "it", str(tmp_path / "run"))
    assert_same_run(pretrain(config, "it", str(tmp_path / "run")), whole)


@pytest.mark.slow
def test_without_a_table_contrastive_is_what_it_was_and_says_so(
    configured, blobs_folder, capsys, tmp_path
):
    runs = {}
    for positives in ("object", "image"):
        words = (f"pretrain.positives={positives}", "train.epochs=1", "train.batch_size=16")
        config = configured("contrastive", *words, data=blobs_folder)
        runs[positives] = pretrain(config, "it", str(tmp_path / positives))
        line = f"positives: {blobs_folder} has no objects.csv: two views of each image"
        assert (line in capsys.readouterr().out) == (positives == "object")
    assert_same_run(*runs.values())


def test_one_view_of_an_image_cannot_be_of_two(configured, tmp_path):
    config = configured("inpainting", OBJECT)
    with pytest.raises(RequestError) as caught:
        pretrain(config, "inpainting", str(tmp_path / "run"))
    assert str(caught.value) == (
        "pretrain.positives must be image for pretrain.method=inpainting, which makes one view of "
        "an image. Received: pretrain.positives=object"
    )
    assert not (tmp_path / "run").exists()
    for stage in ("finetune", "evaluate --probe", "prepare"):
        with pytest.raises(RequestError, match=r"pretrain\.positives: .* does not use it"):
            load_stage_config(stage, "defaults", [OBJECT])
    assert load_stage_config(PRETRAIN, "defaults", [OBJECT]).pretrain.positives == "object"


def test_a_batch_is_of_objects(configured, tmp_path):
    config = configured("contrastive", "train.batch_size=64")
    count = pair_count(open_data(config), "train", "object")
    with pytest.raises(RequestError, match=f"larger than the {count} training objects"):
        pretrain(config, "it", str(tmp_path / "run"))


def test_a_catalogue_without_objects_is_named(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    names = [f"{i}.npy" for i in range(8)]
    for i, name in enumerate(names):
        np.save(tmp_path / "d" / name, np.random.default_rng(i).random((16, 16)))
    for columns, line in (
        ("", "catalog.csv has no column object: two views of each image"),
        (",object", "4 objects of 2 images"),
    ):
        rows = [f"{name},{columns and i // 2}" for i, name in enumerate(names)]
        text = "\n".join([f"file{columns or ',other'}", *rows])
        (tmp_path / "catalog.csv").write_text(text + "\n")
        words = [f"data.catalog={tmp_path}/catalog.csv", f"data.cache={tmp_path}/cache"]
        words += ["data.image_size=16", "data.validation_fraction=0"]
        config = load_config("contrastive", words, str(tmp_path / "d"))
        pretraining._report_objects(open_data(config), config)
        assert f"positives: {line}" in capsys.readouterr().out

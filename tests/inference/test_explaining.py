"""Explanations of a folder: which images, which maps, what is refused."""

import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest

import deeplens_tf as dl
from deeplens_tf import explain as stage
from deeplens_tf import prepare
from deeplens_tf.config import load_config
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference.explaining import explain, spread
from deeplens_tf.probes.frozen_features import untrained_encoder
from deeplens_tf.runs.new_run import create_run
from deeplens_tf.runs.run_folder import Run
from tests.conftest import without_pictures, write_blobs
from tests.evaluation.runs import break_weights, finetuned

WORDS = ["data.image_size=16", "encoder.patch_size=4"]
COVER = {"patch": 8, "stride": 8}
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images, a pretraining run, a classifier and a regression, with random weights."""
    root = tmp_path_factory.mktemp("explain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_blobs(root / "lenses", 3, seed=0)
        write_blobs(root / "survey", 4, seed=1)
        config = load_config("contrastive", [*WORDS, "seed=3"], "lenses")
        data = open_folder("lenses", image_size=16)
        keras.utils.set_random_seed(11)
        sizes = {"patch_size": 4, "depth": 2, "width": 12, "heads": 2, "mlp_width": 12}
        encoder = dl.models.VisionTransformer(data.image_shape, **sizes)
        encoder.build()
        run = create_run("pretrain", "it", config, str(root / "run"), {})
        dl.save_encoder(encoder, run.encoder, data.preprocessing)
        finetuned(root / "classifier", load_config("finetune", WORDS[:1], "lenses"))
    return root


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    with without_pictures():
        yield place


def arrays(path):
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def prepared(network, files):
    how = network.preprocessing
    return how.apply([np.load(file) for file in files])


def test_the_chosen_files_are_spread_evenly():
    assert spread(12, 4) == [0, 4, 7, 11]
    assert spread(12, 12) == spread(12, 40) == list(range(12))
    assert spread(5, 1) == [0]
    assert spread(0, 3) == []
    assert all(len(set(spread(101, count))) == count for count in range(1, 101))


def test_rollout_of_an_encoder_and_of_its_control(here):
    found = explain("run", "survey", "trained", method="rollout", count=4)
    paths = sorted(here.glob("survey/*/*"))
    files = [path.relative_to(here / "survey").as_posix() for path in paths]
    chosen = [files[i] for i in (0, 4, 7, 11)]
    assert found.images == tuple(chosen)
    got = arrays(found.file)
    assert got["file"].tolist() == chosen
    encoder = dl.load_encoder("run")
    images = prepared(encoder, [here / "survey" / file for file in chosen])
    np.testing.assert_array_equal(got["image"], images)
    expected = dl.inference.attention_rollout(encoder, images)
    np.testing.assert_array_equal(got["map"], expected.pixels)
    np.testing.assert_array_equal(got["grid"], expected.grid)
    assert "predicted" not in got
    config = load_config("contrastive", [*WORDS, "seed=3"], "lenses")
    untrained = untrained_encoder(config, (16, 16, 1))
    control = arrays(explain("run", "survey", method="rollout", count=4, control=True).file)
    np.testing.assert_array_equal(
        control["map"], dl.inference.attention_rollout(untrained, images).pixels
    )
    assert json.loads(str(control["about"]))["control"] is True


def test_occlusion_of_a_classifier_says_what_it_predicts(here):
    found = explain("classifier", "survey", "c", count=2, **COVER, fill="minimum")
    got, model = arrays(found.file), dl.load_model("classifier")
    outputs = model.predict(got["image"], verbose=0)
    assert got["predicted"].tolist() == [model.class_names[k] for k in outputs.argmax(axis=1)]
    np.testing.assert_allclose(got["probability"], outputs.max(axis=1), rtol=1e-6)
    maps = dl.inference.occlusion_maps(model, got["image"], **COVER, fill="minimum")
    np.testing.assert_array_equal(got["map"], maps.pixels)
    about = json.loads(str(got["about"]))
    assert (about["patch"], about["stride"], about["fill"]) == (8, 8, "minimum")
    assert about["measure"] == "fall of the probability of the predicted class under the cover"
    rollout = arrays(explain("classifier", "survey", "r", method="rollout", count=2).file)
    expected = dl.inference.attention_rollout(model.encoder, got["image"]).pixels
    np.testing.assert_array_equal(rollout["map"], expected)


@pytest.mark.slow
def test_a_prepared_folder_gives_images_of_all_its_splits(here):
    words = ("--set", "data.image_size=16", "--set", "data.validation_fraction=0.25")
    prepare.main(["survey", "--out", "shards", *words])
    data = open_folder("shards", bands=None)
    files = [file for split in ("train", "validation") for file in data.index(split)["file"]]
    found = explain("run", "shards", "s", count=3, method="rollout")
    assert found.images == tuple(files[i] for i in (0, 6, 11))
    got = arrays(found.file)["image"]
    images = prepared(dl.load_encoder("run"), [here / "survey" / file for file in found.images])
    np.testing.assert_allclose(got, images, atol=1e-6)


def test_a_chosen_file_that_cannot_be_used_is_listed(here, capsys):
    write_blobs(here / "damaged", 2, seed=2)
    np.save(here / "damaged" / "axion" / "axion_sim_000.npy", np.ones((16, 16)))
    found = explain("run", "damaged", "d", count=3, **COVER)
    assert (len(found.images), found.rejected) == (2, 1)
    assert pd.read_csv("d/rejected.csv")["file"].tolist() == ["axion/axion_sim_000.npy"]
    assert "1 of 3 files rejected" in capsys.readouterr().err
    explain("run", "survey", "d", count=1, **COVER)  # a repeat replaces all of it
    assert sorted(path.name for path in (here / "d").iterdir()) == [
        "explanations.npz",
        "explanations.png",
    ]


def test_files_and_folders_are_taken_as_they_are_named(here):
    paths = ["survey/cdm/cdm_sim_002.npy", "survey/axion"]  # five images
    found = explain("run", paths, "named", count=3, method="rollout")
    names = [paths[0], "survey/axion/axion_sim_001.npy", "survey/axion/axion_sim_003.npy"]
    assert found.images == tuple(names)
    images = prepared(dl.load_encoder("run"), names)
    np.testing.assert_array_equal(arrays(found.file)["image"], images)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"count": 0}, "--count must be from 1 to 100. Received: 0"),
        ({"count": 101}, "--count must be from 1 to 100. Received: 101"),
        ({"method": "shap"}, "method must be rollout or occlusion. Received: 'shap'"),
        ({"patch": 17}, "--patch must be from 1 to 16 pixels. Received: patch=17"),
        ({"patch": 2, "stride": 3}, "--stride must be from 1 to patch=2. Received: stride=3"),
        ({"fill": "mean"}, "--fill must be median or minimum. Received: fill='mean'"),
        (
            {"method": "rollout", "fill": "minimum"},
            "--fill: of no use without --method occlusion",
        ),
        (
            {"run": "classifier", "control": True},
            "classifier/model.keras: the untrained control of a fine-tuned model predicts nothing, "
            "so --control needs --method rollout, or the encoder's run",
        ),
        ({"run": "nothing"}, "nothing: no such file or run folder; pretrain first"),
        ({"out": "survey/x"}, "survey/x lies inside survey; choose a folder outside of it"),
        ({"out": "lenses"}, "lenses contains something else: give --out another folder"),
    ],
)
def test_wrong_requests_end_in_one_line(here, options, line):
    given = {"run": "run", "data": "survey", "out": "wrong", **options}
    with pytest.raises(RequestError) as caught:
        explain(**given)
    assert str(caught.value).startswith(line)
    assert not (here / "wrong").exists()


def test_a_folder_without_images_and_weights_that_are_not_finite_are_refused(here):
    (here / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no usable image in it; no image file is in it"):
        explain("run", "empty", "e")
    break_weights(Run(shutil.copytree(here / "classifier", here / "broken")))
    with pytest.raises(RequestError, match=r"model\.keras: the outputs .* are not finite"):
        explain("broken", "survey", "e", count=1, **COVER)
    assert not (here / "e").exists()


@pytest.mark.usefixtures("forgotten_names")
def test_rollout_of_another_network_is_referred_to_occlusion(here):
    def convnet(image_shape):
        images = keras.Input(image_shape)
        features = keras.layers.Conv2D(2, 5, activation="relu")(images)
        return keras.Model(images, keras.layers.GlobalAveragePooling2D()(features))

    dl.models.register_encoder("convnet", convnet)
    encoder = dl.models.build_encoder("convnet", (16, 16, 1))
    dl.save_encoder(encoder, "conv.keras", dl.load_encoder("run").preprocessing)
    line = r"conv\.keras: rollout needs a Vision Transformer .* occlusion explains any network"
    with pytest.raises(RequestError, match=line):
        explain("conv.keras", "survey", method="rollout")
    found = explain("conv.keras", "survey", "conv", count=1, **COVER)
    assert arrays(found.file)["grid"].shape == (1, 2, 2)


def test_the_stage_takes_the_newest_run_and_names_the_images(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    (place / "runs").mkdir(exist_ok=True)
    (place / "run").rename(place / "runs" / "it")
    try:
        stage.main(["survey", "--count", "2", "--method", "rollout", "--control"])
    finally:
        (place / "runs" / "it").rename(place / "run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run: runs/it, the newest trained run, unfinished: its latest state is used"
    assert lines[1].startswith("explanations: runs/it/explanations/survey-")
    assert lines[1].endswith(
        "-rollout-control/explanations.npz, of 2 images: survey/axion/axion_sim_000.npy, "
        "survey/no_sub/no_sub_sim_003.npy"
    )
    picture = next(place.glob("run/explanations/survey-*-rollout-control/explanations.png"))
    assert picture.read_bytes().startswith(PNG)

"""Embeddings of a folder: the features of the probes, what is beside them, what is refused."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

import deeplens_tf as dl
from deeplens_tf import embed as stage
from deeplens_tf import prepare
from deeplens_tf.config import load_config
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference import new_images
from deeplens_tf.inference.embedding import embed
from deeplens_tf.inference.embedding_files import read_embeddings
from deeplens_tf.inference.embedding_npz import require_size
from deeplens_tf.models.vit import VisionTransformer
from deeplens_tf.probes.frozen_features import untrained_encoder
from deeplens_tf.probes.outputs import model_outputs
from deeplens_tf.runs.new_run import create_run
from tests.conftest import write_blobs
from tests.evaluation.runs import break_weights, finetuned

WORDS = ["data.image_size=16", "encoder.patch_size=4"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Images, and a pretraining run with an encoder of random weights."""
    monkeypatch.chdir(tmp_path)
    write_blobs(tmp_path / "lenses", 3, seed=0)
    write_blobs(tmp_path / "survey", 4, seed=1)
    return tmp_path


@pytest.fixture
def run(elsewhere):
    config = load_config("contrastive", [*WORDS, "seed=3"], "lenses")
    data = open_folder("lenses", image_size=16)
    keras.utils.set_random_seed(11)
    encoder = dl.models.build_encoder("vit_nano", data.image_shape, patch_size=4)
    run = create_run("pretrain", "it", config, str(elsewhere / "run"), {})
    dl.save_encoder(encoder, run.encoder, data.preprocessing)
    return run


def arrays(path):
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


@pytest.mark.parametrize("batch_size", [5, 256])
def test_the_features_are_those_of_the_probes_bit_for_bit(run, batch_size, monkeypatch):
    monkeypatch.setattr(new_images, "BATCH_SIZE", batch_size)
    monkeypatch.setattr("deeplens_tf.probes.outputs.BATCH_SIZE", batch_size)
    prepare.main(["survey", "--out", "prepared", "--image-size", "16"])
    data = open_folder("prepared")
    encoder = dl.load_encoder(run.folder)
    splits = [split for split in ("train", "validation", "test") if data.count(split)]
    expected = np.concatenate([model_outputs(encoder, data, split) for split in splits])
    files = [file for split in splits for file in data.index(split)["file"]]
    found = arrays(dl.inference.embed(run.folder, "prepared", "p.npz").file)
    assert found["file"].tolist() == files
    np.testing.assert_array_equal(found["features"], expected)
    # Of the files themselves, in the order of their names.
    raw = arrays(embed(run.folder, "survey", "s.npz").file)
    assert raw["file"].tolist() == sorted(files)
    order = [files.index(name) for name in raw["file"]]
    np.testing.assert_allclose(raw["features"], expected[order], rtol=1e-4, atol=1e-6)
    assert (raw["features"].dtype, raw["features"].shape) == (np.float32, (12, 96))


def test_layers_and_the_control_are_those_of_the_network(run):
    images = np.stack([*new_images_of(run)])
    encoder = dl.load_encoder(run.folder)
    found = arrays(embed(run.folder, "survey", "b.npz", layer="block_1").file)
    tokens = encoder.block_tokens(images)[1]
    expected = np.asarray(tokens).mean(axis=1)
    np.testing.assert_allclose(found["features"], expected, rtol=1e-4, atol=1e-5)
    about = json.loads(str(found["about"]))
    assert (about["layer"], about["control"]) == ("block_1", False)
    control = arrays(embed(run.folder, "survey", "c.npz", control=True).file)["features"]
    untrained = untrained_encoder(run.load_config(), (16, 16, 1))
    np.testing.assert_array_equal(control, untrained.predict(images, verbose=0))
    assert not np.allclose(control, arrays(embed(run.folder, "survey", "t.npz").file)["features"])
    with pytest.raises(RequestError, match=r"must be one of block_0, block_1, block_2, block_3\."):
        embed(run.folder, "survey", layer="block_7")


def new_images_of(run):
    preprocessing = dl.load_encoder(run.folder).preprocessing
    paths = sorted(run.folder.parent.glob("survey/*/*.npy"))
    return preprocessing.apply([np.load(path) for path in paths])


def test_a_fine_tuned_run_a_file_and_a_shipped_name_are_encoders(elsewhere, run, capsys):
    tuned = finetuned(elsewhere / "tuned", load_config("finetune", WORDS[:1], "lenses"))
    encoder = dl.load_encoder(tuned.folder)
    assert isinstance(encoder, VisionTransformer)
    found = arrays(embed(tuned.folder, "survey").file)["features"]
    expected = encoder.predict(new_images_of(tuned), verbose=0)
    np.testing.assert_array_equal(found, expected)
    alone = elsewhere / "alone.keras"
    alone.write_bytes(run.encoder.read_bytes())
    same = embed(alone, "survey", "a.npz").file
    np.testing.assert_array_equal(
        arrays(same)["features"], arrays(embed(run.folder, "survey", "r.npz").file)["features"]
    )
    with pytest.raises(RequestError, match=r"alone\.keras: the control has the initial weights"):
        embed(alone, "survey", control=True)
    generator = np.random.default_rng(0)
    (elsewhere / "large").mkdir()
    np.save(elsewhere / "large" / "a.npy", generator.random((64, 64)))
    shipped = embed("vit_nano_same_lens", "large")
    assert shipped.file.parent.as_posix() == "embeddings"  # not in the package
    assert (shipped.count, shipped.dim) == (1, 96)


def test_what_a_catalogue_says_comes_with_the_features(run, elsewhere):
    survey = elsewhere / "survey"
    files = sorted(path.relative_to(survey).as_posix() for path in survey.glob("*/*"))
    rows = [(name, f"00{i}", f"{10 + i / 7:.10f}", "" if i else "-0.5") for i, name in
            enumerate(files)]  # fmt: skip
    pd.DataFrame(rows, columns=["file", "id", "ra", "dec"]).to_csv("c.csv", index=False)
    found = read_embeddings(embed(run.folder, "survey", "e.npz", catalog="c.csv").file)
    assert found.columns["id"].tolist() == [row[1] for row in rows]
    np.testing.assert_array_equal(found.columns["ra"], [float(row[2]) for row in rows])
    assert found.columns["dec"][0] == -0.5
    assert np.isnan(found.columns["dec"][1:]).all()
    rows[3] = (rows[3][0], "003", "12h30m", "1")
    pd.DataFrame(rows, columns=["file", "id", "ra", "dec"]).to_csv("c.csv", index=False)
    found = read_embeddings(embed(run.folder, "survey", "e.npz", catalog="c.csv").file)
    assert found.columns["ra"][3] == "12h30m"


def test_unusable_files_are_listed_and_a_repeat_gives_the_same_bytes(run, elsewhere, capsys):
    np.save(elsewhere / "survey" / "flat.npy", np.ones((16, 16)))
    first = embed(run.folder, "survey", "out/e.npz")
    assert (first.count, first.rejected) == (12, 1)
    assert "all are listed in out/e-rejected.csv" in capsys.readouterr().err
    assert pd.read_csv("out/e-rejected.csv")["file"].tolist() == ["flat.npy"]
    before = first.file.read_bytes()
    (elsewhere / "survey" / "flat.npy").unlink()
    embed(run.folder, "survey", "out/e.npz")
    assert first.file.read_bytes() == before
    assert [path.name for path in first.file.parent.iterdir()] == ["e.npz"]


def test_parquet_holds_the_same(run):
    first = read_embeddings(embed(run.folder, "survey", "e.npz").file)
    second = read_embeddings(embed(run.folder, "survey", "e.parquet").file)
    np.testing.assert_array_equal(second.features, first.features)
    assert second.columns["file"].tolist() == first.columns["file"].tolist()
    assert second.about == first.about


def test_wrong_requests_end_in_one_line(run, elsewhere):
    (elsewhere / "other.npz").write_bytes(b"mine")
    (elsewhere / "empty").mkdir()
    for out, line in (
        ("other.npz", "something else than embeddings"),
        ("x.fits", r"must end in \.npz or \.parquet"),
        ("survey/x.npz", "lies inside survey"),
    ):
        with pytest.raises(RequestError, match=line):
            embed(run.folder, "survey", out)
    with pytest.raises(DataError, match="no usable image in it; no image file is in it"):
        embed(run.folder, "empty", "e.npz")
    with pytest.raises(RequestError, match="no such file or run folder"):
        embed("nothing", "survey", "e.npz")
    with pytest.raises(RequestError, match=r"more than 2 GB"):
        require_size(10**7, 96)
    assert not list(elsewhere.glob("*.npz.*")) + list(elsewhere.glob("e*.npz"))


def test_features_that_are_not_finite_are_refused(elsewhere):
    tuned = finetuned(elsewhere / "tuned", load_config("finetune", WORDS[:1], "lenses"))
    break_weights(tuned)
    with pytest.raises(RequestError, match=r"model\.keras: the outputs .* are not finite"):
        embed(tuned.folder, "survey", "e.npz")


def test_the_stage_takes_the_newest_run_of_either_kind(run, elsewhere, capsys):
    (elsewhere / "runs").mkdir(exist_ok=True)
    run.folder.rename(elsewhere / "runs" / "it")
    stage.main(["--data", "survey", "--layer", "block_0", "--control"])
    out = capsys.readouterr().out
    assert out.startswith("run: runs/it, the newest trained run")
    assert "embeddings: runs/it/embeddings/survey-" in out
    assert "-block_0-control.npz, of 12 images, 96 features each" in out

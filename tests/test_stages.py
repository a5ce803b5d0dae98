"""The stages end to end on tiny images that a small network can classify."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from deeplens_tf import evaluate, finetune, prepare, pretrain
from deeplens_tf.config import load_config, save_config
from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.errors import RequestError
from deeplens_tf.runs.new_run import create_run
from deeplens_tf.runs.resuming import point_to_run
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_encoder, load_model
from tests.conftest import CLASSES, eagerly
from tests.models.tiny import values_of

QUICK = (
    "train.epochs=2",
    "train.batch_size=15",
    "train.jit_compile=false",
    "encoder.options.depth=1",
)


def as_set(overrides):
    return [argument for override in overrides for argument in ("--set", override)]


@pytest.fixture(scope="module")
def common(blobs_words):
    return as_set([*blobs_words, *QUICK])


@pytest.fixture(scope="module")
def pretrained(common, tmp_path_factory):
    """A finished pretraining run."""
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    pretrain.main([*common, "--run-dir", str(folder)])
    return Run(folder)


@pytest.fixture(scope="module")
def finetuned(pretrained, tmp_path_factory):
    """A finished fine-tuning run, on the encoder's own data, since no other is given."""
    folder = tmp_path_factory.mktemp("runs") / "finetuned"
    overrides = as_set([*QUICK, "train.epochs=12", "optimizer.learning_rate=0.003"])
    finetune.main([*overrides, "--encoder", str(pretrained.folder), "--run-dir", str(folder)])
    return Run(folder)


def numbers(run):
    return pd.read_csv(run.history)


@pytest.mark.slow
def test_pretraining_writes_a_complete_run(pretrained, blobs_words):
    names = {path.name for path in pretrained.folder.iterdir()}
    assert names == {
        "config.yaml",
        "environment.json",
        "checkpoints",
        "history.csv",
        "images.csv",
        "tensorboard",
        "encoder.keras",
        "figures",
    }
    expected = load_config("contrastive", [*blobs_words, *QUICK, "data.fit=resize"])
    assert pretrained.load_config() == expected
    environment = json.loads((pretrained.folder / "environment.json").read_text())
    assert environment["split_counts"] == {"train": 45, "validation": 15, "test": 21}
    history = numbers(pretrained)
    assert list(history["epoch"]) == [0, 1]
    for name in ("loss", "pretext_loss", "contrastive_accuracy", "probe_loss", "probe_accuracy"):
        assert {name, f"val_{name}"} <= set(history)
    assert not [name for name in history if "time" in name]
    assert np.isfinite(history).all(axis=None)
    assert load_encoder(pretrained.folder).image_shape == (16, 16, 1)


@pytest.mark.slow
def test_the_command_repeats_the_result_and_writes_nothing_to_stderr(
    pretrained, common, run_python, tmp_path
):
    ended = run_python("-m", "deeplens_tf.pretrain", *common, "--run-dir", "run")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "encoder: run/encoder.keras\n" in ended.stdout
    again = Run(tmp_path / "run")
    assert again.history.read_bytes() == pretrained.history.read_bytes()
    first, second = (values_of(load_encoder(run.folder)) for run in (pretrained, again))
    for path, value in first.items():
        np.testing.assert_array_equal(second[path], value, err_msg=path)


@pytest.mark.slow
def test_fine_tuning_keeps_the_epoch_best_on_validation(finetuned):
    history = numbers(finetuned)
    data = open_data(finetuned.load_config())
    probabilities = load_model(finetuned.model).predict(
        image_batches(data, "validation", 15), verbose=0
    )
    labels = data.index("validation")["label"].to_numpy()
    loss = -np.log(probabilities[np.arange(15), labels]).mean()
    assert loss == pytest.approx(history["val_loss"].min(), rel=1e-3)
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0]


@pytest.mark.slow
def test_evaluation_scores_each_test_image_once(finetuned, blobs_folder, capsys, monkeypatch):
    monkeypatch.setattr(
        "deeplens_tf.probes.outputs.BATCH_SIZE", 4
    )  # 21 images: five batches and one image
    evaluate.main(["--run", str(finetuned.folder)])
    folder = finetuned.folder / "evaluation" / "test"
    assert f"report: {folder}" in capsys.readouterr().out
    metrics = json.loads((folder / "metrics.json").read_text())
    predictions = pd.read_csv(folder / "predictions.csv")
    test_files = sorted(
        str(path.relative_to(blobs_folder.with_name("blobs_test")))
        for path in blobs_folder.with_name("blobs_test").rglob("*.npy")
    )
    assert sorted(predictions["file"]) == test_files
    assert metrics["n_test"] == 21
    assert metrics["split"] == "test"
    assert list(predictions["label"]) == [file.split("/")[0] for file in predictions["file"]]
    probabilities = predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    labels = predictions["label"].map(CLASSES.index)
    expected = roc_auc_score(labels, probabilities, multi_class="ovr")
    assert metrics["macro_auc"] == pytest.approx(expected, abs=1e-6)
    accuracy = accuracy_score(predictions["label"], predictions["predicted"])
    assert metrics["accuracy"] == pytest.approx(accuracy)
    # The spot's position depends on the class: labels, images and classes stayed aligned.
    assert metrics["macro_auc"] > 0.95


@pytest.mark.slow
def test_a_frozen_encoder_is_unchanged(pretrained, tmp_path, no_pictures):
    argv = ["--encoder", str(pretrained.encoder), "--freeze", "--fraction", "0.5"]
    with eagerly():
        finetune.main([*as_set(QUICK), *argv, "--run-dir", str(tmp_path / "frozen")])
    before, after = (values_of(load_encoder(f)) for f in (pretrained.folder, tmp_path / "frozen"))
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)
    environment = json.loads((tmp_path / "frozen" / "environment.json").read_text())
    assert environment["labels_used"] == 24  # round(7.5) = 8 of each class's 15
    assert environment["encoder"]["method"] == "contrastive"


@pytest.mark.slow
def test_fine_tuning_without_augmentations_and_without_a_test_split(
    common, blobs_folder, tmp_path, capsys
):
    data = tmp_path / "data"
    data.symlink_to(blobs_folder)
    argv = [*as_set(["augment.views=[]", f"data.path={data}"]), "--encoder", "none"]
    with eagerly():
        finetune.main([*common, *argv, "--run-dir", str(tmp_path / "scratch")])
    evaluate.main(["--run", str(tmp_path / "scratch")])
    assert "scoring the validation split" in capsys.readouterr().out
    report = tmp_path / "scratch" / "evaluation" / "validation" / "metrics.json"
    metrics = json.loads(report.read_text())
    assert (metrics["split"], metrics["n_test"]) == ("validation", 15)


@pytest.mark.slow
def test_unlabelled_images_are_for_pretraining_only(blobs_folder, common, tmp_path):
    data = tmp_path / "mine"
    data.mkdir()
    for i, path in enumerate(sorted(blobs_folder.rglob("*.npy"))[::2]):
        np.save(data / f"{i:03d}.npy", np.load(path))
    run = tmp_path / "run"
    with eagerly():
        pretrain.main([*common, *as_set([f"data.path={data}"]), "--run-dir", str(run)])
    assert "probe_loss" not in numbers(Run(run))
    with pytest.raises(RequestError, match="needs images in two or more class folders"):
        finetune.main(["--encoder", str(run), "--run-dir", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_an_encoder_of_another_architecture_is_refused_with_the_differences(pretrained, tmp_path):
    argv = ["--encoder", str(pretrained.encoder), "--set", "encoder.patch_size=4"]
    with pytest.raises(RequestError, match=r"configuration's: patch_size 8 instead of 4$"):
        finetune.main([*as_set(QUICK), *argv, "--run-dir", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_batch_larger_than_the_data_is_refused_before_a_folder_is_created(common, tmp_path):
    argv = [*common, "--set", "train.batch_size=46", "--run-dir", str(tmp_path / "x")]
    with pytest.raises(RequestError, match="larger than the 45 training images"):
        pretrain.main(argv)
    assert not (tmp_path / "x").exists()


def test_a_prepared_folder_is_trained_on_in_its_own_size(blobs_folder, tmp_path):
    prepare.main([str(blobs_folder), "--out", str(tmp_path / "own"), "--image-size", "24"])
    argv = as_set(["train.batch_size=1000"])
    argv += ["--data", str(tmp_path / "own"), "--run-dir", str(tmp_path / "x")]
    with pytest.raises(RequestError, match="larger than the 54 training images"):
        pretrain.main(argv)
    with pytest.raises(RequestError, match="was prepared with image_size 24, not 64"):
        pretrain.main([*argv, "--set", "data.image_size=64"])


@pytest.mark.slow
def test_a_prepared_folder_is_scored_in_its_own_size(
    finetuned, blobs_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for size in ("16", "24"):
        prepare.main([str(blobs_folder), "--out", size, "--image-size", size])
    evaluate.main(["--run", str(finetuned.folder), "--data", "16"])
    # The run's own size is in its configuration, and null asks for the folder's.
    argv = ["--run", str(finetuned.folder), "--data", "24"]
    with pytest.raises(RequestError, match="was prepared with image_size 24, not 16"):
        evaluate.main(argv)
    with pytest.raises(RequestError, match=r"24: images .* image_size 24 instead of 16: set data"):
        evaluate.main([*argv, "--set", "data.image_size=null"])


def resolved(*argv):
    arguments = finetune.build_parser().parse_args(list(argv))
    point_to_run(arguments, "finetune", finetune.FINETUNE_CONFIG)
    return finetune.resolve_config(arguments)


@pytest.fixture
def encoders_run(tmp_path, monkeypatch):
    """A pretraining run with a configuration of its own; its encoder is an empty file."""
    monkeypatch.chdir(tmp_path)
    overrides = ["data.path=theirs", "data.image_size=32", "encoder.patch_size=16", "seed=9"]
    run = Run(tmp_path / "runs" / "it")
    run.folder.mkdir(parents=True)
    save_config(load_config("contrastive", overrides), run.config)
    run.encoder.touch()
    return run


@pytest.mark.parametrize("catalog", ["theirs.csv", "mine.csv"])
def test_a_catalogue_that_the_users_file_names_stays(encoders_run, tmp_path, catalog):
    words = ["data.catalog=theirs.csv", "data.catalog_columns={id: name}", "data.path=theirs"]
    save_config(load_config("contrastive", words), encoders_run.config)
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    for name in ("mine.csv", "theirs.csv"):
        (tmp_path / name).write_text("file,name\nx.npy,y\n")
    encoder = ["--encoder", str(encoders_run.folder), "--data", "mine"]
    data = resolved(*encoder).data
    assert (data.catalog, data.catalog_columns) == (None, {})  # it was of other images
    assert resolved(*encoder[:-1], "theirs").data.catalog == "theirs.csv"
    (tmp_path / "own.yaml").write_text(f"data:\n  catalog: {catalog}\n")
    assert resolved("--config", "own.yaml", *encoder).data.catalog == catalog


def test_data_and_encoder_sections_are_those_of_the_encoders_run(encoders_run):
    for argv in ([], ["--encoder", "runs/it"], ["--encoder", "runs/it/encoder.keras"]):
        config = resolved(*argv)
        assert (config.data.path, config.data.image_size) == ("theirs", 32)
        assert config.encoder.patch_size == 16
        assert config.seed == 0  # the seed is not taken from the encoder's run
    assert resolved().finetune.encoder == "runs/it"


def test_the_original_projects_configurations_keep_the_encoder(tmp_path, monkeypatch):
    """Each of its pretrainings is followed by both of its downstream tasks."""
    monkeypatch.chdir(tmp_path)
    for pretraining, top_width in (("original_contrastive_rotation", 256), ("original_byol", 128)):
        run = Run(tmp_path / pretraining)
        run.folder.mkdir()
        save_config(load_config(pretraining), run.config)
        for task in ("original_baseline", "original_regression"):
            config = resolved("--config", task, "--encoder", pretraining)
            assert config.encoder == load_config(pretraining).encoder
            assert (config.encoder.top_width, config.encoder.plain_top) == (top_width, None)
            assert config.data.bands == 3
            assert config.optimizer.name == "adam"
            assert config.finetune.head == load_config(task).finetune.head
    supervised = resolved("--config", "original_regression", "--encoder", "none").encoder
    assert (supervised.top_width, supervised.plain_top) == (128, True)


def test_options_override_the_encoders_run(encoders_run):
    config = resolved("--set", "data.image_size=48", "--data", "mine")
    assert (config.data.path, config.data.image_size) == ("mine", 48)


@pytest.mark.usefixtures("encoders_run")
def test_an_empty_encoder_is_not_the_newest_one():
    assert resolved("--encoder", "").finetune.encoder == ""
    with pytest.raises(RequestError, match=r"no encoder\.keras"):
        load_encoder("")


def test_without_a_pretraining_run_the_defaults_are_used(encoders_run):
    assert resolved("--encoder", "none").data.path == "data/model_ii"
    encoders_run.encoder.unlink()
    assert resolved().finetune.encoder == "none"


@pytest.mark.parametrize("path", ["2024-01-01", "runs/a #2", "no", "1e3", "a: b", 'say "x"'])
def test_the_path_of_an_encoder_is_used_as_written(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert resolved("--encoder", path).finetune.encoder == path


def test_the_options_of_fine_tuning_reach_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolved("--freeze", "--fraction", "0.1", "--head", "classification").finetune
    assert (config.freeze, config.fraction, config.head) == (True, 0.1, "classification")
    with pytest.raises(RequestError, match=r"finetune\.fraction must be above 0 and at most 1"):
        resolved("--fraction", "2")
    with pytest.raises(RequestError, match=r"finetune\.fraction must be a number, not 'half'"):
        resolved("--fraction", "half")


@pytest.mark.parametrize(
    ("finished", "note"),
    [({"epochs": 1}, ""), (None, ", unfinished: its latest state is used")],
)
def test_the_newest_model_is_reported_and_whether_it_is_finished(
    tmp_path, monkeypatch, capsys, finished, note
):
    monkeypatch.chdir(tmp_path)
    config = load_config("finetune", ["data.path=nowhere"])
    run = create_run("finetune", "it", config, "runs/it", {"finished": finished})
    run.model.write_bytes(b"")
    with pytest.raises(RequestError, match="nowhere"):
        evaluate.main([])
    assert capsys.readouterr().out == f"run: runs/it, the newest fine-tuning run{note}\n"


@pytest.mark.parametrize(("head", "other"), [("classification", "regression")])
def test_another_head_than_the_runs_is_refused(tmp_path, head, other):
    config = load_config("finetune", ["data.path=nowhere", f"finetune.head={head}"])
    run = create_run("finetune", "it", config, str(tmp_path / "run"), {})
    run.model.write_bytes(b"")
    with pytest.raises(
        RequestError, match=f"--head {other}: the head of .*run is for {head}; leav"
    ):
        evaluate.main(["--run", str(run.folder), "--head", other])
    for argv in (["--head", head], []):  # which is not what is wrong then
        with pytest.raises(RequestError, match="nowhere"):
            evaluate.main(["--run", str(run.folder), *argv])


def test_evaluating_a_run_without_a_model_is_refused(tmp_path):
    run = create_run("pretrain", "c", load_config("contrastive"), str(tmp_path / "run"), {})
    with pytest.raises(RequestError, match="holds no model; its run has not finished"):
        evaluate.main(["--run", str(run.folder)])

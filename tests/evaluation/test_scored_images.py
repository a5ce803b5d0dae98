"""What is scored: never an image that the run was trained on, and other data as a whole."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.evaluation.probe_report import evaluate_probe
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.runs.seen_images import PRETRAINED, images_of, read_images, record_images
from tests.conftest import CLASSES, blob_image, write_blobs
from tests.evaluation.runs import finetuned, write_masses
from tests.models.tiny import SIZES

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of the test's own to work in, with ten images of each class in `lenses`."""
    monkeypatch.chdir(tmp_path)
    write_blobs(tmp_path / "lenses", 10, seed=0)
    return tmp_path


def configured(data="lenses", *overrides):
    own = ["data.image_size=16", "data.validation_fraction=0.2"]
    return load_config("finetune", [*own, *overrides], str(data))


@pytest.fixture
def run(elsewhere):
    return finetuned(elsewhere / "run", configured())


def scored(run, *args, **kwargs):
    """Evaluate; return the report's folder, its metrics and its predictions."""
    folder, metrics = evaluate_run(run, configured(*args, **kwargs))
    written = json.loads((folder / "metrics.json").read_text())
    assert written["n_test"] == metrics["n_test"]
    return folder, written, pd.read_csv(folder / "predictions.csv")


def files_of(run, use):
    images = read_images(run)
    return set(images["file"][images["use"] == use])


def test_the_runs_own_validation_split_chose_the_best_epoch(run, capsys):
    folder, metrics, predictions = scored(run)
    assert folder.name == metrics["split"] == "validation"
    assert set(predictions["file"]) == files_of(run, "validation")
    assert (metrics["n_test"], metrics["n_chose_epoch"], metrics["n_left_out_trained"]) == (6, 6, 0)
    assert metrics["overlap_checked"] is True
    line = "6 of the 6 scored images also chose the best epoch: their scores are too good"
    assert metrics["notes"] == [line]
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed=1", r"seed 0 \(requested: 1\)"),
        ("data.validation_fraction=0.5", r"validation_fraction 0\.2 \(requested: 0\.5\)"),
    ],
)
def test_another_validation_split_of_the_runs_data_is_refused(run, override, named):
    with pytest.raises(RequestError, match=f"its validation split was made with .*{named}"):
        evaluate_run(run, configured("lenses", override))
    assert not (run.folder / "evaluation").exists()


def test_with_a_test_folder_the_seed_is_only_that_of_the_intervals(run, elsewhere):
    write_blobs(elsewhere / "lenses_test", 2, seed=5)
    folder, metrics, _ = scored(run, "lenses", "seed=1")
    assert (folder.name, metrics["n_test"], metrics["notes"]) == ("test", 6, [])


def test_of_a_folder_that_has_grown_no_training_image_is_scored(run, elsewhere):
    trained = files_of(run, "trained")
    generator = np.random.default_rng(9)
    for name in CLASSES:
        for i in range(30):
            image = blob_image(generator, CLASSES.index(name))
            np.save(elsewhere / "lenses" / name / f"{name}_sim_{i:03d}_new.npy", image)
    folder, metrics, predictions = scored(run)
    assert folder.name == "validation"
    assert not set(predictions["file"]) & trained
    assert metrics["n_left_out_trained"] + metrics["n_test"] == 24
    assert metrics["n_left_out_trained"] > 0
    assert f"left out: {metrics['n_left_out_trained']} images that the run" in metrics["notes"][0]


def test_training_images_are_recognised_whatever_their_names_types_and_axes(run, elsewhere):
    other = elsewhere / "other"
    write_blobs(other, 3, seed=7)
    changes = [lambda x: x.astype(">f8"), lambda x: x[None], lambda x: np.asfortranarray(x)]
    copied = sorted(files_of(run, "trained"))[:3]
    for i, (file, change) in enumerate(zip(copied, changes, strict=True)):
        image = np.load(elsewhere / "lenses" / file)
        np.save(other / "cdm" / f"copy{i}.npy", change(image))
    _, metrics, predictions = scored(run, other)
    assert (metrics["n_left_out_trained"], metrics["n_test"]) == (3, 9)
    assert not [file for file in predictions["file"] if "copy" in file]


def test_data_of_nothing_but_training_images_are_refused(run, elsewhere):
    for file in files_of(run, "trained"):
        target = elsewhere / "again" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(elsewhere / "lenses" / file, target)
    with pytest.raises(
        RequestError, match=r"was trained on all 24 images .* nothing is left to sc"
    ):
        evaluate_run(run, configured("again"))


def test_images_that_pretraining_saw_are_scored_and_counted(run, elsewhere):
    write_blobs(elsewhere / "survey", 4, seed=3)
    _, before, _ = scored(run, "survey")
    images = read_images(run)
    (run.folder / "images.csv").unlink()
    own = read_index(elsewhere, "survey")
    record_images(run, pd.concat([images, images_of(own[:5], PRETRAINED)]))
    _, metrics, _ = scored(run, "survey")
    assert (before["n_seen_unlabelled"], before["n_test"]) == (0, 12)
    assert (metrics["n_seen_unlabelled"], metrics["n_test"]) == (5, 12)
    assert "5 of the 12 scored images were seen in pretraining" in metrics["notes"][0]


def read_index(elsewhere, name):
    (path,) = (elsewhere / "runs" / "cache").glob(f"{name}-*/train-index.csv")
    return pd.read_csv(path)


def test_of_a_run_of_an_earlier_version_the_overlap_is_said_to_be_unknown(run):
    (run.folder / "images.csv").unlink()
    _, metrics, _ = scored(run)
    assert (metrics["overlap_checked"], metrics["n_chose_epoch"]) == (False, 6)
    assert "cannot be checked" in metrics["notes"][1]


def test_other_data_are_scored_as_a_whole_and_have_a_report_of_their_own(run, elsewhere, capsys):
    own, _, _ = scored(run)
    before = (own / "metrics.json").read_bytes()
    for name, seed in (("hst", 3), ("hst/../euclid", 4)):
        write_blobs(elsewhere / name, 5, seed)
    folders = set()
    for name in ("hst", "euclid"):
        folder, metrics, predictions = scored(run, name)
        assert folder.name.startswith(f"external-{name}-")
        assert (metrics["split"], metrics["data"]["own"]) == ("external", False)
        assert metrics["n_test"] == len(predictions) == 15
        everything = {
            p.relative_to(elsewhere / name).as_posix() for p in elsewhere.glob(f"{name}/*/*")
        }
        assert set(predictions["file"]) == everything
        folders.add(folder)
    assert "without a test split: scoring all 15 images" in capsys.readouterr().out
    assert len(folders | {own}) == 3
    assert (own / "metrics.json").read_bytes() == before
    # Which of its images would be validated does not matter, and a repeat replaces the report.
    again, metrics, _ = scored(run, "euclid", "seed=8")
    assert again in folders
    assert metrics["n_test"] == 15


def test_the_test_folder_beside_other_data_is_scored(run, elsewhere):
    write_blobs(elsewhere / "hst", 5, seed=3)
    write_blobs(elsewhere / "hst_test", 2, seed=4)
    folder, metrics, _ = scored(run, "hst")
    assert folder.name.startswith("external-hst-")
    assert (metrics["split"], metrics["n_test"]) == ("external", 6)


def test_a_copy_of_the_runs_data_is_its_own(run, elsewhere):
    shutil.copytree(elsewhere / "lenses", elsewhere / "disk" / "copied")
    folder, metrics, _ = scored(run, "disk/copied")
    assert (folder.name, metrics["data"]["own"], metrics["n_test"]) == ("validation", True, 6)


def test_a_folder_of_the_same_name_in_another_project_is_not(run, elsewhere, monkeypatch):
    project = elsewhere / "project"
    write_blobs(project / "lenses", 4, seed=8)
    monkeypatch.chdir(project)
    folder, metrics, _ = scored(run)
    assert folder.name.startswith("external-lenses-")
    assert metrics["n_test"] == 12


def test_some_classes_of_the_model_are_scored_by_their_names(run, elsewhere):
    write_blobs(elsewhere / "few", 4, seed=8)
    shutil.rmtree(elsewhere / "few" / "axion")  # so that the labels of the others are other ones
    _, metrics, predictions = scored(run, "few")
    assert metrics["counts"] == {"axion": 0, "cdm": 4, "no_sub": 4}
    assert (predictions["label"] == predictions["file"].str.split("/").str[0]).all()
    columns = [f"p_{name}" for name in CLASSES]
    best = np.array(CLASSES)[predictions[columns].to_numpy().argmax(axis=1)]
    assert metrics["accuracy"] == pytest.approx((best == predictions["label"]).mean())


def test_a_class_that_the_model_does_not_know_is_refused_by_name(run, elsewhere):
    write_blobs(elsewhere / "more", 4, seed=8)
    shutil.copytree(elsewhere / "more" / "cdm", elsewhere / "more" / "wdm")
    shutil.rmtree(elsewhere / "more" / "cdm")
    with pytest.raises(RequestError, match=r"^more: the model does not know the class wdm, only"):
        evaluate_run(run, configured("more"))


def test_unlabelled_images_are_not_scored_but_predicted_for(run, elsewhere):
    (elsewhere / "survey").mkdir()
    for i in range(4):
        np.save(elsewhere / "survey" / f"{i}.npy", np.random.default_rng(i).random((16, 16)))
    with pytest.raises(RequestError, match=r"no class folders.*deeplens_tf\.predict"):
        evaluate_run(run, configured("survey"))


def test_masses_of_training_images_are_left_out_too(elsewhere):
    write_blobs(elsewhere / "more", 6, seed=5)
    write_masses(elsewhere / "lenses", "axion", 10)
    write_masses(elsewhere / "more", "axion", 6, seed=5)
    config = configured("lenses", "finetune.head=regression")
    run = finetuned(elsewhere / "run", config)
    trained = sorted(file for file in files_of(run, "trained") if file.startswith("axion"))[0]
    masses = elsewhere / "more" / "axion" / "masses.csv"
    shutil.copy(elsewhere / "lenses" / trained, elsewhere / "more" / "axion" / "copy.npy")
    masses.write_text(masses.read_text() + "copy.npy,1e-23\n")
    _, metrics, predictions = scored(run, "more", "finetune.head=regression")
    assert (metrics["n_left_out_trained"], metrics["n_test"]) == (1, 6)
    assert "axion/copy.npy" not in set(predictions["file"])
    assert metrics["n_skipped_without_mass"] == 12


@pytest.fixture
def small_variant(monkeypatch):
    monkeypatch.setitem(VARIANTS, "vit_nano", SIZES)


def test_a_probe_is_not_scored_on_images_that_its_encoder_was_trained_on(
    run, elsewhere, small_variant
):
    write_blobs(elsewhere / "others", 10, seed=6)
    write_blobs(elsewhere / "others_test", 3, seed=7)
    for i, file in enumerate(sorted(files_of(run, "trained"))[:2]):
        shutil.copy(elsewhere / "lenses" / file, elsewhere / "others_test" / "cdm" / f"c{i}.npy")
    folder, metrics = evaluate_probe(run, configured("others"))
    assert (metrics["n_left_out_trained"], metrics["n_test"]) == (2, 9)
    assert metrics["control"]["n_test"] == 9
    assert folder.name.startswith("external-others-")
    assert folder.name.endswith("-probe-classification-linear")
    assert metrics["split"] == "test"
    own, _ = evaluate_probe(run, configured())
    assert own.name == "validation-probe-classification-linear"
    with pytest.raises(RequestError, match="its validation split was made with seed 0"):
        evaluate_probe(run, configured("lenses", "seed=2"))


def test_reports_name_the_images_that_are_scored(run, elsewhere):
    write_blobs(elsewhere / "hst", 5, seed=3)
    first = scored(run, "hst")[1]["test_set"]
    copied = sorted(files_of(run, "trained"))[0]
    shutil.copy(elsewhere / "lenses" / copied, elsewhere / "hst" / "cdm" / "copy.npy")
    with_copy = scored(run, "hst")[1]
    assert with_copy["n_left_out_trained"] == 1
    assert with_copy["test_set"] == first  # the same images are scored


def test_copies_that_preparing_left_out_of_the_test_folder_are_counted(elsewhere):
    write_blobs(elsewhere / "lenses_test", 2, seed=4)
    for name in sorted((elsewhere / "lenses" / "cdm").glob("*.npy"))[:3]:
        shutil.copy(name, elsewhere / "lenses_test" / "cdm" / f"again_{name.name}")
    _, metrics, predictions = scored(finetuned(elsewhere / "run", configured()))
    assert (metrics["n_left_out_copies"], metrics["n_test"]) == (3, 6)
    assert metrics["notes"][0].startswith("left out when preparing: 3 copies of other images")
    assert not predictions["file"].str.contains("again_").any()

"""The content of the images, not their place or time, decides what is compared and scored."""

import os
import shutil

import numpy as np
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.errors import DataError
from deeplens_tf.evaluation.comparison import compare_runs
from deeplens_tf.evaluation.model_report import evaluate_run
from tests.conftest import write_blobs
from tests.evaluation.runs import finetuned

pytestmark = pytest.mark.usefixtures("no_pictures")


def configured(data, seed=0):
    return load_config("finetune", ["data.image_size=16", f"seed={seed}"], str(data))


def evaluated(folder, config):
    run = finetuned(folder, config, weights_seed=config.seed)
    run.add_facts({"labels_used": 18})
    evaluate_run(run, config)
    return run


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_blobs(tmp_path / "one" / "lenses", 6, seed=0)
    write_blobs(tmp_path / "one" / "lenses_test", 3, seed=9)
    return tmp_path


def test_two_seeds_on_copies_with_other_times_are_one_row(images):
    shutil.copytree(images / "one", images / "two", copy_function=shutil.copyfile)
    for path in (images / "two").rglob("*.npy"):
        os.utime(path, ns=(10**18, 10**18))
    folders = {seed: images / place / "lenses" for seed, place in enumerate(("one", "two"))}
    runs = [evaluated(images / f"run{n}", configured(folders[n], n)) for n in folders]
    assert len(compare_runs(runs)) == 1
    path = next((images / "two" / "lenses").rglob("*.npy"))
    np.save(path, np.load(path)[::-1])
    other = evaluated(images / "run2", configured(folders[1], 2))
    assert len(compare_runs([*runs, other])) == 2


def test_no_other_images_are_scored_in_place_of_a_test_folder_that_is_left_out(images):
    shutil.rmtree(images / "one" / "lenses_test")
    shutil.copytree(images / "one" / "lenses", images / "one" / "lenses_test")
    config = configured(images / "one" / "lenses")
    run = finetuned(images / "run", config)
    with pytest.raises(DataError, match=r"every image of the test folder was left out \(18 dupl"):
        evaluate_run(run, config)

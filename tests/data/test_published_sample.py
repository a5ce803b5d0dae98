"""The published images, if a copy of the sample is available."""

import os
from pathlib import Path

import pytest

from deeplens_tf.data.folders import scan_folder
from deeplens_tf.data.image_files import read_image
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.preprocessing.scaling import resize_and_scale
from tests.data.image_folders import SETTINGS

SAMPLE = os.environ.get("DEEPLENS_SAMPLE")

pytestmark = pytest.mark.skipif(
    not SAMPLE, reason="DEEPLENS_SAMPLE does not name a folder with the published sample"
)


def test_every_file_of_model_ii_is_read():
    folder = scan_folder(Path(SAMPLE) / "Model_II")
    assert folder.classes == ("axion", "cdm", "no_sub")
    assert len(folder.files) == 180
    for file in folder.files:
        image, mass_ev = read_image(file.path)
        assert image.shape == (64, 64, 1)
        assert resize_and_scale(image, 64, "resize").shape == (64, 64, 1)
        assert (mass_ev is not None) == (file.label == 0)
        assert mass_ev is None or 1e-24 <= mass_ev <= 1e-22


def test_images_without_class_folders_are_unlabelled():
    folder = scan_folder(Path(SAMPLE) / "published")
    assert folder.classes == ()
    assert all(read_image(file.path)[0].max() == 1 for file in folder.files)


def test_the_sample_is_prepared_completely(tmp_path):
    manifest = prepare_folder(Path(SAMPLE) / "Model_II", tmp_path / "out", **SETTINGS)
    assert manifest.rejected == 0
    assert manifest.splits["train"].per_class == {"axion": 54, "cdm": 54, "no_sub": 54}
    assert manifest.splits["validation"].masses == 6

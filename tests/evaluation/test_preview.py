"""The preview of the augmentations: a few images of each class, named by their class."""

import numpy as np
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.evaluation import preview


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be written."""
    figures = []
    monkeypatch.setattr(preview, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def write_images(folder, count):
    folder.mkdir(parents=True)
    images = np.random.default_rng(len(folder.name)).random((count, 16, 16))
    for k, image in enumerate(images):
        np.save(folder / f"{k:03d}.npy", image)


def config_for(data, tmp_path):
    overrides = ["data.image_size=16", "encoder.patch_size=4", f"data.cache={tmp_path / 'cache'}"]
    return load_config("contrastive", overrides, data=str(data))


def test_each_row_is_named_by_its_class(tmp_path, drawn):
    for name in ("cdm", "no_sub"):
        write_images(tmp_path / "lenses" / name, 20)
    preview.draw_preview(config_for(tmp_path / "lenses", tmp_path), tmp_path / "views.png")
    labels = [axes.get_ylabel() for axes in drawn[0].axes]
    assert [label for label in labels if label] == ["cdm", "cdm", "no_sub", "no_sub"]


def test_unlabelled_rows_have_no_names(tmp_path, drawn):
    write_images(tmp_path / "lenses", 20)
    preview.draw_preview(config_for(tmp_path / "lenses", tmp_path), tmp_path / "views.png")
    assert drawn[0].axes
    assert not any(axes.get_ylabel() for axes in drawn[0].axes)

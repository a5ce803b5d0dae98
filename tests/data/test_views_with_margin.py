"""Views of cropped images: the whole image is augmented, and cut to the crop at the end."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

import deeplens_tf as dl
from deeplens_tf.augment import Augment, Flip, Rotation, Sometimes
from deeplens_tf.config import load_config
from deeplens_tf.data.batches import (
    image_batches,
    labelled_batches,
    pretraining_batches,
    view_batches,
)
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.prepared_data import dataset_facts, open_data
from deeplens_tf.data.view_making import build_augment, view_margin
from deeplens_tf.errors import DataError
from deeplens_tf.evaluation import preview
from deeplens_tf.preprocessing.scaling import crop_margin, resize_and_scale
from tests.data.image_folders import make_folder

SIZE, RAW = 16, 40
MARGIN = crop_margin(SIZE, "crop")
EARLIER = Path(__file__).parent.parent / "saving" / "earlier" / "prepared"
NOTE = "views are made without a margin"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("raw") / "lenses", {"a": 12, "b": 12}, (RAW, RAW))


def opened(source, tmp_path, **options):
    cache = tmp_path / "cache"
    return dl.data.open_folder(source, image_size=SIZE, fit="crop", cache=cache, **options)


def in_memory(source, data):
    """The training images of a prepared folder as arrays, in its order."""
    raw = [np.load(source / file) for file in data.index("train")["file"]]
    return dl.data.from_arrays(
        np.stack(raw), image_size=SIZE, fit="crop", validation_fraction=0, seed=data.seed
    )


def rotated_whole(image, angle_rad):
    """Rotate a whole raw image by SciPy, on the scale of its crop, and crop it."""
    first = (RAW - SIZE) // 2
    centre = slice(first, first + SIZE), slice(first, first + SIZE)
    low, high = image[centre].min(), image[centre].max()
    unit = ((image - low) / (high - low)).clip(0, 1)
    degrees = np.rad2deg(angle_rad)  # counter-clockwise, too
    return ndimage.rotate(unit, degrees, reshape=False, order=1, mode="reflect")[centre]


def angles_of(indices, seed, epoch, view):
    ((angles),) = Augment([Rotation()]).draw(tf.constant(indices), seed, epoch, view, (1, 1, 1))
    return angles.numpy()


def indices_of(batch, data):
    """The index of each image of a batch, found by its pixels."""
    stored = np.concatenate(list(image_batches(data, "train", 64)))
    differences = np.abs(stored[None] - batch["image"].numpy()[:, None]).max(axis=(2, 3, 4))
    assert differences.min(axis=1).max() == 0
    return differences.argmin(axis=1)


def assert_rotated_whole(views, raw, angles):
    for view, image, angle in zip(views, raw, angles, strict=True):
        np.testing.assert_allclose(view[..., 0], rotated_whole(image, angle), atol=1e-5)


def test_the_views_of_a_folder_are_the_whole_images_rotated_then_cropped(source, tmp_path):
    data = opened(source, tmp_path, seed=3)
    raw = np.stack([np.load(source / file) for file in data.index("train")["file"]])
    for step, batch in enumerate(pretraining_batches(data, "train", Augment([Rotation()]), 8, 2)):
        indices, epoch = indices_of(batch, data), step // (data.count("train") // 8)
        for number in (1, 2):
            angles = angles_of(indices, 3, epoch, number)
            assert_rotated_whole(batch[f"view_{number}"].numpy(), raw[indices], angles)
        expected = [resize_and_scale(raw[i][..., None], SIZE, "crop") for i in indices]
        np.testing.assert_array_equal(batch["image"], expected)


def test_the_view_that_is_fine_tuned_on_and_that_of_inpainting_are_too(source, tmp_path):
    data, augment = opened(source, tmp_path), Augment([Rotation()])
    raw = np.stack([np.load(source / file) for file in data.index("train")["file"]])
    stream = labelled_batches(data, "train", lambda batch: batch["index"], 8, augment, epochs=1)
    for views, indices in stream:
        assert_rotated_whole(views.numpy(), raw[indices.numpy()], angles_of(indices, 0, 0, 1))
    for batch in pretraining_batches(data, "train", augment, 8, 1, patches=4):
        indices = indices_of(batch, data)
        assert_rotated_whole(batch["view_1"].numpy(), raw[indices], angles_of(indices, 0, 0, 1))


def test_arrays_have_the_views_of_a_folder(source, tmp_path):
    data = opened(source, tmp_path, validation_fraction=0)
    arrays = in_memory(source, data)
    assert arrays.image_shape == data.image_shape == (SIZE, SIZE, 1)
    assert arrays.margin == data.margin == MARGIN
    augment = Augment(["flip", "rotation", "crop"])
    ours, theirs = (
        next(iter(pretraining_batches(each, "train", augment, 12, None))) for each in (data, arrays)
    )
    assert set(ours) == {"view_1", "view_2", "image", "label"}
    for key in ("view_1", "view_2", "image"):
        np.testing.assert_allclose(ours[key], theirs[key], atol=1e-6)
    (batch, _) = view_batches(arrays, augment, 12)
    assert batch["view_1"].shape == (12, SIZE, SIZE, 1)


def test_grey_images_are_repeated_with_their_margin(source, tmp_path):
    augment = Augment(["rotation"])
    grey, colour = (opened(source, tmp_path, bands=bands) for bands in (1, 3))
    one, three = (
        next(iter(pretraining_batches(data, "train", augment, 8, None))) for data in (grey, colour)
    )
    assert three["view_1"].shape == (8, SIZE, SIZE, 3)
    np.testing.assert_allclose(three["view_1"], np.repeat(one["view_1"], 3, axis=-1), atol=1e-6)


def test_only_views_read_the_margin(source, tmp_path):
    data = opened(source, tmp_path)
    plain = data.examples("train").element_spec
    assert set(plain) == {"image", "label", "mass_ev", "index", "file"}
    wide = data.examples("train", with_margin=True).element_spec["image_with_margin"]
    assert wide.shape == (SIZE + 2 * MARGIN, SIZE + 2 * MARGIN, 1)
    (images, _), *_ = labelled_batches(data, "validation", lambda batch: batch["label"], 2)
    assert images.shape == (2, SIZE, SIZE, 1)
    arrays = in_memory(source, data)
    assert "image_with_margin" not in arrays.examples("train").element_spec
    assert arrays.images.base is not None  # no second copy of the centres


@dataclass(frozen=True)
class Recording:
    """An augmentation that changes nothing and keeps the shapes that it meets."""

    shapes: list

    def draw(self, keys, image_shape):
        self.shapes.append(tuple(image_shape))
        return ()

    def apply(self, images, draws):
        self.shapes.append(tuple(images.shape[1:]))
        return images


def test_every_augmentation_acts_on_the_image_with_its_margin(source, tmp_path):
    shapes = []
    stream = pretraining_batches(
        opened(source, tmp_path), "train", Augment([Recording(shapes)]), 8, 1
    )
    batch = next(iter(stream))
    assert set(shapes) == {(SIZE + 2 * MARGIN, SIZE + 2 * MARGIN, 1)}
    np.testing.assert_array_equal(batch["view_1"], batch["image"])


@pytest.mark.parametrize(
    ("names", "margin"),
    [(["flip", "rot90", "brightness"], 0), ([], 0), (["flip", "rotation"], MARGIN)],
)
def test_the_margin_is_read_only_where_a_view_could_show_it(source, tmp_path, names, margin):
    data, augment = opened(source, tmp_path), Augment([Sometimes(Flip(), 0.5), *names])
    assert view_margin(data, augment) == margin
    wide = next(iter(data.examples("train", with_margin=True).batch(12)))
    batch = next(iter(pretraining_batches(data, "train", augment, 12, None)))
    images, index = wide["image_with_margin"], wide["index"]
    expected = augment.two_views(images, index, data.seed, 0, MARGIN)
    for number in (1, 2):
        np.testing.assert_allclose(batch[f"view_{number}"], expected[number - 1], atol=1e-5)


def test_resized_images_have_no_margin(source, tmp_path):
    data = dl.data.open_folder(source, image_size=SIZE, cache=tmp_path)
    assert (data.margin, data.manifest.settings["margin"], data.lacks_margin) == (0, 0, False)
    assert dl.data.from_arrays(np.random.default_rng(0).random((3, 9, 9))).margin == 0


def test_the_preview_draws_the_views_of_training(source, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(preview, "save_figure", lambda figure, path: None)
    monkeypatch.setattr(
        preview, "views_grid", lambda image, one, two, **options: drawn.update(one=one, two=two)
    )
    words = [f"data.path={source}", f"data.cache={tmp_path}", f"data.image_size={SIZE}"]
    words += ["data.fit=crop", "augment.views=[rotation]"]
    config = load_config("defaults", words)
    preview.draw_preview(config, tmp_path / "views.png")
    data = open_data(config)
    batch = next(iter(pretraining_batches(data, "train", build_augment(config.augment), 20, None)))
    views = batch["view_1"].numpy()
    assert len(drawn["one"]) == 4
    assert all((np.abs(views - view).max(axis=(1, 2, 3)) < 1e-6).any() for view in drawn["one"])


# Folders of earlier versions


def earlier_crop(tmp_path):
    """A folder that version 0.1.0 prepared, as if by data.fit=crop."""
    folder = tmp_path / "earlier"
    shutil.copytree(EARLIER, folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"fit": "resize"', '"fit": "crop"'))
    return folder


def test_a_folder_of_an_earlier_version_has_views_without_a_margin(tmp_path, capsys):
    data = dl.data.open_folder(earlier_crop(tmp_path))
    assert (data.margin, data.lacks_margin, data.image_shape) == (0, True, (8, 8, 1))
    assert dataset_facts(data)["image_margin"] == 0
    augment = Augment([Sometimes(Rotation(), 0.5)])
    batch = next(iter(view_batches(data, augment, 27)))
    assert capsys.readouterr().out.count(NOTE) == 1
    again = pretraining_batches(data, "train", augment, 27, 1)
    np.testing.assert_array_equal(batch["view_1"], next(iter(again))["view_1"])


@pytest.mark.parametrize(
    ("names", "view_2", "noted"),
    [(["flip", "rot90"], None, False), (["crop"], None, True), (["flip"], ["rotation"], True)],
)
def test_it_is_said_only_where_a_view_looks_outside(tmp_path, capsys, names, view_2, noted):
    view_batches(dl.data.open_folder(earlier_crop(tmp_path)), Augment(names, view_2), 9)
    assert (NOTE in capsys.readouterr().out) == noted


def test_nothing_is_said_of_images_that_were_resized_or_have_a_margin(source, tmp_path, capsys):
    view_batches(dl.data.open_folder(EARLIER), Augment(["rotation"]), 9)
    view_batches(opened(source, tmp_path), Augment(["rotation"]), 9)
    assert NOTE not in capsys.readouterr().out


@pytest.mark.parametrize("version", [1, 2])
def test_a_folder_of_an_earlier_version_is_not_up_to_date(source, tmp_path, version):
    """It has no digests of its images, with which copies of them are found."""
    settings = {"image_size": SIZE, "validation_fraction": 0.1, "seed": 0}
    dl.data.prepare_folder(source, tmp_path / "out", **settings)
    path = tmp_path / "out" / "manifest.json"
    values = json.loads(path.read_text())
    if version == 1:
        del values["settings"]["margin"]
    path.write_text(json.dumps(values | {"format_version": version}))
    assert dl.data.open_folder(tmp_path / "out").margin == 0
    with pytest.raises(ValueError, match=r"another preparation \(by an earlier version\)"):
        dl.data.prepare_folder(source, tmp_path / "out", **settings)


@pytest.mark.parametrize("margin", [0, MARGIN - 1, MARGIN + 1])
def test_shards_of_another_margin_than_the_manifests_are_refused(source, tmp_path, margin):
    out = tmp_path / "prepared"
    settings = {"image_size": SIZE, "fit": "crop", "validation_fraction": 0.1, "seed": 0}
    dl.data.prepare_folder(source, out, **settings)
    path = out / "manifest.json"
    text = path.read_text().replace(f'"margin": {MARGIN}', f'"margin": {margin}')
    path.write_text(text)
    with pytest.raises(DataError, match=r"damaged train split|its size is not that of"):
        dl.data.open_folder(out)


def test_the_shards_hold_the_margin_and_the_manifest_says_so(source, tmp_path):
    data = opened(source, tmp_path)
    values = json.loads((data.folder / "manifest.json").read_text())
    assert (values["format_version"], values["settings"]["margin"]) == (3, MARGIN)
    manifest = Manifest.load(data.folder)
    assert manifest.image_shape == (SIZE, SIZE, 1)
    assert manifest.stored_shape == (SIZE + 2 * MARGIN, SIZE + 2 * MARGIN, 1)
    assert dataset_facts(data)["image_margin"] == MARGIN

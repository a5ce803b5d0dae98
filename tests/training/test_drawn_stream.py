"""Pretraining on new lenses: their pixels, their order, exact resuming, what is refused."""

import itertools
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from deeplens_tf import load_encoder
from deeplens_tf.config import load_config
from deeplens_tf.data.drawn_batches import drawn_batches
from deeplens_tf.data.prepared_data import open_data, open_folder
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.data.streams import BEGINNING, Position
from deeplens_tf.data.view_making import build_augment
from deeplens_tf.distribution.strategy import Distribution
from deeplens_tf.errors import DataError, RequestError, ResourceError
from deeplens_tf.evaluation.overlaps import overlap
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.runs.seen_images import images_of_encoder, read_images
from deeplens_tf.simulation import simulate
from deeplens_tf.simulation.request import MAX_COUNT
from deeplens_tf.simulation.request_file import recorded_request
from deeplens_tf.simulation.skies import USUAL_SKY, Sky
from deeplens_tf.training import drawn_stream
from deeplens_tf.training.callbacks import CollapseWarning
from deeplens_tf.training.drawn_stream import DrawnStream, open_stream, streamed_request
from deeplens_tf.training.lens_drawing import LensDrawing
from deeplens_tf.training.pretraining import pretrain
from tests.conftest import CLASSES, eagerly, without_pictures
from tests.test_process_pool import die, is_running
from tests.training.breaking_off import Stop, break_off_in_step

WIDE = dict(lens_prior="wide", shared="substructure", views_per_lens=2)
BATCH, EPOCHS = 3, 3
CROP = dict(image_size=16, fit="crop")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with 12 simulated lenses, d."""
    root = tmp_path_factory.mktemp("stream")
    simulate(root / "d", 4, seed=5, **WIDE)
    return root


@pytest.fixture(scope="module")
def configured(root):
    """Configurations of runs that take seconds: 9 pairs in an epoch, and 3 to validate."""
    small = dict(patch_size=8, width=16, depth=1, heads=2, mlp_width=32)

    def configure(*words, name="contrastive", data=root / "d"):
        words = [
            *(f"data.{key}={value}" for key, value in CROP.items()),
            *(f"data.cache={root / 'cache'}", "train.epochs=2"),
            *("pretrain.projection_width=8", "train.batch_size=4"),
            "train.validate_every_epochs=2",
            *("train.jit_compile=false", "data.validation_fraction=0.25"),
            *("pretrain.positives=object", "pretrain.stream=true", *words),
        ]
        return load_config(name, words, str(data))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "vit_nano", small)
        patch.setattr(drawn_stream, "MIN_PROCESSES", 1)  # the calling one
        patch.setattr(drawn_stream, "available_cores", lambda: 1)
        yield configure


@pytest.fixture(scope="module")
def whole(configured, tmp_path_factory):
    """A run that nothing stopped."""
    with eagerly(), without_pictures():
        return pretrain(configured(), "it", str(tmp_path_factory.mktemp("runs") / "whole"))


def drawing_of(folder, first=MAX_COUNT, **settings):
    data = open_folder(folder, cache=folder.parent / "cache", **settings)
    return LensDrawing(recorded_request(folder), data.preprocessing.framing, first)


def stream_of(drawing, processes=1):
    return DrawnStream(drawing, 10, BATCH, EPOCHS, 0, processes)


@pytest.mark.parametrize(
    ("simulated", "settings"),
    [
        ({"source_prior": "wide", "sky": Sky(psf_scale="0.8:1.2", lens_offset_pixels=2)}, CROP),
        pytest.param({"preset": "model_i"}, dict(image_size=16), marks=pytest.mark.slow),
        pytest.param(
            {"format": "fits", "classes": ["no_sub", "cdm"]},
            dict(image_size=16, fit="crop", resample_to_arcsec=0.15, bands=3),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["crop", "noise, resized", "resampled"],
)
def test_a_new_lens_has_the_pixels_that_simulating_and_preparing_it_give(
    simulated, settings, tmp_path
):
    options = WIDE | simulated
    simulate(tmp_path / "d", 3, **options)
    drawing = drawing_of(tmp_path / "d", first=3, **settings)
    simulate(tmp_path / "d", 5, **options)  # lenses 3 and 4 of each class
    bands = settings.pop("bands", None)
    prepare_folder(tmp_path / "d", tmp_path / "p", seed=0, **settings)
    data = open_folder(tmp_path / "p", bands=bands)
    prepared, request = {}, recorded_request(tmp_path / "d")
    for split in ("train", "validation"):
        examples = data.examples(split, with_margin=True)
        for file, example in zip(data.index(split)["file"], examples, strict=True):
            prepared[file] = example["image_with_margin"].numpy()
    for number, (index, name) in enumerate(itertools.product((3, 4), request.classes)):
        for view, image in enumerate(drawing.pair(number)):
            expected = prepared[f"{name}/{request.image_path(name, index, view).name}"]
            np.testing.assert_array_equal(np.tile(image, data.preprocessing.repeat), expected)
            assert drawing.labels(np.array([number])) == [data.classes.index(name)]


def test_an_image_that_preparing_would_leave_out_is_replaced(root, monkeypatch):
    drawing, asked = drawing_of(root / "d", **CROP), []

    def image(self, name, index, view):
        asked.append((name, index, view))
        return None if view in (0, 2) else view

    monkeypatch.setattr(LensDrawing, "image", image)
    assert drawing.pair(7) == [1, 3]
    assert asked == [("cdm", MAX_COUNT + 2, view) for view in range(4)]
    monkeypatch.setattr(LensDrawing, "image", lambda *_: None)
    with pytest.raises(DataError, match=r"pretrain\.stream: lens 100000002 of cdm has no two"):
        drawing.pair(7)


def test_every_epoch_has_its_own_lenses_and_any_step_can_be_made_again(root):
    drawing = drawing_of(root / "d", **CROP)
    made = list(stream_of(drawing).batches(BEGINNING))
    assert [batch.epoch for batch in made] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    orders = [np.concatenate([b.numbers for b in made if b.epoch == e]).tolist() for e in range(3)]
    for order in orders:
        assert len(set(order)) == 9
        assert set(order) < set(range(10))
    assert len(set(map(tuple, orders))) == 3
    for batch in made:
        numbers = 10 * batch.epoch + batch.numbers
        np.testing.assert_array_equal(batch.labels, numbers % 3)
        pairs = [drawing.pair(number) for number in numbers]
        np.testing.assert_array_equal(batch.images, np.stack(pairs, axis=1))
    for ours, theirs in zip(stream_of(drawing).batches(Position(1, 2)), made[5:], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_processes_draw_the_same_and_are_gone_at_the_end(root):
    drawing = drawing_of(root / "d", **CROP)
    with stream_of(drawing, processes=2) as stream:
        batches = stream.batches(BEGINNING)
        for ours, theirs in zip(batches, stream_of(drawing).batches(BEGINNING), strict=False):
            np.testing.assert_array_equal(ours.images, theirs.images)
            if ours.epoch == 1:
                break
        pids = list(stream._workers._pool._processes)
    assert len(pids) == 2
    assert not any(map(is_running, pids))
    assert list(batches) == []  # which TensorFlow may still ask for
    assert list(stream.batches(BEGINNING)) == []
    assert stream._workers._pool is None


def test_a_killed_process_is_named(root, monkeypatch):
    monkeypatch.setattr(drawn_stream, "drawn_images", die)
    stream = stream_of(drawing_of(root / "d", **CROP), processes=2)
    with pytest.raises(ResourceError, match="a worker process was killed"), stream:
        next(stream.batches(BEGINNING))


def test_processes_that_draw_do_not_load_tensorflow():
    work = "import sys, deeplens_tf.training.lens_drawing; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", work], check=True)


@pytest.mark.parametrize("masked_views", [False, True])
def test_views_are_made_of_the_pair_as_of_two_images(masked_views, configured):
    config = configured("data.bands=3", "augment.views=[rotation, gaussian_noise]")
    data, augment = open_data(config), build_augment(config.augment)
    stream = open_stream(recorded_request_of(config), data, config, 9)
    options = (data, augment, 4, 4 * masked_views, masked_views)
    batches = list(drawn_batches(lambda: stream.batches(Position(1, 1)), *options))
    drawn = list(stream.batches(Position(1, 1)))
    assert len(batches) == len(drawn) == 1
    for batch, pairs in zip(batches, drawn, strict=True):
        margin = data.margin
        assert margin > 0
        for view in (1, 2):
            wide = np.tile(pairs.images[view - 1], (1, 1, 1, 3))
            index = 2 * pairs.numbers + view - 1
            expected = augment.view(wide, index, data.seed, pairs.epoch, view, margin)
            np.testing.assert_array_equal(batch[f"view_{view}"], expected)
            assert (f"patch_order_{view}" in batch) == masked_views
        first = np.tile(pairs.images[0], (1, 1, 1, 3))[:, margin:-margin, margin:-margin]
        np.testing.assert_array_equal(batch["image"], first)
        np.testing.assert_array_equal(batch["label"], pairs.labels)


def recorded_request_of(config):
    return streamed_request(config, Distribution())


def assert_same_run(run, other):
    assert run.history.read_bytes() == other.history.read_bytes()
    weights = [load_encoder(it.folder).get_weights() for it in (run, other)]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures", "eager_steps")
def test_a_run_that_is_stopped_within_an_epoch_resumes_exactly(
    configured, whole, tmp_path, monkeypatch
):
    config = configured("checkpoint.every_steps=3")  # of four
    with monkeypatch.context() as patch, pytest.raises(Stop):
        break_off_in_step(patch, CollapseWarning, 4)
        pretrain(config, "it", str(tmp_path / "run"))
    assert_same_run(pretrain(config, "it", str(tmp_path / "run")), whole)


@pytest.mark.slow
def test_a_run_records_what_it_drew_and_no_stored_image(whole, configured, root):
    assert whole.facts()["stream"] == {
        **{"preset": "model_ii", "seed": 5, "noise": False, "classes": list(CLASSES)},
        **{"shared": "substructure", "lens_prior": "wide", "source_prior": "published"},
        **USUAL_SKY.describe(),
        **{"first_lens": MAX_COUNT, "pairs_per_epoch": 9},
    }
    assert read_images(whole).empty
    assert images_of_encoder(whole, "it").empty
    index = open_data(configured()).index("train")
    found = overlap(whole, index, "train")
    assert found.checked
    assert not (found.trained | found.chose_epoch | found.unlabelled).any()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures", "eager_steps")
def test_a_run_is_not_resumed_with_other_lenses(configured, whole, root, tmp_path):
    run = shutil.copytree(whole.folder, tmp_path / "run")
    Run(run).add_facts({"stream": {**whole.facts()["stream"], "seed": 6}, "finished": None})
    with pytest.raises(DataError, match="started with other new lenses"):
        pretrain(configured("train.epochs=3"), "it", str(run))


@pytest.mark.usefixtures("no_pictures", "eager_steps")
def test_an_error_of_a_process_ends_the_run_as_what_it_is(configured, tmp_path, monkeypatch):
    def fail(numbers, drawing):
        raise DataError("no such lens")

    monkeypatch.setattr(drawn_stream, "drawn_images", fail)
    with pytest.raises(DataError, match=r"^no such lens$"):
        pretrain(configured(), "it", str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("pretrain.positives=image",), "pairs of one lens: set pretrain.positives=object"),
        (("pretrain.negatives=neighbours",), "pretrain.negatives=random: neighbours"),
    ],
)
def test_settings_under_which_no_pair_is_drawn_are_refused(words, line, configured, tmp_path):
    with pytest.raises(RequestError, match=f"pretrain.stream needs {line}"):
        pretrain(configured(*words), "it", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_folders_from_which_no_pair_is_drawn_are_refused(
    configured, root, tmp_path, blobs_folder, monkeypatch
):
    prepare_folder(root / "d", tmp_path / "p", seed=0, **CROP)
    simulate(tmp_path / "one", 1)
    simulate(tmp_path / "d", 1, split="test", **WIDE)
    for folder, line in (
        (blobs_folder, "a folder that simulate wrote, with its simulation.json, as data.path"),
        (tmp_path / "p", "a folder that simulate wrote"),
        (tmp_path / "one", f"lenses of two images: simulate {tmp_path / 'one'} with --views-per"),
        (tmp_path / "d_test", "a training split"),
    ):
        with pytest.raises(RequestError, match=f"pretrain.stream needs {line}"):
            streamed_request(configured(data=folder), Distribution())
    two = Distribution(workers=2)
    with pytest.raises(RequestError, match="needs one machine: --strategy none or mirrored"):
        streamed_request(configured(), two)


def test_images_of_another_simulation_than_the_record_says_are_refused(configured, root, tmp_path):
    folder = shutil.copytree(root / "d", tmp_path / "d")
    record = json.loads((folder / "simulation.json").read_text())
    for change in ({"seed": 6}, {"lens_prior": "published"}, {"shared": "lens"}):
        (folder / "simulation.json").write_text(json.dumps(record | change))
        config = configured(data=folder)
        data, request = open_data(config), recorded_request(folder)
        with pytest.raises(DataError, match="is not what this version simulates"):
            open_stream(request, data, config, 9)
    (folder / "simulation.json").write_text(json.dumps(record | {"classes": ["cdm"]}))
    with pytest.raises(DataError, match="its classes are not those of"):
        open_stream(recorded_request(folder), data, config, 9)

"""Several images of each lens in a folder: what they show, and the tables that list them."""

import csv
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from deeplens_tf.simulation.generation import run_request
from deeplens_tf.simulation.priors import CLASSES, draw_lens
from deeplens_tf.simulation.render import render_image, render_smooth
from deeplens_tf.simulation.request import SimulationRequest


@pytest.fixture
def make(tmp_path):
    def make_request(name="sim", **changes):
        options = {"preset": "model_ii", "count": 3, "seed": 1, "views_per_lens": 2} | changes
        return SimulationRequest(out=tmp_path / name, **options)

    return make_request


def tables(folder, name):
    """Name of each table -> its rows, file -> value."""
    return {path.name: rows(path) for path in folder.glob(f"{name}*.csv")}


def rows(path):
    with path.open(newline="") as file:
        _, *found = csv.reader(file)
    assert len(dict(found)) == len(found)
    return dict(found)


def expected_objects(count, views=2, classes=CLASSES, split="train"):
    return {
        f"{name}/{name}_sim_{index:08d}_{view:02d}.npy": f"{split}_{name}_{index:08d}"
        for name, index, view in product(classes, range(count), range(views))
    }


def image_files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.npy")
    }


def test_every_file_is_listed_with_its_lens(make):
    run_request(make())
    table = rows(make().folder / "objects.csv")
    assert table == expected_objects(3)
    assert table.keys() == image_files(make().folder).keys()
    assert list(table) == sorted(table)


def test_one_image_of_each_lens_has_no_table_of_objects(make):
    run_request(make(views_per_lens=1))
    assert tables(make().folder, "objects") == {}


def test_test_images_are_of_other_objects(make):
    run_request(make(split="test"))
    assert rows(make(split="test").folder / "objects.csv") == expected_objects(3, split="test")


def test_all_images_of_a_lens_have_its_mass(make):
    request = make(views_per_lens=3)
    run_request(request)
    assert rows(request.folder / "axion" / "masses.csv") == {
        f"axion_sim_{index:08d}_{view:02d}.npy": repr(request.lens("axion", index).axion_mass_ev)
        for index, view in product(range(3), range(3))
    }


@pytest.mark.parametrize(("preset", "noise"), [("model_i", True), ("model_ii", False)])
def test_one_image_of_each_lens_is_what_it_was(make, preset, noise):
    request = make(preset=preset, views_per_lens=1)
    run_request(request)
    for class_name, index in product(CLASSES, range(3)):
        key = ({"model_i": 0, "model_ii": 1}[preset], 0, CLASSES.index(class_name), index)
        rng = np.random.default_rng(np.random.SeedSequence(1, spawn_key=key))
        image = np.load(request.folder / class_name / f"{class_name}_sim_{index:08d}.npy")
        assert np.array_equal(image, render_image(draw_lens(preset, class_name, rng), noise))


@pytest.mark.parametrize(
    ("class_name", "noise_seed", "flux", "pixel"),
    [
        ("axion", 3110508830852593642, 451.86128166149547, 0.44040218046604246),
        ("cdm", 8470553049610035385, 379.02584331491545, 0.09804884737675776),
        ("no_sub", 4778422012034766003, 414.5791442498838, 0.3326972652221807),
    ],
)
@pytest.mark.parametrize("views", [1, 2])
def test_images_of_earlier_versions_are_unchanged(views, class_name, noise_seed, flux, pixel, make):
    # Not a digest of the pixels: another processor may round an exponential differently.
    lens = make(seed=3, count=6, views_per_lens=views).lens(class_name, 5)
    image = render_image(lens)
    assert lens.noise_seed == noise_seed
    assert (image.sum(), image[20, 30]) == pytest.approx((flux, pixel), rel=1e-11)


def test_the_first_image_of_each_lens_is_its_only_one(make):
    run_request(make("one", views_per_lens=1))
    run_request(make("three", views_per_lens=3))
    one, three = image_files(make("one").folder), image_files(make("three").folder)
    assert {name.replace("_00.npy", ".npy"): data for name, data in three.items()}.items() >= (
        one.items()
    )
    assert len(set(three.values())) == len(three) == 3 * len(one)


@pytest.mark.parametrize("class_name", ["axion", "cdm"])
def test_the_images_of_a_lens_show_one_deflector_and_two_sources(make, class_name):
    request = make(count=2)
    run_request(request)
    first, second = (request.lens(class_name, 0, view) for view in (0, 1))
    image = np.load(request.image_path(class_name, 0, 1))

    def residual(lens):
        return np.abs(image - render_image(lens)).max() / image.max()

    # The deflector of view 0 with the source of view 1 gives view 1, to the bit.
    source = {name: getattr(second, name) for name in ("source_x_arcsec", "source_y_arcsec")}
    assert residual(replace(first, **source)) == 0
    assert residual(first) > 0.1
    assert residual(replace(request.lens(class_name, 1), **source)) > 1e-3
    assert np.abs(image - render_smooth(second)).max() > 1e-3 * image.max()


def test_noise_differs_between_the_images_of_a_lens(make):
    clean, noisy = make("clean", count=1), make("noisy", count=1, noise=True)
    noises = []
    for view in (0, 1):
        lens = noisy.lens("no_sub", 0, view)
        assert lens == clean.lens("no_sub", 0, view)
        noises.append(render_image(lens, noise=True) - render_image(lens) / 2)
    correlation = np.corrcoef(noises[0].ravel(), noises[1].ravel())[0, 1]
    assert abs(correlation) < 5 / 64  # five standard deviations of independent noise


def test_a_larger_count_lists_the_new_lenses(make):
    run_request(make(count=2))
    outcome = run_request(make(count=4))
    assert (outcome.written, outcome.kept) == (12, 12)
    assert rows(make().folder / "objects.csv") == expected_objects(4)


def test_a_class_that_is_added_is_listed(make):
    run_request(make(classes=("cdm",)))
    run_request(make(classes=("cdm", "no_sub")))
    assert rows(make().folder / "objects.csv") == expected_objects(3, classes=("cdm", "no_sub"))


def test_a_resumed_run_completes_images_and_table(make):
    run_request(make())
    complete = image_files(make().folder)
    make().image_path("cdm", 2, 1).unlink()
    (make().folder / "objects.csv").unlink()
    outcome = run_request(make())
    assert (outcome.written, outcome.kept) == (1, 17)
    assert image_files(make().folder) == complete
    assert rows(make().folder / "objects.csv") == expected_objects(3)


def test_objects_are_listed_before_their_images_exist(make, monkeypatch):
    monkeypatch.setattr("deeplens_tf.simulation.generation.file_content", None)
    with pytest.raises(TypeError):
        run_request(make())
    assert image_files(make().folder) == {}
    assert rows(make().folder / "objects.csv") == expected_objects(3)


@pytest.mark.slow
def test_jobs_change_no_byte(make):
    run_request(make("alone", count=9))
    run_request(make("pooled", count=9), jobs=2)
    for name in ("objects.csv", "axion/masses.csv"):
        alone, pooled = (
            (make(folder).folder / name).read_bytes() for folder in ("alone", "pooled")
        )
        assert alone == pooled
    assert image_files(make("pooled").folder) == image_files(make("alone").folder)


def test_shards_write_the_images_and_tables_of_a_whole_run_in_parts(make):
    run_request(make("whole"))
    for i in (2, 1):
        run_request(make("sharded", shard=(i, 2)))
    whole, sharded = make("whole").folder, make("sharded").folder
    assert image_files(sharded) == image_files(whole)
    for folder, name in (("", "objects"), ("axion", "masses")):
        parts = tables(sharded / folder, name)
        assert parts.keys() == {f"{name}-1-of-2.csv", f"{name}-2-of-2.csv"}
        first, second = parts.values()
        assert not first.keys() & second.keys()
        assert first | second == rows(whole / folder / f"{name}.csv")


def test_no_image_is_listed_twice_after_a_folder_was_extended_by_shards(make):
    run_request(make(count=2, classes=("axion", "cdm")))
    for i in (1, 2):
        run_request(make(count=4, shard=(i, 2)))
    for i in (1, 2, 3):
        run_request(make(count=7, shard=(i, 3)))
        run_request(make(count=7, shard=(i, 3)))
    found = tables(make().folder, "objects")
    assert len(found) == 1 + 2 + 3
    listed = [row for table in found.values() for row in table.items()]
    assert sorted(listed) == sorted(expected_objects(7).items())


def test_a_run_without_shards_replaces_their_tables_and_no_other_file(make):
    run_request(make(shard=(1, 2)))
    (make().folder / "objects of interest.csv").touch()
    run_request(make())
    names = {path.name for path in make().folder.glob("*.csv")}
    assert names == {"objects.csv", "objects of interest.csv"}

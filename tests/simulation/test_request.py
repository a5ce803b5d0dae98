import itertools
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.priors import CLASSES, LENS_PRIORS, PRESETS, draw_lens
from deeplens_tf.simulation.request import SIMULATED_SPLITS, SimulationRequest


def request(**changes):
    return SimulationRequest(**({"preset": "model_ii", "count": 10, "out": Path("sim")} | changes))


def source(request_, class_name="cdm", index=0, view=0):
    lens = request_.lens(class_name, index, view)
    return lens.source_x_arcsec, lens.source_y_arcsec


def test_test_split_is_next_to_the_training_split():
    assert request(out=Path("data/sim"), split="test").folder == Path("data/sim_test")
    assert request(out=Path("data/sim")).folder == Path("data/sim")


def test_test_split_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert request(out=Path(), split="test").folder == tmp_path.with_name(tmp_path.name + "_test")


def test_no_two_images_have_one_source():
    sources = [
        source(request(preset=preset, split=split, seed=seed), class_name, index, view)
        for preset in PRESETS
        for split in SIMULATED_SPLITS
        for seed in (0, 1, 2**63 - 1)
        for class_name in CLASSES
        for index in (0, 1, 2, 2**20)
        for view in (0, 1, 2, 99)
    ]
    assert len(set(sources)) == len(sources) == 3 * 2 * 3 * 3 * 4 * 4


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1},
        {"out": Path("elsewhere")},
        {"classes": ("cdm",)},
        {"shard": (2, 3)},
        {"views_per_lens": 2},
        {"views_per_lens": 2, "shared": "substructure"},
    ],
)
@pytest.mark.parametrize("lens_prior", LENS_PRIORS)
def test_a_lens_does_not_depend_on_the_other_options(changes, lens_prior):
    changed, plain = request(**changes, lens_prior=lens_prior), request(lens_prior=lens_prior)
    assert changed.lens("cdm", 7) == plain.lens("cdm", 7)


def test_noise_changes_no_lens():
    assert request(noise=True).lens("cdm", 7) == request().lens("cdm", 7)


def test_lenses_of_earlier_versions_are_unchanged():
    # A later version may extend a folder, so the same seed must keep drawing the same lenses.
    lens = request(seed=3).lens("axion", 5)
    assert lens.source_x_arcsec == 0.26834729260058043
    assert lens.axion_mass_ev == pytest.approx(1.5340972344564177e-24, rel=1e-12)


PER_IMAGE = {"source_x_arcsec", "source_y_arcsec", "exposure_time_s", "noise_seed"}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("class_name", CLASSES)
def test_images_of_a_lens_share_all_but_source_exposure_and_noise(preset, class_name):
    request_ = request(preset=preset, views_per_lens=3)
    first, *others = [request_.lens(class_name, 5, view) for view in request_.views]
    drawn_anew = PER_IMAGE - (set() if preset == "model_i" else {"exposure_time_s"})
    for other in others:
        values = {f.name: (getattr(first, f.name), getattr(other, f.name)) for f in fields(first)}
        assert {name for name, (one, two) in values.items() if one != two} == drawn_anew
    assert len({lens.noise_seed for lens in (first, *others)}) == 3


def test_what_is_drawn_anew_is_a_draw_from_the_priors():
    later = request(seed=3, views_per_lens=3).lens("axion", 5, 2)
    seeds = np.random.SeedSequence(3, spawn_key=(1, 0, 0, 5, 2))
    drawn = draw_lens("model_ii", "axion", np.random.default_rng(seeds))
    assert [getattr(later, name) for name in PER_IMAGE] == [
        getattr(drawn, name) for name in PER_IMAGE
    ]
    assert drawn.substructure != later.substructure


@pytest.mark.parametrize("class_name", CLASSES)
def test_sharing_the_substructure_alone_changes_nothing_while_halo_and_shear_are_fixed(class_name):
    whole, part = (request(views_per_lens=2, shared=s) for s in ("lens", "substructure"))
    for index in range(20):
        assert part.lens(class_name, index, 1) == whole.lens(class_name, index, 1)


HALO = {"halo_mass_solar", "halo_e1", "halo_e2", "shear_gamma1", "shear_gamma2"}


def names_of_differing(one, two):
    return {f.name for f in fields(one) if getattr(one, f.name) != getattr(two, f.name)}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("class_name", CLASSES)
def test_the_wide_prior_changes_halo_and_shear_alone(preset, class_name):
    published, wide = (request(preset=preset, lens_prior=each) for each in LENS_PRIORS)
    lenses = [wide.lens(class_name, index) for index in range(20)]
    for index, lens in enumerate(lenses):
        assert names_of_differing(lens, published.lens(class_name, index)) == HALO
    assert len({lens.halo_mass_solar for lens in lenses}) == 20


@pytest.mark.parametrize(("shared", "drawn_anew"), [("lens", set()), ("substructure", HALO)])
def test_a_wide_halo_is_shared_with_the_lens_only(shared, drawn_anew):
    wide = request(views_per_lens=3, shared=shared, lens_prior="wide")
    first, *others = (wide.lens("cdm", 0, view) for view in wide.views)
    for other in others:
        assert names_of_differing(first, other) == drawn_anew | PER_IMAGE - {"exposure_time_s"}
    assert len({lens.halo_e1 for lens in (first, *others)}) == (3 if drawn_anew else 1)


def test_the_survey_has_no_choice_of_a_lens_prior():
    with pytest.raises(RequestError, match="has its own lenses: lens_prior needs another preset"):
        request(preset="sersic_survey", lens_prior="wide")


def test_shards_partition_the_images():
    parts = [list(request(shard=(i, 3)).images()) for i in (1, 2, 3)]
    assert sorted(itertools.chain(*parts)) == sorted(request().images())


def test_file_names_sort_by_index():
    paths = [request(count=10**8).image_path("cdm", index) for index in (0, 9, 10, 99_999_999)]
    assert paths == sorted(paths)
    assert paths[1] == Path("sim/cdm/cdm_sim_00000009.npy")


def test_file_names_sort_by_lens_and_then_by_view():
    request_ = request(count=11, classes=("cdm",), views_per_lens=11)
    paths = [request_.image_path(*image) for image in request_.images()]
    assert paths == sorted(paths)
    assert len(set(paths)) == 121
    assert paths[12] == Path("sim/cdm/cdm_sim_00000001_01.npy")


def test_a_request_for_model_i_is_noisy():
    assert request(preset="model_i").noise
    assert not request().noise


def test_classes_are_sorted_and_unique():
    assert request(classes=("no_sub", "axion", "axion")).classes == ("axion", "no_sub")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "model_iv"}, "unknown preset 'model_iv'; known: model_i, model_ii, model_iii"),
        ({"split": "val"}, "unknown split 'val'; known: train, test"),
        ({"classes": ("wdm",)}, "unknown class 'wdm'; known: axion, cdm, no_sub"),
        ({"classes": ()}, "no class to simulate"),
        ({"count": 0}, "count must be from 1"),
        ({"count": -3}, "Received: -3"),
        ({"seed": -1}, "seed must be from 0"),
        ({"seed": 2**63}, "seed must be from 0"),
        ({"shard": (0, 3)}, "Received: 0/3"),
        ({"shard": (4, 3)}, "Received: 4/3"),
        ({"views_per_lens": 0}, "views_per_lens must be from 1 to 100. Received: 0"),
        ({"views_per_lens": 101}, "Received: 101"),
        ({"source_prior": "narrow"}, "unknown source prior 'narrow'; known: published, wide"),
        (
            {"views_per_lens": 2, "shared": "halo"},
            "unknown shared part 'halo'; known: lens, substructure",
        ),
        ({"shared": "substructure"}, "views_per_lens must be at least 2. Received: 1"),
        ({"out": Path("data/sim_test")}, "use out data/sim and split test"),
    ],
)
def test_invalid_requests_are_refused_with_what_is_valid(changes, message):
    with pytest.raises(RequestError) as error:
        request(**changes)
    assert message in str(error.value)


def test_seeds_use_numpys_documented_stream():
    seeds = np.random.SeedSequence(3, spawn_key=(1, 0, 1, 7))
    x, y = np.random.default_rng(seeds).uniform(-0.35, 0.35, 2)
    assert source(request(seed=3), "cdm", 7) == (x, y)

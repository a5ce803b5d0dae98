import itertools
from pathlib import Path

import numpy as np
import pytest

from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.priors import CLASSES, PRESETS
from deeplens_tf.simulation.request import SIMULATED_SPLITS, SimulationRequest


def request(**changes):
    return SimulationRequest(**({"preset": "model_ii", "count": 10, "out": Path("sim")} | changes))


def source(request_, class_name="cdm", index=0):
    lens = request_.lens(class_name, index)
    return lens.source_x_arcsec, lens.source_y_arcsec


def test_test_split_is_next_to_the_training_split():
    assert request(out=Path("data/sim"), split="test").folder == Path("data/sim_test")
    assert request(out=Path("data/sim")).folder == Path("data/sim")


def test_test_split_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert request(out=Path(), split="test").folder == tmp_path.with_name(tmp_path.name + "_test")


def test_no_two_lenses_are_alike():
    sources = [
        source(request(preset=preset, split=split, seed=seed), class_name, index)
        for preset in PRESETS
        for split in SIMULATED_SPLITS
        for seed in (0, 1, 2**63 - 1)
        for class_name in CLASSES
        for index in (0, 1, 2, 2**20)
    ]
    assert len(set(sources)) == len(sources) == 3 * 2 * 3 * 3 * 4


@pytest.mark.parametrize(
    "changes",
    [{"count": 1}, {"out": Path("elsewhere")}, {"classes": ("cdm",)}, {"shard": (2, 3)}],
)
def test_a_lens_does_not_depend_on_the_other_options(changes):
    assert request(**changes).lens("cdm", 7) == request().lens("cdm", 7)


def test_noise_changes_no_lens():
    assert request(noise=True).lens("cdm", 7) == request().lens("cdm", 7)


def test_lenses_of_earlier_versions_are_unchanged():
    # A later version may extend a folder, so the same seed must keep drawing the same lenses.
    lens = request(seed=3).lens("axion", 5)
    assert lens.source_x_arcsec == 0.26834729260058043
    assert lens.axion_mass_ev == pytest.approx(1.5340972344564177e-24, rel=1e-12)


def test_shards_partition_the_images():
    parts = [list(request(shard=(i, 3)).images()) for i in (1, 2, 3)]
    assert sorted(itertools.chain(*parts)) == sorted(request().images())


def test_file_names_sort_by_index():
    paths = [request(count=10**8).image_path("cdm", index) for index in (0, 9, 10, 99_999_999)]
    assert paths == sorted(paths)
    assert paths[1] == Path("sim/cdm/cdm_sim_00000009.npy")


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

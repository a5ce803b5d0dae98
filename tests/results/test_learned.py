"""What a linear model reads from known mixtures of parameters, and whose lens a file shows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deeplens_tf import simulate
from deeplens_tf.simulation.request import SimulationRequest
from results import learned
from results.rows import ALL, SKIES

WIDE = next(sky for sky in SKIES if sky.name == "wide")


@pytest.fixture(scope="module")
def images():
    """Labels and lenses of 150 images to fit to and of 90 test images."""
    tables = {}
    for key, split, count in (("fit", "train", 50), ("test", "test", 30)):
        request = SimulationRequest(
            "model_ii", count, Path(key), 0, False, split, lens_prior="wide"
        )
        lenses = [(name, request.lens(name, index)) for name, index, _ in request.images()]
        tables[key] = pd.DataFrame(lenses, columns=["label", "lens"])
    return tables


def features_with(images, *names):
    """Yield features that mix some parameters linearly, among noise."""
    mixing = np.random.default_rng(0).normal(size=(20, 20))
    for key, table in images.items():
        noise = np.random.default_rng(len(key)).normal(scale=0.05, size=(len(table), 20))
        of = [learned.PARAMETERS[name].of for name in names]
        known = np.array([np.concatenate([f(lens) for f in of]) for lens in table["lens"]])
        noise[:, : known.shape[1]] = known
        yield key, noise @ mixing


def test_parameters_that_the_features_contain_are_found_and_others_are_not(images):
    features = dict(features_with(images, "source", "shear"))
    found = dict(learned.read_scores(features["fit"], features["test"], images))
    assert found.keys() == {*learned.PARAMETERS, learned.CLASSES}
    assert found["source"] > 0.99
    assert found["shear"] > 0.99
    assert max(found["halo_mass"], found["halo_shape"], found["vortex"]) < 0.2
    assert found[learned.CLASSES] == pytest.approx(0.5, abs=0.12)


def test_parameters_that_do_not_vary_are_left_out(images):
    halo = {"halo_mass_solar": 1e12, "halo_e1": 0.1, "halo_e2": 0.0}
    shear = {"shear_gamma1": 0.05, "shear_gamma2": 0.0}
    fixed = {
        key: table.assign(lens=[replace(lens, **halo, **shear) for lens in table["lens"]])
        for key, table in images.items()
    }
    features = dict(features_with(fixed, "source"))
    found = dict(learned.read_scores(features["fit"], features["test"], fixed))
    assert not found.keys() & {"halo_mass", "halo_shape", "shear"}


def test_each_file_has_the_lens_that_was_drawn_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = learned._folder(WIDE, "fit")
    simulate.main(["--out", str(folder), "--count", "3", "--seed", "31", *WIDE.options])
    masses = pd.read_csv(folder / "axion" / "masses.csv")
    files = [f"axion/{name}" for name in masses["file"]][::-1]
    found = learned._images(WIDE, "fit", files)
    assert [lens.axion_mass_ev for lens in found["lens"]] == list(masses["mass_ev"][::-1])
    assert found["lens"][0].halo_mass_solar != found["lens"][1].halo_mass_solar


def test_new_scores_of_a_row_replace_its_own_alone(tmp_path):
    file, columns = tmp_path / "wide.csv", ["row", "depth", "layer", "parameter", "score"]
    for row, score in (("object", 0.1), ("untrained", 0.2), ("object", 0.3)):
        table = pd.DataFrame([(row, 1, "block_0", "shear", score)], columns=columns)
        learned.add(file, [table])
    found = pd.read_csv(file)
    assert found[["row", "score"]].values.tolist() == [["untrained", 0.2], ["object", 0.3]]


def test_the_simulations_are_ones_that_the_stage_takes():
    for step in learned.simulation_steps(WIDE):
        simulate.build_parser().parse_args(step.arguments)
    assert set(ALL) == set(WIDE.classes)

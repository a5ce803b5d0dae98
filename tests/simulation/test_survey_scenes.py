"""What the scenes of the survey are drawn from, and what they depend on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LensModel.Solver.lens_equation_solver import LensEquationSolver
from scipy.stats import kstest

from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.survey_bands import SURVEY_BANDS
from deeplens_tf.simulation.survey_scenes import SURVEY_CLASSES, draw_scene, total_magnitude


def scenes(class_name, count):
    return [draw_scene(class_name, np.random.default_rng(seed)) for seed in range(count)]


def request(**changes):
    options = {"preset": "sersic_survey", "count": 10, "out": Path("sim")} | changes
    return SimulationRequest(**options)


def blue_light(scene):
    """The lensed source, or what has its place in a non-lens; the rest is of the field."""
    if scene.source is not None:
        return (scene.source,)
    return tuple(each for each in scene.others if np.hypot(each.x_arcsec, each.y_arcsec) < 3.5)


@pytest.mark.parametrize("band", SURVEY_BANDS)
def test_the_classes_have_the_same_light_up_to_where_it_is(band):
    for lens, other in zip(scenes("lens", 100), scenes("nonlens", 100), strict=True):
        assert lens.galaxy == other.galaxy
        assert lens.others == other.others[len(other.others) - len(lens.others) :]
        assert len(blue_light(other)) == len(other.others) - len(lens.others)
        light = [total_magnitude(blue_light(scene), band) for scene in (lens, other)]
        assert light[0] == pytest.approx(light[1], abs=1e-9)


def test_non_lenses_are_face_on_discs_and_galaxies_with_neighbours():
    lights = [blue_light(scene) for scene in scenes("nonlens", 400)]
    discs = [each for each in lights if each[0].x_arcsec == each[0].y_arcsec == 0.0]
    assert len(discs) == pytest.approx(200, abs=4 * 10)  # four standard deviations
    assert all(len(each) == 1 and np.hypot(each[0].e1, each[0].e2) < 0.15 for each in discs)
    assert {len(each) for each in lights if each not in discs} == {1, 2, 3}


def test_every_lens_has_several_images_of_the_centre_of_its_source():
    for scene in scenes("lens", 60):
        mass, source = scene.deflector, scene.source
        solver = LensEquationSolver(LensModel(["SIE", "SHEAR"]))
        kwargs = [
            {
                **{"theta_E": mass.theta_e_arcsec, "e1": mass.e1, "e2": mass.e2},
                **{"center_x": 0.0, "center_y": 0.0},
            },
            {"gamma1": mass.shear_gamma1, "gamma2": mass.shear_gamma2},
        ]
        x, _ = solver.image_position_from_source(
            source.x_arcsec, source.y_arcsec, kwargs, search_window=10.0, min_distance=0.1
        )
        assert len(x) >= 2


@pytest.mark.parametrize(
    ("quantity", "low", "high"),
    [
        (lambda scene: scene.deflector.theta_e_arcsec, 1.2, 2.4),
        (lambda scene: total_magnitude(scene.galaxy, "r"), 18.0, 20.5),
        (lambda scene: scene.source.magnitudes["r"], 19.5, 21.5),
        (lambda scene: scene.ra_deg, 0.0, 360.0),
        (lambda scene: np.sin(np.deg2rad(scene.dec_deg)), -np.sqrt(3) / 2, 0.0),
    ],
    ids=["theta_e", "galaxy", "source", "ra", "dec"],
)
def test_a_quantity_is_uniform_between_its_bounds(quantity, low, high):
    values = [quantity(scene) for scene in scenes("lens", 1000)]
    assert kstest(values, "uniform", (low, high - low)).pvalue > 1e-3
    assert low <= min(values) < max(values) <= high


def test_galaxies_are_redder_than_sources():
    for band, redder in (("g", "r"), ("r", "i"), ("i", "z")):
        for scene in scenes("lens", 50):
            galaxy = total_magnitude(scene.galaxy, band) - total_magnitude(scene.galaxy, redder)
            source = scene.source.magnitudes[band] - scene.source.magnitudes[redder]
            assert galaxy > source - 0.4
    colours = [
        scene.source.magnitudes["g"] - scene.source.magnitudes["r"] for scene in scenes("lens", 400)
    ]
    assert np.mean(colours) == pytest.approx(0.4, abs=4 * 0.1 / 20)
    assert np.std(colours) == pytest.approx(0.1, abs=4 * 0.1 / np.sqrt(800))


def test_an_unknown_class_is_refused():
    with pytest.raises(RequestError, match="unknown class 'cdm'; known: lens, nonlens"):
        draw_scene("cdm", np.random.default_rng(0))


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1},
        {"out": Path("elsewhere")},
        {"classes": ("lens",)},
        {"shard": (2, 3)},
        {"format": "fits"},
        {"bands": ("i", "Y")},
        {"catalog": True},
    ],
)
def test_a_scene_does_not_depend_on_the_other_options(changes):
    assert request(**changes).scene("lens", 7) == request().scene("lens", 7)


def test_no_two_images_show_one_scene():
    noise_seeds = {
        request(split=split, seed=seed).scene(class_name, index).noise_seed
        for split in ("train", "test")
        for seed in (0, 1, 2**63 - 1)
        for class_name in SURVEY_CLASSES
        for index in (0, 1, 2, 2**20)
    }
    assert len(noise_seeds) == 2 * 3 * 2 * 4


def test_scenes_of_earlier_versions_are_unchanged():
    # A later version may extend a folder, so the same seed must keep drawing the same scenes.
    seeds = np.random.SeedSequence(3, spawn_key=(3, 0, 0, 5))
    scene = request(seed=3).scene("lens", 5)
    assert scene == draw_scene("lens", np.random.default_rng(seeds))
    assert scene.ra_deg == 360.0 * np.random.default_rng(seeds).random()
    assert scene.deflector.theta_e_arcsec == pytest.approx(1.8574649153985083, rel=1e-12)


def test_the_survey_is_noisy_and_has_the_classes_and_bands_of_its_own():
    assert request().noise
    assert request().classes == ("lens", "nonlens")
    assert request().bands == ("g", "r", "i")
    assert request(bands=("Y", "g")).bands == ("Y", "g")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("cdm",)}, "unknown class 'cdm'; known: lens, nonlens"),
        ({"bands": ("u",)}, "unknown band 'u'; known: g, r, i, z, Y"),
        ({"bands": ("g", "r", "g")}, "bands must differ. Received: g,r,g"),
        ({"format": "hdf5"}, "unknown format 'hdf5'; known: npy, fits"),
        ({"views_per_lens": 2}, "sersic_survey makes one image of each lens"),
        ({"preset": "model_ii", "bands": ("g",)}, "model_ii has one band: bands needs"),
        ({"preset": "model_i", "catalog": True}, "catalog needs preset sersic_survey"),
        ({"preset": "model_i", "classes": ("lens",)}, "known: axion, cdm, no_sub"),
    ],
)
def test_options_that_a_preset_does_not_have_are_refused(changes, message):
    with pytest.raises(RequestError) as error:
        request(**changes)
    assert message in str(error.value)


def test_the_magnitude_of_two_equal_galaxies_is_that_of_twice_the_flux():
    bulge, _ = scenes("lens", 1)[0].galaxy
    assert total_magnitude((bulge, replace(bulge, index=1.0)), "g") == pytest.approx(
        bulge.magnitudes["g"] - 0.752574989, abs=1e-9
    )

"""Skies: their ranges, what they draw, and what that does to an image."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.priors import CLASSES, PRESETS, draw_lens
from deeplens_tf.simulation.render import render_image, render_model, source_plane
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.skies import USUAL_SKY, Sky

SKY_FIELDS = {"psf_scale", "noise_scale", "source_index", "offset_x_pixels", "offset_y_pixels"}
WIDE_SKY = Sky("0.8:1.25", "1:3", "0.5:4", "1:3")


def some_lens(preset="model_ii", class_name="cdm", **changes):
    return replace(draw_lens(preset, class_name, np.random.default_rng(0)), **changes)


def drawn(sky, count=2000):
    rng = np.random.default_rng(2)
    return [sky.over(some_lens(), rng) for _ in range(count)]


def request(**changes):
    return SimulationRequest(**{"preset": "model_ii", "count": 10, "out": Path("x")} | changes)


def differing(one, two):
    return {f.name for f in fields(one) if getattr(one, f.name) != getattr(two, f.name)}


@pytest.mark.parametrize("value", [(0.8, 1.25), [0.8, 1.25], "0.8:1.25", " 0.80 : 1.250 "])
def test_a_range_is_a_pair_or_its_text(value):
    assert Sky(psf_scale=value).describe()["psf_scale"] == "0.8:1.25"


@pytest.mark.parametrize("value", [2, 2.0, "2", "2:2", (2, 2)])
def test_a_number_is_a_range_without_width(value):
    assert Sky(source_index=value).describe() == {
        **{"psf_scale": "1.0", "noise_scale": "1.0", "source_index": "2.0"},
        "lens_offset_pixels": "0.0",
    }


@pytest.mark.parametrize("value", ["", "x", "0.8:", ":1", "1:2:3", (1, 2, 3), (), None, "1,2"])
def test_what_is_no_range_is_refused(value):
    with pytest.raises(RequestError, match="psf_scale takes a number or low:high, as in"):
        Sky(psf_scale=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("psf_scale", each) for each in (0.4, 5.1, "1.2:0.8", "nan", "0.8:inf", -1)),
        *(("noise_scale", each) for each in (0, 11)),
        *(("source_index", each) for each in (0.4, "4:11")),
        *(("lens_offset_pixels", each) for each in (-1, 17)),
    ],
)
def test_a_range_out_of_bounds_is_refused(name, value):
    with pytest.raises(RequestError, match=f"{name} must be from .* to .* first. Received: "):
        Sky(**{name: value})


def test_changes_are_named():
    assert Sky("1", 1, None, (0, 0)).changes == USUAL_SKY.changes == []
    assert Sky(1.2, "1:2", 1, 2).changes == [
        *("psf_scale", "noise_scale", "source_index", "lens_offset_pixels")
    ]


def test_a_sky_draws_uniformly_from_its_ranges():
    lenses = drawn(WIDE_SKY)
    values = {name: np.array([getattr(lens, name) for lens in lenses]) for name in SKY_FIELDS}
    x, y = values.pop("offset_x_pixels"), values.pop("offset_y_pixels")
    values |= {"distance": np.hypot(x, y), "angle": np.arctan2(y, x)}
    ends = {"psf_scale": (0.8, 1.25), "noise_scale": (1, 3), "source_index": (0.5, 4)}
    ends |= {"distance": (1, 3), "angle": (-np.pi, np.pi)}
    for name, (low, high) in ends.items():
        sample = values[name]
        assert stats.kstest(sample, "uniform", args=(low, high - low)).pvalue > 1e-3
        error = (high - low) / np.sqrt(12 * len(sample))  # of the mean
        assert sample.mean() == pytest.approx((low + high) / 2, abs=5 * error)
    assert np.abs(np.corrcoef(list(values.values())) - np.eye(5)).max() < 5 / np.sqrt(2000)


def test_what_a_range_draws_does_not_depend_on_the_others():
    whole = drawn(WIDE_SKY, 20)
    for name, value in {"psf_scale": "0.8:1.25", "source_index": "0.5:4"}.items():
        alone = drawn(Sky(**{name: value}), 20)
        assert [getattr(k, name) for k in alone] == [getattr(k, name) for k in whole]
    alone = drawn(Sky(lens_offset_pixels=(1, 3)), 20)
    assert [k.offset_x_pixels for k in alone] == [k.offset_x_pixels for k in whole]


@pytest.mark.parametrize("source_prior", ["published", "wide"])
@pytest.mark.parametrize("class_name", CLASSES)
def test_the_same_seed_shows_the_same_lenses_under_another_sky(class_name, source_prior):
    options = {"views_per_lens": 2, "lens_prior": "wide", "noise": True, "seed": 4}
    options |= {"source_prior": source_prior}
    usual, other = request(**options), request(**options, sky=WIDE_SKY)
    lenses = [other.lens(class_name, index, view) for index in range(4) for view in range(2)]
    for i, lens in enumerate(lenses):
        assert differing(lens, usual.lens(class_name, *divmod(i, 2))) == SKY_FIELDS
    # Each image of a lens has its own.
    assert len({lens.psf_scale for lens in lenses}) == 8


def test_a_source_index_replaces_that_of_the_prior():
    wide = request(source_prior="wide")
    fixed = request(source_prior="wide", sky=Sky(source_index=4))
    assert {fixed.lens("cdm", index).source_index for index in range(5)} == {4.0}
    assert differing(fixed.lens("cdm", 0), wide.lens("cdm", 0)) == {"source_index"}


def test_a_wide_source_changes_nothing_else_of_a_lens():
    for prior in ("published", "wide"):
        plain, wide = (request(lens_prior=prior, source_prior=s) for s in ("published", "wide"))
        lenses = [(wide.lens("cdm", i), plain.lens("cdm", i)) for i in range(5)]
        for one, two in lenses:
            assert differing(one, two) == {
                *("source_radius_arcsec", "source_index", "source_e1", "source_e2")
            }
        assert len({one.source_index for one, _ in lenses}) == 5


@pytest.mark.parametrize("preset", PRESETS)
def test_an_offset_of_whole_pixels_moves_the_image(preset):
    lens = some_lens(preset)
    moved = replace(lens, offset_x_pixels=2.0, offset_y_pixels=-3.0)
    for one, two in zip(source_plane(lens), source_plane(moved), strict=True):
        assert np.array_equal(one[3:, :-2], two[:-3, 2:])
    image, other = render_model(lens), render_model(moved)
    inside = slice(10, -10)  # the edges are blurred with what lies beyond them
    expected = np.roll(image, (-3, 2), axis=(0, 1))[inside, inside]
    assert np.abs(other[inside, inside] - expected).max() < 1e-14 * image.max()


@pytest.mark.parametrize("preset", ["model_ii", "model_iii"])
def test_noise_twice_as_strong_is_twice_the_noise(preset):
    lens = some_lens(preset)
    model = render_model(lens)
    noise, double = (
        render_image(replace(lens, noise_scale=scale), noise=True) - model for scale in (1.0, 2.0)
    )
    assert np.abs(double - 2 * noise).max() < 1e-12 * model.max()
    assert np.array_equal(render_image(replace(lens, noise_scale=2.0)), 2 * model)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_noise_of_model_i_is_as_strong_relative_to_the_light_as_asked(scale):
    lenses = [
        replace(draw_lens("model_i", "no_sub", np.random.default_rng(seed)), noise_scale=scale)
        for seed in range(4)
    ]
    models = np.array([render_model(lens) for lens in lenses])
    counts = np.array([render_image(lens) for lens in lenses])
    times = np.array([lens.exposure_time_s for lens in lenses])[:, None, None]
    # The light of an exposure that is shorter by the square.
    noise = counts * scale**2 / times - models
    deviation = scale * np.sqrt(2 * models / times + 1e-2**2)
    bright = models * times > 300
    pulls = (noise / deviation)[bright]
    assert counts.min() >= 0
    assert np.array_equal(counts, counts.round())
    assert pulls.mean() == pytest.approx(0, abs=5 / np.sqrt(pulls.size))
    assert pulls.std() == pytest.approx(1, abs=5 / np.sqrt(2 * pulls.size))


def test_noise_needs_images_with_noise():
    for good in ({"preset": "model_i"}, {"noise": True}):
        request(**good, sky=Sky(noise_scale=2))
    with pytest.raises(RequestError, match="noise_scale has no effect on images without noise"):
        request(sky=Sky(noise_scale=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_prior": "wide"}, "has its own sources: source_prior needs another preset"),
        ({"sky": Sky(1.2, source_index=4)}, "its own sky: psf_scale, source_index needs another"),
    ],
)
def test_the_survey_has_sources_and_a_sky_of_its_own(changes, message):
    with pytest.raises(RequestError, match=message):
        request(preset="sersic_survey", **changes)

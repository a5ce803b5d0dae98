from dataclasses import fields

import numpy as np
import pytest
from scipy import stats

from deeplens_tf.simulation.priors import SHARED_FIELDS, draw_lens
from deeplens_tf.simulation.wide_priors import with_wide_halo, with_wide_source

SOURCE = ("source_radius_arcsec", "source_index", "source_e1", "source_e2")


def is_uniform(values, low, high):
    return stats.kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-3


@pytest.fixture(scope="module")
def sources():
    """The parameters of 4000 sources of one lens, name -> values."""
    rng = np.random.default_rng(11)
    lens = draw_lens("model_ii", "cdm", np.random.default_rng(0))
    wide = [with_wide_source(lens, rng) for _ in range(4000)]
    others = {f.name for f in fields(lens)} - {*SOURCE}
    assert all(getattr(each, name) == getattr(lens, name) for each in wide for name in others)
    return {name: np.array([getattr(each, name) for each in wide]) for name in SOURCE}


def test_the_wide_prior_draws_halo_and_shear_alone():
    rng = np.random.default_rng(7)
    lens = draw_lens("model_ii", "cdm", np.random.default_rng(0))
    wide = [with_wide_halo(lens, rng) for _ in range(2000)]
    drawn = {name: [getattr(each, name) for each in wide] for name in SHARED_FIELDS["lens"]}
    assert set(drawn.pop("substructure")) == {lens.substructure}
    assert is_uniform(np.log10(drawn["halo_mass_solar"]), 11.85, 12.1)
    widths = {"halo_e1": 0.1, "halo_e2": 0.1, "shear_gamma1": 0.04, "shear_gamma2": 0.04}
    for name, width in widths.items():
        assert stats.kstest(drawn[name], "norm", args=(0.0, width)).pvalue > 1e-3
    components = np.array([drawn[name] for name in widths])
    assert np.abs(np.corrcoef(components) - np.eye(4)).max() < 0.1
    source = {"source_x_arcsec", "source_y_arcsec", "noise_seed", "axion_mass_ev"}
    assert all(getattr(each, name) == getattr(lens, name) for each in wide for name in source)


def test_size_and_index_of_wide_sources_are_uniform(sources):
    assert is_uniform(np.log(sources["source_radius_arcsec"]), np.log(0.15), np.log(0.4))
    assert is_uniform(sources["source_index"], 0.5, 4.0)


def test_ellipticities_of_wide_sources_are_normal_and_bounded(sources):
    e1, e2 = sources["source_e1"], sources["source_e2"]
    # Normal components without the tail: the length is a truncated Rayleigh variable.
    tail = np.exp(-0.5 * (0.5 / 0.15) ** 2)
    assert (
        stats.kstest(
            np.hypot(e1, e2), lambda r: (1 - np.exp(-0.5 * (r / 0.15) ** 2)) / (1 - tail)
        ).pvalue
        > 1e-3
    )
    assert is_uniform(np.arctan2(e2, e1), -np.pi, np.pi)
    assert np.hypot(e1, e2).max() <= 0.5
    # Of a normal distribution, the tail takes 4 % of the variance; the sampling error is 1.1 %.
    expected = 0.15 * np.sqrt(1 - 0.5 * (0.5 / 0.15) ** 2 * tail / (1 - tail))
    for component in (e1, e2):
        assert component.std() == pytest.approx(expected, rel=5 / np.sqrt(2 * 4000))
        assert component.mean() == pytest.approx(0, abs=5 * 0.15 / np.sqrt(4000))


def test_parameters_of_wide_sources_are_independent(sources):
    assert np.abs(np.corrcoef(list(sources.values())) - np.eye(4)).max() < 5 / np.sqrt(4000)

import pytest
from astropy.cosmology import FlatLambdaCDM

from deeplens_tf.simulation.distances import comoving_distance


@pytest.mark.parametrize("omega_matter", [0.2814, 0.3, 1.0])
@pytest.mark.parametrize("redshift", [0.5, 1.0, 2.5, 3.0])
def test_distances_are_astropys(redshift, omega_matter):
    cosmology = FlatLambdaCDM(H0=70.0, Om0=omega_matter)
    expected = cosmology.comoving_distance(redshift) / cosmology.hubble_distance
    assert comoving_distance(redshift, omega_matter) == pytest.approx(float(expected), rel=1e-14)

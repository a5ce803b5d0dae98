"""The mass head and what it is trained on, against SciPy and plain NumPy."""

import keras
import numpy as np
import pytest
from scipy import stats

from deeplens_tf.losses import gaussian_negative_log_likelihood, mae_dex, squared_error_dex
from deeplens_tf.models.heads import MassHead


@pytest.fixture
def masses():
    generator = np.random.default_rng(0)
    true = generator.uniform(-24, -22, (7, 1)).astype("float32")
    mean = true + generator.normal(0, 0.3, (7, 1)).astype("float32")
    std = generator.uniform(0.05, 0.8, (7, 1)).astype("float32")
    return true, np.concatenate([mean, std], axis=1)


def test_gaussian_likelihood_is_scipys(masses):
    true, predicted = masses
    expected = -stats.norm.logpdf(true[:, 0], predicted[:, 0], predicted[:, 1])
    ours = gaussian_negative_log_likelihood(true, predicted)
    np.testing.assert_allclose(ours, expected, rtol=2e-5)


def test_errors_use_the_first_column_alone(masses):
    true, predicted = masses
    residual = true[:, 0] - predicted[:, 0]
    for columns in (1, 2):
        np.testing.assert_allclose(mae_dex(true, predicted[:, :columns]), abs(residual))
        np.testing.assert_allclose(squared_error_dex(true, predicted[:, :columns]), residual**2)


@pytest.mark.parametrize("gaussian", [False, True])
def test_head_undoes_the_standardisation(gaussian):
    head = MassHead(-23.1, 0.57, gaussian)
    features = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    output = np.asarray(head(features))
    raw = features @ head.dense.kernel.numpy() + head.dense.bias.numpy()
    np.testing.assert_allclose(output[:, 0], raw[:, 0] * 0.57 - 23.1, rtol=1e-6)
    assert output.shape == (5, 1 + gaussian) == head.compute_output_shape((5, 4))
    if gaussian:
        np.testing.assert_allclose(output[:, 1], np.log1p(np.exp(raw[:, 1])) * 0.57 + 1e-3, 1e-5)


def test_head_comes_back_from_its_configuration():
    head = MassHead(-23.1, 0.57, True)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert (again.mean_dex, again.std_dex, again.gaussian) == (-23.1, 0.57, True)

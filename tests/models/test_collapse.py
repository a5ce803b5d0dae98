"""The spread of the features, and the line that says it is gone."""

import numpy as np
import pytest

from deeplens_tf.models.collapse import COLLAPSED_BELOW, feature_std
from deeplens_tf.training.callbacks import CollapseWarning


def numpy_feature_std(features):
    features = np.asarray(features, float)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit.std(axis=0).mean() * np.sqrt(features.shape[1])


def random_features(batch=64, dim=16, offset=0.0, seed=0):
    return np.random.default_rng(seed).normal(offset, 1, (batch, dim)).astype("float32")


@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0])
def test_it_is_numpys(offset):
    features = random_features(offset=offset)
    assert float(feature_std((features,))) == pytest.approx(numpy_feature_std(features), rel=1e-3)


def test_of_two_views_it_is_the_mean():
    views = random_features(offset=0.3), random_features(offset=3, seed=1)
    expected = np.mean([numpy_feature_std(view) for view in views])
    assert float(feature_std(views)) == pytest.approx(expected, rel=1e-4)


def test_it_is_one_where_features_point_everywhere_and_zero_where_they_point_one_way():
    assert float(feature_std((random_features(4096, 32),))) == pytest.approx(1, abs=0.01)
    alike = np.tile(random_features(1), (64, 1)) * np.linspace(1, 9, 64)[:, None]
    assert float(feature_std((alike.astype("float32"),))) < 1e-4


def test_its_square_is_what_the_mean_cosine_lacks_of_one():
    features = random_features(offset=5.0)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    # Equal spread in each dimension, nearly; the threshold's meaning rests on this.
    assert float(feature_std((features,))) ** 2 == pytest.approx(
        1 - (unit @ unit.T).mean(), rel=0.1
    )


def warnings_of(values, capsys):
    callback = CollapseWarning()
    lines = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"feature_std": value})
        lines.append(capsys.readouterr().err)
    return lines


def test_one_line_per_crossing(capsys):
    low, high = COLLAPSED_BELOW / 2, COLLAPSED_BELOW * 2
    lines = warnings_of([high, low, low / 2, high, low], capsys)
    assert [line.count("\n") for line in lines] == [0, 1, 0, 0, 1]
    assert lines[1].startswith("warning: epoch 2: features are collapsing: feature_std 0.0150")


def test_collapsed_from_the_first_epoch_is_said_too(capsys):
    assert warnings_of([0.0], capsys)[0].startswith("warning: epoch 1: ")


def test_nothing_is_said_of_features_that_stay_apart(capsys):
    assert warnings_of([0.09, 0.5, 0.9], capsys) == ["", "", ""]

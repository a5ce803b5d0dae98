"""Areas and average precision against scikit-learn and loops over pairs."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from deeplens_tf.metrics.ranking import area_influence, area_under_curve, average_precision


def scored(images=80, share=0.3, decimals=1, seed=0):
    """Scores of positives and negatives, rounded so that some tie."""
    generator = np.random.default_rng(seed)
    is_positive = generator.random(images) < share
    return is_positive, np.round(generator.normal(is_positive), decimals)


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_areas_and_average_precision_are_scikit_learns_with_and_without_ties(decimals):
    for seed in range(20):
        is_positive, scores = scored(decimals=decimals, seed=seed)
        assert area_under_curve(is_positive, scores) == pytest.approx(
            roc_auc_score(is_positive, scores), abs=1e-12
        )
        assert average_precision(is_positive, scores) == pytest.approx(
            average_precision_score(is_positive, scores), abs=1e-12
        )


def test_the_order_of_the_images_does_not_matter_where_scores_tie():
    is_positive, scores = scored(decimals=0)
    order = np.random.default_rng(1).permutation(len(scores))
    shuffled = average_precision(is_positive[order], scores[order])
    assert shuffled == average_precision(is_positive, scores)


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_alone_cannot_be_ranked(kind):
    is_positive, scores = np.full(4, kind), np.arange(4.0)
    assert np.isnan(area_under_curve(is_positive, scores))
    assert np.isnan(average_precision(is_positive, scores))


def test_influences_are_those_of_delong_by_loops():
    is_positive, scores = scored(images=30)
    area = area_under_curve(is_positive, scores)
    expected = []
    for kind, score in zip(is_positive, scores, strict=True):
        above = [(score > s) + (score == s) / 2 for s in scores[is_positive != kind]]
        placement = np.mean(above) if kind else 1 - np.mean(above)
        expected.append((placement - area) / np.sum(is_positive == kind))
    assert area_influence(is_positive, scores) == pytest.approx(expected)


def test_influences_give_the_covariance_of_two_areas():
    generator, draws = np.random.default_rng(0), []
    is_positive = np.arange(300) < 120
    for _ in range(600):
        common = generator.normal(size=300)
        pair = [common + generator.normal(size=300) + is_positive for _ in range(2)]
        influences = [area_influence(is_positive, scores) for scores in pair]
        areas = [area_under_curve(is_positive, scores) for scores in pair]
        draws.append([*areas, influences[0] @ influences[1]])
    first, second, estimate = np.array(draws).T
    assert estimate.mean() == pytest.approx(np.cov(first, second)[0, 1], rel=0.2)

"""Scores of the study from predictions, by scikit-learn and by a naive bootstrap."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score

from results.rows import ALL
from results.scores import CONTROL, differences, scores

IMAGES = 600


def probabilities(labels, signal, generator):
    logits = generator.normal(size=(len(labels), 3)) + signal * np.eye(3)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def classified():
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=IMAGES)
    table = pd.DataFrame({"file": np.arange(IMAGES), "label": np.array(ALL)[labels]})
    for prefix, signal in (("", 2.0), (CONTROL, 1.0)):
        found = probabilities(labels, signal, generator)
        table[[f"{prefix}p_{name}" for name in ALL]] = found
    return table


@pytest.fixture(scope="module")
def masses():
    generator = np.random.default_rng(1)
    true = generator.uniform(-24, -22, IMAGES)
    return pd.DataFrame(
        {
            "file": np.arange(IMAGES),
            "log10_mass_ev": true,
            "predicted": true + generator.normal(0, 0.1, IMAGES),
            f"{CONTROL}predicted": true + generator.normal(0, 0.3, IMAGES),
        }
    )


def area(table, prefix, classes):
    among = table[table["label"].isin(classes)]
    columns = among[[f"{prefix}p_{name}" for name in classes]].to_numpy()
    shares = columns / columns.sum(axis=1, keepdims=True)
    areas = [roc_auc_score(among["label"] == c, shares[:, k]) for k, c in enumerate(classes)]
    return np.mean(areas)


def resampled(table, function):
    generator = np.random.default_rng(2)
    rows = (generator.integers(IMAGES, size=IMAGES) for _ in range(200))
    return np.array([function(table.iloc[each]) for each in rows])


@pytest.mark.parametrize(
    ("quantity", "classes"), [("macro_auc", ALL), ("auc_axion_cdm", ("axion", "cdm"))]
)
@pytest.mark.parametrize("prefix", ["", CONTROL])
def test_areas_are_those_of_scikit_learn_and_vary_as_resamples_do(
    classified, quantity, classes, prefix
):
    (score,) = (each for each in scores(classified, prefix) if each.quantity == quantity)
    assert score.value == pytest.approx(area(classified, prefix, classes), abs=1e-12)
    spread = resampled(classified, lambda table: area(table, prefix, classes)).std()
    assert (score.high - score.low) / (2 * 1.96) == pytest.approx(spread, rel=0.2)


def test_differences_are_paired(classified):
    (score,) = (
        each
        for each in differences(classified, "", classified, CONTROL)
        if each.quantity == "macro_auc"
    )

    def difference(table):
        return area(table, "", ALL) - area(table, CONTROL, ALL)

    assert score.value == pytest.approx(difference(classified), abs=1e-12)
    spread = resampled(classified, difference).std()
    assert (score.high - score.low) / (2 * 1.96) == pytest.approx(spread, rel=0.2)
    itself = next(differences(classified, "", classified, ""))
    assert (itself.value, itself.low, itself.high) == (0, 0, 0)


def test_masses_are_scored_as_scikit_learn_does(masses):
    found = {score.quantity: score for score in scores(masses)}
    true, predicted = masses["log10_mass_ev"], masses["predicted"]
    assert found["r2"].value == pytest.approx(r2_score(true, predicted), abs=1e-9)
    assert found["mae_dex"].value == pytest.approx(mean_absolute_error(true, predicted), abs=1e-12)
    minus = {score.quantity: score for score in differences(masses, "", masses, CONTROL)}
    control = r2_score(true, masses[f"{CONTROL}predicted"])
    assert minus["r2"].value == pytest.approx(found["r2"].value - control, abs=1e-9)
    assert minus["r2"].low < minus["r2"].value < minus["r2"].high


def test_other_images_are_refused(masses):
    with pytest.raises(ValueError, match="same images"):
        list(differences(masses, "", masses.iloc[::-1], ""))

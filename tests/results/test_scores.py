"""Scores of the study from predictions, by scikit-learn and by a naive bootstrap."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score

from results.rows import ALL
from results.scores import differences, scores

IMAGES = 600


def probabilities(labels, signal, generator):
    logits = generator.normal(size=(len(labels), 3)) + signal * np.eye(3)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def classified():
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=IMAGES)
    table = pd.DataFrame({"file": np.arange(IMAGES), "label": np.array(ALL)[labels]})
    tables = []
    for signal in (2.0, 1.0):
        table = table.copy()
        table[[f"p_{name}" for name in ALL]] = probabilities(labels, signal, generator)
        tables.append(table)
    return tables


@pytest.fixture(scope="module")
def masses():
    generator = np.random.default_rng(1)
    true = generator.uniform(-24, -22, IMAGES)
    table = pd.DataFrame({"file": np.arange(IMAGES), "log10_mass_ev": true})
    errors = (generator.normal(0, width, IMAGES) for width in (0.1, 0.3))
    return [table.assign(predicted=true + error) for error in errors]


def area(table, classes):
    among = table[table["label"].isin(classes)]
    columns = among[[f"p_{name}" for name in classes]].to_numpy()
    shares = columns / columns.sum(axis=1, keepdims=True)
    areas = [roc_auc_score(among["label"] == c, shares[:, k]) for k, c in enumerate(classes)]
    return np.mean(areas)


def resampled(tables, function):
    generator = np.random.default_rng(2)
    rows = (generator.integers(IMAGES, size=IMAGES) for _ in range(200))
    return np.array([function(*(table.iloc[each] for table in tables)) for each in rows])


@pytest.mark.parametrize(
    ("quantity", "classes"), [("macro_auc", ALL), ("auc_axion_cdm", ("axion", "cdm"))]
)
@pytest.mark.parametrize("which", [0, 1])
def test_areas_are_those_of_scikit_learn_and_vary_as_resamples_do(
    classified, quantity, classes, which
):
    table = classified[which]
    (score,) = (each for each in scores(table) if each.quantity == quantity)
    assert score.value == pytest.approx(area(table, classes), abs=1e-12)
    spread = resampled([table], lambda some: area(some, classes)).std()
    assert (score.high - score.low) / (2 * 1.96) == pytest.approx(spread, rel=0.2)


def test_differences_are_paired(classified):
    (score,) = (each for each in differences(*classified) if each.quantity == "macro_auc")

    def difference(ours, theirs):
        return area(ours, ALL) - area(theirs, ALL)

    assert score.value == pytest.approx(difference(*classified), abs=1e-12)
    spread = resampled(classified, difference).std()
    assert (score.high - score.low) / (2 * 1.96) == pytest.approx(spread, rel=0.2)
    itself = next(differences(classified[0], classified[0]))
    assert (itself.value, itself.low, itself.high) == (0, 0, 0)


def test_masses_are_scored_as_scikit_learn_does(masses):
    found = {score.quantity: score for score in scores(masses[0])}
    true, predicted = masses[0]["log10_mass_ev"], masses[0]["predicted"]
    assert found["r2"].value == pytest.approx(r2_score(true, predicted), abs=1e-9)
    assert found["mae_dex"].value == pytest.approx(mean_absolute_error(true, predicted), abs=1e-12)
    minus = {score.quantity: score for score in differences(*masses)}
    control = r2_score(true, masses[1]["predicted"])
    assert minus["r2"].value == pytest.approx(found["r2"].value - control, abs=1e-9)
    assert minus["r2"].low < minus["r2"].value < minus["r2"].high


def test_other_images_are_refused(masses):
    with pytest.raises(ValueError, match="same images"):
        list(differences(masses[0], masses[1].iloc[::-1]))

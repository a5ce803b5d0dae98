"""The distance of an image to those that are known, by loops, and its area against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from deeplens_tf import embed, finetune, pretrain, simulate
from results import novelty
from results.rows import SKIES

PARSERS = {"simulate": simulate, "pretrain": pretrain, "finetune": finetune, "embed": embed}
GENERATOR = np.random.default_rng(0)


def test_a_distance_is_that_to_the_nearest_known_images():
    known, test = GENERATOR.normal(size=(40, 5)), GENERATOR.normal(size=(7, 5))
    found = novelty.distances(known, test)
    for value, image in zip(found, test, strict=True):
        cosines = [image @ each / np.sqrt(image @ image * (each @ each)) for each in known]
        assert value == pytest.approx(np.mean(sorted(1 - cosine for cosine in cosines)[:10]))


def test_each_command_is_one_that_its_stage_takes():
    steps = [*novelty.training_steps(SKIES[0], 0)]
    for network in novelty.NETWORKS:
        steps += novelty.embedding_steps(network, SKIES[0], 0)
    assert len({step.record for step in steps}) == len(steps)
    for step in steps:
        PARSERS[step.stage].build_parser().parse_args(step.arguments)


def test_the_page_has_the_area_of_each_network(tmp_path, monkeypatch):
    monkeypatch.setattr(novelty, "STORE", tmp_path)
    monkeypatch.setattr(novelty, "PAGE", tmp_path / "page.md")
    labels = np.array(["axion", "cdm", "no_sub"] * 30)
    values = {name: GENERATOR.random(90) + (labels == "axion") / 3 for name in novelty.NETWORKS}
    pd.DataFrame({"label": labels, **values}).to_csv(tmp_path / "clean-1.csv", index=False)
    novelty.write_page()
    line = (tmp_path / "page.md").read_text().splitlines()[-1]
    assert line.startswith("| clean | 1 | ")
    areas = [float(cell.split()[0]) for cell in line.split(" | ")[2:]]
    expected = [roc_auc_score(labels == "axion", each) for each in values.values()]
    assert areas == pytest.approx(expected, abs=6e-4)

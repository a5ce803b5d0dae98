"""The table of other skies: its commands, and its differences against scikit-learn."""

import re

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from deeplens_tf import evaluate, finetune, pretrain, simulate
from results import other_skies, store
from results.rows import ALL

PARSERS = {"simulate": simulate, "pretrain": pretrain, "finetune": finetune, "evaluate": evaluate}


def test_each_command_is_one_that_its_stage_takes():
    steps = [*other_skies.simulation_steps()]
    steps += [
        step for name in other_skies.TRAININGS for step in other_skies.training_steps(name, 0)
    ]
    assert len({step.record for step in steps}) == len(steps)
    for step in steps:
        PARSERS[step.stage].build_parser().parse_args(step.arguments)


def test_the_page_has_the_areas_and_what_a_sky_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    monkeypatch.setattr(other_skies, "PAGE", tmp_path / "page.md")
    folder, generator = tmp_path / other_skies.STORE.name, np.random.default_rng(0)
    folder.mkdir()
    labels = np.arange(90) % 3
    table = {"file": np.arange(90), "label": [ALL[label] for label in labels]}
    pd.DataFrame(table).to_csv(folder / "classes.csv", index=False)
    outputs = {
        name: np.log(generator.dirichlet([1, 1, 1], 90) * 0.9 + np.eye(3)[labels] / 10)
        for name in ("frozen-usual", "frozen-psf-wider")
    }
    np.savez(folder / "varied-0.npz", **outputs)
    other_skies.write_page(0)
    usual, wider = (
        roc_auc_score(labels, np.exp(rows), multi_class="ovr") for rows in outputs.values()
    )
    lines = (tmp_path / "page.md").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("| varied | frozen |"))
    cells = re.split(r" *\| *", line)[3:]
    assert cells[0].startswith(f"{usual:.3f} [")
    assert cells[1].startswith(f"{wider:.3f}; {wider - usual:+.3f} [")
    assert cells[2:6] == ["-"] * 4

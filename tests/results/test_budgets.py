"""The budgets of fine-tunings: the best one on validation, for each row and sky by itself."""

import pandas as pd
import pytest
import yaml

from results import budgets
from results.finetunings import FINETUNINGS
from results.rows import ROWS, SKIES
from results.steps import Step

CLASSES, MASSES = FINETUNINGS[0], FINETUNINGS[2]
BY_NAME = {row.name: row for row in ROWS}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Let a fine-tuning have a history whose best score grows as its rate falls."""
    monkeypatch.setattr(budgets, "CHOSEN", tmp_path / "budgets.yaml")
    monkeypatch.chdir(tmp_path)
    done = []

    def finish(step: Step):
        words = [word for word in step.arguments if word.startswith("optimizer.learning_rate=")]
        rate = float(words[0].partition("=")[2])
        folder = step.record.with_suffix("")
        folder.mkdir(parents=True)
        scores = {"val_auc": [None, 1 - rate, 0.5], "val_mae_dex": [None, rate, 0.5]}
        pd.DataFrame(scores).to_csv(folder / "history.csv")
        done.append(step)

    monkeypatch.setattr(budgets, "run_step", finish)
    return done


@pytest.mark.parametrize("finetuning", [CLASSES, MASSES])
def test_the_best_on_validation_is_chosen(run, finetuning):
    budgets.choose(SKIES[0], [finetuning.name], ["object"])
    _, candidates = budgets.CANDIDATES[finetuning.name]
    assert len(run) == len(candidates)
    assert all(step.stage == "finetune" for step in run)
    best = min(candidates, key=lambda settings: settings["optimizer.learning_rate"])
    assert budgets.chosen_settings(BY_NAME["object"], SKIES[0], finetuning.name) == best


def test_rows_and_skies_choose_for_themselves_and_keep_other_choices(run):
    budgets.choose(SKIES[0], [CLASSES.name], ["scratch"])
    budgets.choose(SKIES[1], [CLASSES.name], ["scratch", "object"])
    table = yaml.safe_load(budgets.CHOSEN.read_text())
    found = {sky: set(table[sky][CLASSES.name]) for sky in table}
    assert found == {"clean": {"scratch"}, "noisy": {"scratch", "object"}}
    # A row that does not choose has the choice of `object`.
    chosen = budgets.chosen_settings(BY_NAME["object"], SKIES[1], CLASSES.name)
    assert budgets.chosen_settings(BY_NAME["object_cdm"], SKIES[1], CLASSES.name) == chosen
    with pytest.raises(SystemExit, match="--rows object --sky clean"):
        budgets.chosen_settings(BY_NAME["object"], SKIES[0], CLASSES.name)


def test_candidates_have_runs_of_their_own():
    for finetuning in FINETUNINGS:
        for name in budgets.CHOOSING:
            row = BY_NAME[name]
            steps = [
                budgets.finetune_step(row, SKIES[0], 0, finetuning, settings)
                for settings in budgets.CANDIDATES[finetuning.name][row.config is not None]
            ]
            assert len({step.record for step in steps}) == len(steps)

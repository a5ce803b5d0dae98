"""The budgets of fine-tunings: the best one on validation, for each row and sky by itself."""

import pandas as pd
import pytest
import yaml

from results import budgets
from results.finetunings import FINETUNINGS, Finetuning
from results.rows import ROWS, SKIES
from results.steps import Step
from results.store import FOLDER

REPOSITORY = budgets.CHOSEN
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
        # The epoch with the lowest loss has not the best score.
        scores = {"val_auc": [None, 1 - rate, 1.0], "val_mae_dex": [None, rate, 0.0]}
        scores["val_loss"] = [None, 1.0, 2.0]
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


def test_a_choice_names_the_run_that_made_it(run, monkeypatch):
    """Rows then take this run, whatever the order of its settings in the file."""
    scores = iter(range(100))
    monkeypatch.setattr(Finetuning, "validation_score", lambda self, run: next(scores))
    budgets.choose(SKIES[0], [CLASSES.name], ["object"])
    chosen = budgets.chosen_settings(BY_NAME["object"], SKIES[0], CLASSES.name)
    assert "finetune.head_epochs" in chosen  # the last candidate
    again = budgets.finetune_step(BY_NAME["object"], SKIES[0], 0, CLASSES, chosen)
    assert again == run[-1]


def test_the_repository_has_the_choice_of_all_candidates_and_the_rows_by_it():
    table = yaml.safe_load(REPOSITORY.read_text())
    for sky in (sky for sky in SKIES if sky.name in table):
        seconds = pd.read_csv(FOLDER / sky.name / "processor_seconds.csv")
        for finetuning in (each for each in FINETUNINGS if each.name in table[sky.name]):
            for name, choice in table[sky.name][finetuning.name].items():
                row = BY_NAME[name]
                candidates = budgets.CANDIDATES[finetuning.name][not row.from_scratch]
                assert [each["settings"] for each in choice["tried"]] == list(candidates)
                best = max(choice["tried"], key=lambda each: each["score"])
                assert choice["chosen"] == best["settings"]
                step = budgets.finetune_step(row, sky, 0, finetuning, choice["chosen"])
                own = seconds[(seconds["row"] == name) & (seconds["seed"] == 0)]["step"]
                trained = [each for each in own if each.startswith(f"{finetuning.name}-learning")]
                assert trained == [step.record.stem]


def test_candidates_have_runs_of_their_own():
    for finetuning in FINETUNINGS:
        for name in budgets.CHOOSING:
            row = BY_NAME[name]
            steps = [
                budgets.finetune_step(row, SKIES[0], 0, finetuning, settings)
                for settings in budgets.CANDIDATES[finetuning.name][not row.from_scratch]
            ]
            assert len({step.record for step in steps}) == len(steps)

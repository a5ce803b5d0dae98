"""Predictions in the repository: what is read is what was predicted, and nothing gets lost."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from results import goals, store, summary, tables
from results.rows import ALL, SKIES
from results.steps import Step

SKY, IMAGES = SKIES[0], 90
RESULTS = Path(tables.__file__).parent


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path / "predictions")
    monkeypatch.setattr(tables, "HERE", tmp_path)
    monkeypatch.setattr(summary, "PAGE", tmp_path / "README.md")
    summary.PAGE.write_text("before\n<!-- study -->\n| old |\n<!-- end of study -->\nafter\n")


@pytest.fixture
def made(tmp_path):
    """Make a finished evaluation with random predictions; return its step and its table."""

    def make(name, seed=0, control_seed=0, shift=0):
        labels = np.repeat(ALL, IMAGES // len(ALL))
        files = [f"{label}_{i + shift:03d}" for i, label in enumerate(labels)]
        table = pd.DataFrame({"file": files, "label": labels})
        if "masses" in name:
            table = table[table["label"] == "axion"].drop(columns="label")
            table["log10_mass_ev"] = np.linspace(-24, -22, len(table))
        for prefix, number in (("", seed), ("control_", control_seed)):
            generator = np.random.default_rng(number)
            if "masses" in name:
                noise = generator.normal(0, 0.3, len(table))
                table[f"{prefix}predicted"] = table["log10_mass_ev"] + noise
            else:
                logits = 3 * generator.normal(size=(IMAGES, 3)) + (labels[:, None] == ALL)
                found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                table[f"{prefix}predicted"] = np.array(ALL)[found.argmax(axis=1)]
                table[[f"{prefix}p_{label}" for label in ALL]] = found
        report = tmp_path / name
        report.mkdir(exist_ok=True)
        table.sample(frac=1, random_state=1).to_csv(report / "predictions.csv", index=False)
        step = Step(tmp_path / f"{name}.json", "evaluate", ())
        outcome = {"command": [], "processor_seconds": 60.0, "report": str(report)}
        step.record.write_text(json.dumps(outcome))
        return step, table

    return make


def test_what_is_read_is_what_was_predicted(made):
    classes, masses = made("classes-1-test", seed=1), made("masses-200-test", seed=1)
    store.collect(SKY, "object", 0, [classes[0], masses[0]])
    found = store.predictions(SKY, "object", 0)
    for step, expected in (("classes-1-test", classes[1]), ("masses-200-test", masses[1])):
        columns = found[step].columns
        kept = expected[columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[step], kept, atol=2e-3, rtol=2e-3)
    areas = [
        roc_auc_score(table["label"], table[[f"p_{name}" for name in ALL]], multi_class="ovr")
        for table in (found["classes-1-test"], classes[1])
    ]
    assert areas[0] == pytest.approx(areas[1], abs=2e-4)
    assert store.processor_seconds(SKY, "object", 0) == 120


def test_further_steps_add_to_those_that_are_stored(made):
    store.collect(SKY, "object", 0, [made("classes-1-test")[0]])
    missing = Step(store.FOLDER / "never.json", "evaluate", ())
    store.collect(SKY, "object", 0, [made("classes-100-test", seed=3)[0], missing])
    assert store.predictions(SKY, "object", 0).keys() == {"classes-1-test", "classes-100-test"}
    assert store.seeds_of(SKY, "object") == [0]
    assert store.seeds_of(SKY, "object_cdm") == []


def test_a_fine_tuning_by_another_budget_replaces_the_earlier_one(made):
    for number, budget in enumerate(("learning_rate-0.1", "learning_rate-0.2"), start=1):
        trained = made(f"classes-1-{budget}", number)[0]
        tested = made("classes-1-test", number)[0]
        store.collect(SKY, "object", 0, [trained, tested, made("classes-100-test")[0]])
    store.collect(SKY, "object", 0, [made("classes-100-test")[0]])
    table = pd.read_csv(store.FOLDER / SKY.name / "processor_seconds.csv")
    steps = ["classes-1-learning_rate-0.2", "classes-1-test", "classes-100-test"]
    assert table["step"].tolist() == steps


def test_the_same_predictions_make_the_same_bytes(made):
    step = made("classes-1-test")[0]
    for _ in range(2):
        store.collect(SKY, "object", 0, [step])
        content = {path: path.read_bytes() for path in store.FOLDER.rglob("*.*")}
    store.collect(SKY, "object", 0, [step])
    assert {path: path.read_bytes() for path in store.FOLDER.rglob("*.*")} == content


def test_other_images_or_another_control_are_refused(made):
    store.collect(SKY, "object", 0, [made("classes-1-test")[0]])
    with pytest.raises(ValueError, match="other images"):
        store.collect(SKY, "image", 0, [made("classes-1-test", shift=1)[0]])
    with pytest.raises(ValueError, match="another untrained network"):
        store.collect(SKY, "image", 0, [made("classes-1-test", control_seed=5)[0]])
    store.collect(SKY, "image", 1, [made("classes-1-test", control_seed=5)[0]])


def test_tables_have_what_scikit_learn_finds(made, tmp_path):
    expected = {}
    for number, row in enumerate(("scratch", "object"), start=1):
        steps = [made(name, number) for name in ("classes-1-test", "masses-2000-test")]
        store.collect(SKY, row, 0, [step for step, _ in steps])
        classes, masses = (table for _, table in steps)
        scores = classes[[f"p_{name}" for name in ALL]]
        expected[row, "fine-tuned, 1 %"] = roc_auc_score(
            classes["label"], scores, multi_class="ovr"
        )
        expected[row, "fine-tuned R², 2,000"] = r2_score(
            masses["log10_mass_ev"], masses["predicted"]
        )
    tables.write_tables()
    table = pd.read_csv(tmp_path / "clean.csv").set_index(["row", "readout"])
    for key, value in expected.items():
        assert table.loc[key, "value"] == pytest.approx(value, abs=3e-4)
    key = "object", "fine-tuned, 1 %"
    minus = expected[key] - expected["scratch", key[1]]
    assert table.loc[key, "minus_scratch"] == pytest.approx(minus, abs=5e-4)
    text = (tmp_path / "clean.md").read_text()
    assert "| `object` | contrastive, two images of a lens | 1 |" in text
    assert "`image`" not in text  # was not run
    short = summary.PAGE.read_text()
    assert short.startswith("before\n<!-- study -->\n\n| pretraining | probe, 1 %, noise-free |")
    assert short.endswith("|\n\n<!-- end of study -->\nafter\n")
    assert f"| contrastive, two images of a lens | - | - | {expected[key]:.3f} | - | - |" in short
    reached = (tmp_path / "goals.md").read_text()
    assert f"above training from scratch | {minus:.3f}" in reached
    assert "| not run | 0 | - |" in reached


def test_features_of_the_supervised_network_are_a_row_of_their_own(made):
    steps = [made(name)[0] for name in ("classes-1-test", "probe-classification-1")]
    store.collect(SKY, "scratch", 0, steps)
    store.collect(SKY, "scratch", 1, steps[:1])
    assert list(store.predictions(SKY, "scratch", 0)) == ["classes-1-test"]
    assert list(store.predictions(SKY, store.SUPERVISED_FEATURES, 0)) == ["probe-classification-1"]
    assert store.seeds_of(SKY, "scratch") == [0, 1]
    assert store.seeds_of(SKY, store.SUPERVISED_FEATURES) == [0]


def test_the_tables_of_the_repository_are_those_of_its_predictions(tmp_path, monkeypatch):
    monkeypatch.undo()
    skies = [sky.name for sky in SKIES if (store.FOLDER / sky.name).is_dir()]
    pages = [*(RESULTS / f"{name}.md" for name in (*skies, "goals")), summary.PAGE]
    before = [page.read_bytes() for page in pages]
    monkeypatch.setattr(tables, "HERE", tmp_path)
    monkeypatch.setattr(summary, "PAGE", tmp_path / "README.md")
    summary.PAGE.write_bytes(before[-1])
    tables.write_tables()
    assert [(tmp_path / page.name).read_bytes() for page in pages] == before


@pytest.mark.parametrize(
    ("bound", "value", "met"),
    [(0.97, 0.97, "yes"), (0.97, 0.9699, "no"), (-0.08, 0.0799, "yes"), (-0.08, 0.081, "no")],
)
def test_a_goal_is_met_at_its_bound(monkeypatch, bound, value, met):
    monkeypatch.setattr(goals, "GOALS", (goals.Goal("g", "object", ("a", "b"), bound),))
    lines = [{"row": "object", "readout": "b", "value": value}]
    text = goals.goals_markdown({"clean": pd.DataFrame(lines)})
    assert text.splitlines()[4] == f"| g | {value:.4f} | 1 | {met} |"

"""Comparing runs: grouping, intervals, and what is refused. The run folders are written by hand."""

import json

import numpy as np
import pytest
from scipy import stats

from deeplens_tf.compare import main
from deeplens_tf.config import load_config, save_config
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.comparison import (
    BASELINE,
    CONTROL,
    compare,
    markdown_table,
    missing_references,
    read_entries,
)


def write_run(folder, auc, *, method="contrastive", seed=0, test_set="a" * 64, split="test"):
    folder.mkdir()
    save_config(load_config("defaults", [f"seed={seed}"]), folder / "config.yaml")
    origin = {"method": method, "pretexts": ["flip"] if method else []}
    facts = {"encoder": origin, "labels_used": 90}
    (folder / "environment.json").write_text(json.dumps(facts))
    write_metrics(folder, split, {**scored(auc), "split": split, "test_set": test_set})
    return folder


def scored(auc, head="classification"):
    values = {"macro_auc": auc, "accuracy": auc - 0.1, "mae_dex": auc, "r2": auc}
    intervals = {key: [value - 0.02, value + 0.03] for key, value in values.items()}
    return {**values, "head": head, "intervals_95": intervals}


def write_metrics(folder, name, metrics):
    report = folder / "evaluation" / name
    report.mkdir(parents=True)
    (report / "metrics.json").write_text(json.dumps(metrics))


def write_probed_run(folder, auc, control_auc):
    write_run(folder, auc)
    probed = {"probe": "logistic", "n_train": 5400}
    metrics = {**scored(auc), **probed, "split": "test", "test_set": "a" * 64}
    metrics["control"] = {**scored(control_auc), **probed}
    write_metrics(folder, "test-probe", metrics)
    (folder / "evaluation" / "test" / "metrics.json").unlink()
    return folder


def test_one_seed_keeps_the_interval_over_test_images(tmp_path):
    table = compare(read_entries([write_run(tmp_path / "run", 0.9)]))
    row = table.iloc[0]
    assert (row["method"], row["pretext"], row["labels"]) == ("contrastive", "flip", 90)
    assert (row["macro_auc"], row["macro_auc_low"], row["macro_auc_high"]) == (0.9, 0.88, 0.93)


def test_seeds_are_averaged_with_students_interval(tmp_path):
    aucs = [0.90, 0.93, 0.91]
    runs = [write_run(tmp_path / str(i), auc, seed=i) for i, auc in enumerate(aucs)]
    row = compare(read_entries(runs)).iloc[0]
    low, high = stats.t.interval(0.95, 2, np.mean(aucs), stats.sem(aucs))
    assert row["seeds"] == 3
    np.testing.assert_allclose(
        [row["macro_auc"], row["macro_auc_low"], row["macro_auc_high"]], [np.mean(aucs), low, high]
    )


def test_the_best_comes_first_and_references_are_named(tmp_path):
    baseline = write_run(tmp_path / "baseline", 0.97, method=None)
    table = compare(read_entries([write_run(tmp_path / "run", 0.9), baseline]))
    assert list(table["method"]) == [BASELINE, "contrastive"]
    assert missing_references(table) == [CONTROL]


def test_a_probe_brings_its_control(tmp_path):
    table = compare(read_entries([write_probed_run(tmp_path / "run", 0.7, 0.94)]))
    assert list(table["method"]) == [CONTROL, "contrastive"]
    assert list(table["macro_auc"]) == [0.94, 0.7]
    assert set(table["readout"]) == {"logistic probe"}


def test_different_test_sets_are_refused(tmp_path):
    other = write_run(tmp_path / "other", 0.9, test_set="b" * 64)
    entries = read_entries([write_run(tmp_path / "run", 0.9), other])
    with pytest.raises(RequestError, match="different test sets"):
        compare(entries)


def test_what_is_no_evaluated_run_is_refused(tmp_path):
    run = write_run(tmp_path / "run", 0.9)
    report = run / "evaluation" / "test" / "metrics.json"
    report.write_text('{"split": "test"}')
    with pytest.raises(RequestError, match="evaluated by another version or damaged"):
        read_entries([run])
    report.unlink()
    with pytest.raises(RequestError, match="not evaluated"):
        read_entries([run])
    with pytest.raises(RequestError, match="no run folder"):
        read_entries([tmp_path])


def test_the_stage_writes_table_and_picture(tmp_path, capsys):
    runs = [write_run(tmp_path / str(i), 0.9 + i / 100, seed=i) for i in range(2)]
    main([*map(str, runs), "--out", str(tmp_path / "out")])
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert table == markdown_table(compare(read_entries(runs)), "classification")
    assert "| contrastive | flip | vit_nano | fine-tuned | 90 | 2 | 0.905 [" in table
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "out" / "comparison.csv").read_text().splitlines()) == 2
    assert f"not among these runs: the {BASELINE}" in capsys.readouterr().out

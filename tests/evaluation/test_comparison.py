"""Comparing runs: groups, intervals, and what is refused. The run folders are artificial."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from deeplens_tf.compare import main
from deeplens_tf.config import load_config, save_config
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation import compare_runs, comparison_figure, markdown_table
from deeplens_tf.evaluation.comparison import compare, missing_references
from deeplens_tf.evaluation.run_entries import BASELINE, CONTROL, read_entries
from deeplens_tf.evaluation.run_histories import read_histories
from deeplens_tf.figures import training_curves
from deeplens_tf.runs.run_folder import Run

SIZES = ("data.image_size=64", "data.fit=resize")  # as the stages resolve them
PRETRAINED = {
    "method": "contrastive",
    "pretexts": ["flip"],
    "epochs": 20,
    "seed": 0,
    "settings": {"train.epochs": 20, "data": "f" * 64},
}


def write_run(
    folder,
    auc,
    *overrides,
    origin=PRETRAINED,
    seed=0,
    labels=90,
    test_set="a" * 64,
    split="test",
    data="d" * 64,
):
    """A fine-tuning run with its evaluation; `overrides` change its configuration."""
    folder.mkdir()
    save_config(
        load_config("defaults", [*SIZES, f"seed={seed}", *overrides]), folder / "config.yaml"
    )
    facts = {"stage": "finetune", "encoder": origin, "labels_used": labels}
    facts["dataset_fingerprint"] = data
    (folder / "environment.json").write_text(json.dumps(facts))
    write_metrics(folder, split, {**scored(auc), "split": split, "test_set": test_set})
    return folder


def write_baseline(folder, auc, *overrides, **changes):
    return write_run(folder, auc, *overrides, origin={"method": None}, **changes)


def scored(auc, head="classification"):
    values = {"macro_auc": auc, "accuracy": auc - 0.1, "mae_dex": auc, "r2": auc}
    intervals = {key: [value - 0.02, value + 0.03] for key, value in values.items()}
    return {**values, "head": head, "intervals_95": intervals}


def write_metrics(folder, name, metrics):
    report = folder / "evaluation" / name
    report.mkdir(parents=True)
    (report / "metrics.json").write_text(json.dumps(metrics))


def write_probed_run(folder, auc, control_auc, *overrides, stage="pretrain", head="classification"):
    """A run, of pretraining by default, with a probe of its encoder."""
    folder.mkdir()
    save_config(load_config("defaults", [*SIZES, *overrides]), folder / "config.yaml")
    facts = {"stage": stage, "encoder": {"method": None}, "dataset_fingerprint": "d" * 64}
    (folder / "environment.json").write_text(json.dumps(facts))
    write_probe(folder, auc, control_auc, head)
    return folder


def write_probe(folder, auc, control_auc, head="classification"):
    probed = {"probe": "logistic", "n_train": 5400}
    metrics = {**scored(auc, head), **probed, "split": "test", "test_set": "a" * 64}
    metrics["control"] = {**scored(control_auc, head), **probed}
    metrics["data"] = {"path": "data", "fingerprint": "d" * 64}
    write_metrics(folder, f"test-probe-{head}-linear", metrics)


def test_one_seed_keeps_the_interval_over_test_images(tmp_path):
    table = compare_runs([write_run(tmp_path / "run", 0.9)])
    row = table.iloc[0]
    assert (row["method"], row["augmentations"], row["labels"]) == ("contrastive", "flip", 90)
    assert (row["macro_auc"], row["macro_auc_low"], row["macro_auc_high"]) == (0.9, 0.88, 0.93)


def test_runs_may_be_given_as_folders_or_runs_and_all_quantities_are_drawn(tmp_path):
    folder = write_run(tmp_path / "run", 0.9)
    table = compare_runs([str(folder)])
    pd.testing.assert_frame_equal(compare_runs([Run(folder)]), table)
    figure = comparison_figure(table)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "macro AUC (one against the rest)",
        "accuracy",
    ]
    assert len(comparison_figure(table, ["accuracy"]).axes) == 1


def test_seeds_are_averaged_with_students_interval(tmp_path):
    aucs = [0.90, 0.93, 0.91]
    runs = [write_run(tmp_path / str(i), auc, seed=i) for i, auc in enumerate(aucs)]
    row = compare_runs(runs).iloc[0]
    low, high = stats.t.interval(0.95, 2, np.mean(aucs), stats.sem(aucs))
    assert row["seeds"] == 3
    np.testing.assert_allclose(
        [row["macro_auc"], row["macro_auc_low"], row["macro_auc_high"]], [np.mean(aucs), low, high]
    )


def test_seeds_of_the_pretraining_are_averaged_too(tmp_path):
    runs = [
        write_run(tmp_path / str(seed), 0.9, origin={**PRETRAINED, "seed": seed})
        for seed in range(2)
    ]
    assert list(compare_runs(runs)["seeds"]) == [2]


@pytest.mark.parametrize(
    ("overrides", "differing"),
    [
        (["encoder.patch_size=4"], ["encoder.patch_size null", "encoder.patch_size 4"]),
        (
            ["optimizer.learning_rate=0.01"],
            ["optimizer.learning_rate 0.001", "optimizer.learning_rate 0.01"],
        ),
    ],
)
def test_baselines_that_were_trained_differently_are_two_rows_that_name_the_settings(
    tmp_path, overrides, differing
):
    runs = [
        write_baseline(tmp_path / "first", 0.9),
        write_baseline(tmp_path / "other", 0.8, *overrides),
    ]
    table = compare_runs(runs)
    assert list(table["macro_auc"]) == [0.9, 0.8]
    assert list(table["seeds"]) == [1, 1]
    assert list(table["differing"]) == differing
    text = markdown_table(table)
    assert "| labels | differing | seeds |" in text
    assert all(setting in text for setting in differing)


def test_baselines_of_other_training_images_are_two_rows(tmp_path):
    runs = [write_baseline(tmp_path / name, 0.9, data=name * 64) for name in "ab"]
    assert list(compare_runs(runs)["differing"]) == ["data aaaaaaaaaaaa", "data bbbbbbbbbbbb"]


def test_encoders_that_were_pretrained_differently_are_two_rows(tmp_path):
    longer = {**PRETRAINED, "settings": {**PRETRAINED["settings"], "train.epochs": 99}}
    runs = [write_run(tmp_path / "a", 0.9), write_run(tmp_path / "b", 0.8, origin=longer)]
    differing = ["encoder's train.epochs 20", "encoder's train.epochs 99"]
    assert list(compare_runs(runs)["differing"]) == differing


def test_encoders_of_unknown_origin_are_distinguished_by_their_content(tmp_path):
    runs = [
        write_run(tmp_path / name, 0.9, origin={"method": "unknown", "sha256": name * 64})
        for name in "ab"
    ]
    assert list(compare_runs(runs)["differing"]) == [
        f"encoder's sha256 {name * 12}" for name in "ab"
    ]


def test_paths_and_settings_without_effect_make_no_row(tmp_path):
    runs = [
        write_run(tmp_path / "a", 0.9, "data.path=here", "checkpoint.keep=1"),
        write_run(tmp_path / "b", 0.9, "data.path=there", "finetune.encoder=x", seed=1),
    ]
    assert list(compare_runs(runs)["seeds"]) == [2]


def test_a_training_given_twice_is_refused(tmp_path):
    runs = [write_baseline(tmp_path / name, auc) for name, auc in (("a", 0.9), ("b", 0.8))]
    with pytest.raises(RequestError, match=r"a and .*b are the same run"):
        compare_runs(runs)
    with pytest.raises(RequestError, match="are the same run"):
        compare_runs([runs[0], runs[0]])


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "origin",
    [
        [],
        "contrastive",
        {},
        {**PRETRAINED, "seed": "0"},
        {**PRETRAINED, "settings": ["a"]},
        {**PRETRAINED, "settings": {"a": {"b": 1}}},
        {**PRETRAINED, "settings": {"a": "x" * 1000}},
        {**PRETRAINED, "settings": {"a": nested(900)}},
        {**PRETRAINED, "pretexts": 5},
        {**PRETRAINED, "before": {"method": "x", "settings": 5}},
    ],
)
def test_an_invalid_origin_is_refused(tmp_path, origin):
    run = write_run(tmp_path / "run", 0.9, origin=origin)
    with pytest.raises(RequestError, match="evaluated by another version or damaged"):
        read_entries([run])


def test_the_control_of_two_pretrainings_is_one_network(tmp_path):
    runs = [
        write_probed_run(tmp_path / method, auc, 0.94, f"pretrain.method={method}")
        for method, auc in (("byol", 0.7), ("simsiam", 0.8))
    ]
    assert list(compare_runs(runs)["method"]) == [CONTROL, "simsiam", "byol"]
    other = write_probed_run(tmp_path / "patch", 0.6, 0.91, "encoder.patch_size=4")
    table = compare_runs([*runs, other])
    assert list(table["differing"][table["method"] == CONTROL]) == [
        "encoder.patch_size null",
        "encoder.patch_size 4",
    ]


def test_the_best_comes_first(tmp_path):
    baseline = write_baseline(tmp_path / "baseline", 0.97)
    table = compare_runs([write_run(tmp_path / "run", 0.9), baseline])
    assert list(table["method"]) == [BASELINE, "contrastive"]


def test_a_reference_needs_the_same_labels_and_network(tmp_path):
    run = write_run(tmp_path / "run", 0.9, "encoder.patch_size=4")
    wanted = "with 90 labels (vit_nano, patch_size 4, 64 pixels)"
    both = [f"{BASELINE} {wanted}", f"{CONTROL} {wanted}"]
    more = write_baseline(tmp_path / "more", 0.9, "encoder.patch_size=4", labels=900)
    patch = write_baseline(tmp_path / "patch", 0.9, "encoder.patch_size=8")
    assert missing_references(read_entries([run])) == both
    assert missing_references(read_entries([run, more, patch]))[:2] == both
    right = write_baseline(tmp_path / "right", 0.9, "encoder.patch_size=4")
    assert missing_references(read_entries([run, right])) == both[1:]


def test_a_probe_brings_its_control(tmp_path):
    table = compare_runs([write_probed_run(tmp_path / "run", 0.7, 0.94)])
    assert list(table["method"]) == [CONTROL, "contrastive"]
    assert list(table["macro_auc"]) == [0.94, 0.7]
    assert set(table["readout"]) == {"logistic probe"}


def test_features_trained_with_labels_are_called_supervised(tmp_path):
    table = compare_runs([write_probed_run(tmp_path / "run", 0.97, 0.94, stage="finetune")])
    assert list(table["method"]) == ["supervised", CONTROL]
    supervised = {**PRETRAINED, "method": None, "supervised": True}
    twice = write_run(tmp_path / "twice", 0.9, origin=supervised)
    after = write_run(tmp_path / "after", 0.8, origin={**PRETRAINED, "supervised": True})
    assert list(compare_runs([twice, after])["method"]) == [
        "supervised",
        "contrastive + supervised",
    ]


def test_runs_with_one_head_in_common_are_compared_by_that_head(tmp_path):
    both = write_probed_run(tmp_path / "both", 0.7, 0.9)
    write_probe(both, 0.5, 0.6, "regression")
    tuned = write_run(tmp_path / "tuned", 0.95)
    assert list(compare_runs([both, tuned])["macro_auc"]) == [0.95, 0.9, 0.7]
    with pytest.raises(RequestError, match="different quantities"):
        compare_runs([both])


def test_different_test_sets_are_refused(tmp_path):
    other = write_run(tmp_path / "other", 0.9, test_set="b" * 64)
    entries = read_entries([write_run(tmp_path / "run", 0.9), other])
    with pytest.raises(RequestError, match="different test sets"):
        compare(entries)


def test_a_folder_that_is_not_an_evaluated_run_is_refused(tmp_path):
    run = write_run(tmp_path / "run", 0.9)
    report = run / "evaluation" / "test" / "metrics.json"
    report.write_text('{"split": "test"}')
    with pytest.raises(RequestError, match="evaluated by another version or damaged"):
        read_entries([run])
    report.unlink()
    with pytest.raises(RequestError, match="not evaluated"):
        read_entries([run])
    with pytest.raises(RequestError, match="not a run folder"):
        read_entries([tmp_path])


def write_history(run, losses):
    rows = "".join(f"{epoch},{loss}\n" for epoch, loss in enumerate(losses))
    (run / "history.csv").write_text("epoch,loss\n" + rows)


def test_the_stage_writes_table_and_figures(tmp_path, capsys, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "deeplens_tf.figures.history_figures.training_curves",
        lambda histories: drawn.update(histories) or training_curves(histories),
    )
    runs = [write_run(tmp_path / f"run{i}", 0.9 + i / 100, seed=i) for i in range(3)]
    for run in runs[:2]:
        write_history(run, [2.0, 1.0])
    main([*map(str, runs), "--out", str(tmp_path / "out")])
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert table == markdown_table(compare_runs(runs))
    assert "| contrastive | flip | vit_nano | fine-tuned | 90 | 3 | 0.910 [" in table
    for figure in ("comparison.png", "training_curves.png"):
        assert (tmp_path / "out" / figure).read_bytes().startswith(b"\x89PNG")
    assert list(drawn) == ["run0", "run1"]
    assert list(drawn["run1"]["loss"]) == [2.0, 1.0]
    assert len((tmp_path / "out" / "comparison.csv").read_text().splitlines()) == 2
    assert f"missing reference: {BASELINE} with 90" in capsys.readouterr().out


def test_a_file_with_the_name_of_the_results_is_refused(tmp_path):
    run = write_run(tmp_path / "run", 0.9)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(
        RequestError, match=r"--out .*out: a file with this name exists; name a folder"
    ):
        main([str(run), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "epoch,loss\n0,high\n", "a,b\n1,2\n", "\0"])
def test_an_invalid_history_is_refused(tmp_path, text):
    run = write_run(tmp_path / "run", 0.9)
    (run / "history.csv").write_text(text)
    with pytest.raises(RequestError, match=r"history\.csv: not the history of a run"):
        read_histories([run])


def test_runs_of_one_name_are_drawn_under_their_paths(tmp_path):
    runs = []
    for parent in ("a", "b"):
        (tmp_path / parent).mkdir()
        runs.append(write_run(tmp_path / parent / "run", 0.9))
        write_history(runs[-1], [1.0, 1e300])
    histories = read_histories(runs)
    assert list(histories) == [str(run) for run in runs]
    assert np.isnan(histories[str(runs[0])]["loss"][1])


def of_other_data(auc, test_set="e" * 64):
    metrics = {**scored(auc), "split": "external", "test_set": test_set}
    return metrics | {"data": {"path": "hst", "fingerprint": "f" * 64, "own": False}}


def test_a_report_on_other_data_is_left_out_and_named(tmp_path, capsys):
    runs = [write_run(tmp_path / name, 0.9, seed=i) for i, name in enumerate("ab")]
    write_metrics(runs[0], "external-hst-01234567", of_other_data(0.5))
    assert list(compare_runs(runs)["macro_auc"]) == [0.9]
    line = "a: left out of the comparison: 1 report on other data than the run's"
    assert line in capsys.readouterr().out


def test_runs_with_reports_on_the_same_other_data_alone_are_compared(tmp_path):
    runs = [write_run(tmp_path / name, 0.9, seed=i) for i, name in enumerate("ab")]
    for run, auc in zip(runs, (0.5, 0.7), strict=True):
        (run / "evaluation" / "test" / "metrics.json").unlink()
        write_metrics(run, "external-hst-01234567", of_other_data(auc))
    assert compare_runs(runs)["macro_auc"].iloc[0] == pytest.approx(0.6)

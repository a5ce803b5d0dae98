"""Regression of a column of the catalogue: its values, its scores, its name and its unit."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deeplens_tf import evaluate, finetune
from deeplens_tf.data.batches import labelled_batches
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.targets import configured_target, require_same_unit, target_values
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.evaluation.comparison import compare_runs
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.evaluation.probe_report import evaluate_probe
from deeplens_tf.inference.predicting import predict
from deeplens_tf.models import DownstreamModel, MassHead
from deeplens_tf.preprocessing.target import MASS, Target
from deeplens_tf.probes.outputs import model_outputs
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_encoder, load_fine_tuned
from deeplens_tf.training.tasks import build_task
from tests.evaluation.runs import finetuned
from tests.models.tiny import tiny_vit

pytestmark = pytest.mark.usefixtures("no_pictures")

TINY = (
    *("encoder.patch_size=8", "encoder.options.depth=0", "train.batch_size=16"),
    *("train.jit_compile=false", "finetune.encoder=none", "augment.views=[flip]"),
)
HEADER = """# %ECSV 1.0
# ---
# delimiter: ','
# datatype:
# - {name: file, datatype: string}
# - {name: label, datatype: string}
# - {name: split, datatype: string}
# - {name: id, datatype: string}
# - {name: theta_e, unit: arcsec, datatype: float64, description: Einstein radius}
# - {name: flux, datatype: float64}
# schema: astropy-2.0
"""


@pytest.fixture
def survey(tmp_path, monkeypatch):
    """A hundred images whose ring has the radius theta_e, which is known of two in three."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "survey").mkdir()
    generator, rows = np.random.default_rng(0), []
    distance = np.hypot(*np.mgrid[-7.5:8, -7.5:8])
    for i in range(100):
        radius = generator.uniform(2, 7)
        ring = np.exp(-((distance - radius) ** 2)) + 0.02 * generator.random((16, 16))
        np.save(f"survey/{i:03d}.npy", ring)
        known = f"{radius / 4:.4f}" if i % 3 else ("", "nan")[i % 2]
        split = "test" if i >= 70 else "train"
        rows.append((f"{i:03d}.npy", "ab"[i % 2], split, f"n{i:03d}", known, 1e-17 * radius))
    table = pd.DataFrame(rows, columns=["file", "label", "split", "id", "theta_e", "flux"])
    (tmp_path / "catalog.ecsv").write_text(HEADER + table.to_csv(index=False))
    return table.set_index("file")


def words(*overrides):
    own = ["data.image_size=16", "data.cache=cache", "data.catalog=catalog.ecsv"]
    own += ["finetune.head=regression", "finetune.target=theta_e", *overrides]
    return [word for override in own for word in ("--set", override)]


def config(*overrides):
    from deeplens_tf.config import load_config

    return load_config("finetune", words(*overrides)[1::2], "survey")


def known(survey, files):
    return pd.to_numeric(survey.loc[files, "theta_e"], errors="coerce").to_numpy()


def opened(*overrides):
    changed = config(*overrides)
    return changed, open_data(changed)


# Values, batches and the head


@pytest.mark.parametrize("log10", [False, True])
@pytest.mark.parametrize("in_memory", [False, True])
def test_batches_have_the_values_of_the_table(survey, log10, in_memory, capsys):
    changed, data = opened(f"finetune.log10={str(log10).lower()}")
    task = build_task(changed.finetune, data)
    data = data.in_memory(in_memory, with_margin=False, report=False)
    wanted = known(survey, data.index("train")["file"])
    wanted = np.log10(wanted) if log10 else wanted
    keep = task.training_rows(data, changed.finetune, changed.seed)
    np.testing.assert_array_equal(keep, ~np.isnan(wanted))
    batches = labelled_batches(data, "train", task.target("train"), 7, keep=keep)
    found = np.concatenate([values for _, values in batches.as_numpy_iterator()])
    np.testing.assert_array_equal(found[:, 0], wanted[keep].astype(np.float32))
    assert task.head.mean_dex == pytest.approx(wanted[keep].mean(), rel=1e-12)
    assert task.head.std_dex == pytest.approx(wanted[keep].std(), rel=1e-12)
    label = "log10(theta_e / arcsec)" if log10 else "theta_e / arcsec"
    line = f"regression of {label}: {keep.sum()} training images have a value; skipped: "
    assert line in capsys.readouterr().out


def test_a_shuffled_epoch_keeps_each_value_with_its_image(survey):
    changed, data = opened()
    task = build_task(changed.finetune, data)
    keep = task.training_rows(data, changed.finetune, changed.seed)
    stored = dict(
        zip(
            (image.tobytes() for image in _images(data, task, keep)),
            known(survey, data.index("train")["file"][keep]),
            strict=True,
        )
    )
    batches = labelled_batches(data, "train", task.target("train"), 6, None, 2, keep)
    seen = [
        (image.tobytes(), value)
        for images, values in batches.as_numpy_iterator()
        for image, value in zip(images, values[:, 0], strict=True)
    ]
    assert len({image for image, _ in seen}) > 30
    assert all(np.float32(stored[image]) == value for image, value in seen)


def _images(data, task, keep):
    batches = labelled_batches(data, "train", task.target("train"), 8, keep=keep)
    return np.concatenate([images for images, _ in batches.as_numpy_iterator()])


def test_the_loss_does_not_depend_on_the_unit(survey):
    weights = {}
    for unit, factor in (("arcsec", 1), ("mas", 1000)):
        table = pd.read_csv("catalog.ecsv", comment="#")
        table["theta_e"] = [factor * value for value in table["theta_e"]]
        text = HEADER.replace("arcsec", unit) + table.to_csv(index=False)
        Path("catalog.ecsv").write_text(text)
        changed, data = opened()
        task = build_task(changed.finetune, data)
        weights[unit] = task.loss_weight
        assert task.loss_weight == pytest.approx(1 / task.head.std_dex**2)
    assert weights["arcsec"] == pytest.approx(1e6 * weights["mas"], rel=1e-9)


def test_a_gaussian_head_has_a_floor_in_the_unit_of_the_values(survey):
    changed, data = opened("finetune.likelihood=gaussian")
    head = build_task(changed.finetune, data).head
    assert head.min_std == pytest.approx(1e-3 * head.std_dex)
    assert MassHead.from_config(head.get_config()).min_std == head.min_std
    assert "min_std" not in MassHead(-23.0, 0.5, True).get_config()


@pytest.mark.parametrize(
    ("overrides", "error", "line"),
    [
        (["finetune.target=mass"], RequestError, "no column of numbers 'mass', only theta_e, flux"),
        (["finetune.target=id"], RequestError, "no column of numbers 'id', only theta_e, flux"),
        (
            ["finetune.target=flux"],
            DataError,
            r"same flux, .* to 1e-6: set finetune\.log10=true",
        ),
        (["finetune.target=null", "finetune.log10=true"], RequestError, "those of finetune.target"),
        (
            ["finetune.target=null"],
            RequestError,
            "set finetune.target to a column of the catalogue, theta_e, flux",
        ),
    ],
)
def test_a_wrong_target_is_named(survey, overrides, error, line):
    changed, data = opened(*overrides)
    with pytest.raises(error, match=line):
        build_task(changed.finetune, data)


@pytest.mark.parametrize(
    ("value", "overrides", "error", "line"),
    [
        ("inf", [], DataError, r"the theta_e of 1 of \d+ images of the train split, the first 00"),
        (
            "-1",
            ["finetune.log10=true"],
            RequestError,
            "is not positive: train with finetune.log10=false",
        ),
        (
            "0",
            ["finetune.log10=true"],
            RequestError,
            "is not positive: train with finetune.log10=false",
        ),
    ],
)
def test_a_value_that_has_no_place_on_the_scale_is_named(survey, value, overrides, error, line):
    survey["split"] = "train"
    survey.loc["001.npy", "theta_e"] = value
    Path("catalog.ecsv").write_text(HEADER + survey.reset_index().to_csv(index=False))
    changed, data = opened("data.validation_fraction=0", *overrides)
    with pytest.raises(error, match=line):
        build_task(changed.finetune, data)


# From training to the report


@pytest.mark.parametrize("log10", ["true", "false"])
def test_a_run_learns_a_column_and_its_report_has_name_and_unit(survey, log10, tmp_path, capsys):
    tiny = [*TINY, "train.epochs=2", f"finetune.log10={log10}"]
    finetune.main([*words(*tiny), "--data", "survey", "--run-dir", "run"])
    error = "mae_dex" if log10 == "true" else "mae"
    assert {error, f"val_{error}"} <= set(pd.read_csv("run/history.csv"))
    evaluate.main(["--run", "run"])
    label = "log10(theta_e / arcsec)" if log10 == "true" else "theta_e / arcsec"
    out = capsys.readouterr().out
    errors = "dex" if log10 == "true" else "arcsec"
    assert f"{label}: test split, 20 images; errors in {errors}" in out
    metrics = json.loads((tmp_path / "run/evaluation/test/metrics.json").read_text())
    assert metrics["target"] == {
        "column": "theta_e",
        "unit": "arcsec",
        "log10": log10 == "true",
    }
    table = pd.read_csv("run/evaluation/test/predictions.csv").set_index("file")
    std = "std / dex" if log10 == "true" else "std / arcsec"
    assert list(table) == [label, f"predicted {label}", std, "unlike_training", "id"]
    true = known(survey, table.index)
    true = np.log10(true) if log10 == "true" else true
    np.testing.assert_array_equal(table[label], true)
    predicted = table[f"predicted {label}"]
    assert metrics["r2"] == pytest.approx(r2_score(true, predicted), rel=1e-6)
    assert metrics[error] == pytest.approx(mean_absolute_error(true, predicted), rel=1e-6)
    assert set(metrics["intervals_95"]) == {error, error.replace("mae", "rmse"), "r2"}
    assert metrics["n_skipped_without_value"] == 10
    assert ("mae_dex" in metrics) == (log10 == "true")
    written = pd.read_csv(predict("run", "survey", catalog="catalog.ecsv").table)
    assert list(written) == ["file", f"predicted {label}", std, "unlike_training", "id", "reason"]
    compared = compare_runs([Run(tmp_path / "run")])
    assert compared[error][0] == pytest.approx(metrics[error])


def test_a_run_is_not_resumed_with_other_values(survey):
    finetune.main([*words(*TINY, "train.epochs=1"), "--data", "survey", "--run-dir", "run"])
    again = ["--resume", "--run-dir", "run", "--set", "train.epochs=2"]
    changed = survey.assign(theta_e=[value and str(2 * float(value)) for value in survey.theta_e])
    Path("catalog.ecsv").write_text(HEADER + changed.reset_index().to_csv(index=False))
    with pytest.raises(DataError, match=r"other values of finetune\.target for its train"):
        finetune.main(again)
    survey["flux"] *= 2  # which is not the target
    Path("catalog.ecsv").write_text(HEADER + survey.reset_index().to_csv(index=False))
    finetune.main(again)
    assert len(pd.read_csv("run/history.csv")) == 2


def test_a_probe_of_a_column_is_a_ridge_on_the_features(survey, tmp_path):
    run = finetuned(tmp_path / "run", config())
    folder, report = evaluate_probe(run, config(), head="regression")
    data, encoder = open_data(config()), load_encoder(run.folder)
    sets = []
    for split in ("train", "test"):
        true = known(survey, data.index(split)["file"])
        sets.append((model_outputs(encoder, data, split)[~np.isnan(true)], true[~np.isnan(true)]))
    (features, values), (tested, truths) = sets
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))
    predicted = ridge.fit(features.astype(float), values).predict(tested.astype(float))
    table = pd.read_csv(folder / "predictions.csv")
    assert report["target"]["column"] == report["control"]["target"]["column"] == "theta_e"
    assert report["n_train"] == len(values)
    np.testing.assert_array_equal(table["theta_e / arcsec"], truths)
    assert np.corrcoef(table["predicted theta_e / arcsec"], predicted)[0, 1] > 0.99
    assert report["mae"] == pytest.approx(
        np.abs(table["predicted theta_e / arcsec"] - truths).mean()
    )


def test_other_values_are_another_test_set(survey, tmp_path):
    run = finetuned(tmp_path / "run", config())
    model = load_fine_tuned(run.model)
    named = DownstreamModel(
        model.encoder,
        model.head,
        training_range=model.training_range,
        target=Target("theta_e", "arcsec", False),
    )
    named.save(run.model)
    sets = []
    for factor in (1, 2):
        survey["theta_e"] = [value and str(factor * float(value)) for value in survey["theta_e"]]
        Path("catalog.ecsv").write_text(HEADER + survey.reset_index().to_csv(index=False))
        sets.append(evaluate_run(run)[1]["test_set"])
    assert sets[0] != sets[1]


def test_values_in_another_unit_are_not_scored(survey, tmp_path):
    run = finetuned(tmp_path / "run", config())
    model = load_fine_tuned(run.model)
    named = DownstreamModel(model.encoder, model.head, target=Target("theta_e", "arcsec", False))
    named.save(run.model)
    for unit in ("mas", ""):
        text = HEADER.replace("arcsec", unit or "''") + survey.reset_index().to_csv(index=False)
        Path("catalog.ecsv").write_text(text)
        if not unit:
            assert evaluate_run(run)[1]["target"]["unit"] == "arcsec"
            continue
        with pytest.raises(RequestError, match="theta_e is in mas, and the model predicts it"):
            evaluate_run(run)
        own = config("finetune.target_unit=arcsec")
        assert evaluate_run(run, own)[1]["target"]["unit"] == "arcsec"


@pytest.mark.parametrize(("of_model", "of_table"), [("km / s", "km s-1"), ("furlong", "furlong")])
def test_a_unit_written_in_another_way_is_the_same(survey, of_model, of_table):
    text = HEADER.replace("unit: arcsec", f"unit: {of_table}")
    Path("catalog.ecsv").write_text(text + survey.reset_index().to_csv(index=False))
    data = open_data(config())
    assert data.catalog_units["theta_e"] == of_table
    require_same_unit(data, Target("theta_e", of_model, log10=False))
    for other in ("m s-1", "km s", "furlongs", "km"):
        with pytest.raises(RequestError, match=rf"is in {of_table}, .* predicts it in {other}: "):
            require_same_unit(data, Target("theta_e", other, log10=False))


def test_a_target_of_a_probe_of_classes_is_refused(survey, tmp_path):
    run = finetuned(tmp_path / "run", config())
    with pytest.raises(RequestError, match="only a probe of a regression uses it"):
        evaluate.main(
            ["--run", str(run.folder), "--probe", "linear", "--set", "finetune.target=flux"]
        )


# A model keeps what it predicts


def test_a_file_keeps_the_target_and_those_of_masses_are_unchanged(tmp_path):
    model = DownstreamModel(tiny_vit(), MassHead(0.0, 1.0), target=Target("z", "", False))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.target == Target("z", "", False)
    of_mass = DownstreamModel(tiny_vit(), MassHead(-23.0, 0.5))
    assert "target" not in of_mass.get_config()
    assert of_mass.target == MASS


@pytest.mark.parametrize(
    "values",
    [
        "z",
        {"column": "z"},
        {"column": 3, "unit": "", "log10": False},
        {"column": "z", "unit": "\x1b[2J", "log10": False},
        {"column": "z", "unit": "", "log10": "yes"},
        {"column": None, "unit": "g", "log10": True},
        {"column": "z" * 201, "unit": "", "log10": True},
    ],
)
def test_a_damaged_target_is_refused(values):
    with pytest.raises(ValueError, match="target must"):
        Target.from_dict(values)


def test_masses_are_the_target_without_a_name(survey):
    changed, data = opened("finetune.target=null")
    assert configured_target(changed.finetune, data) == MASS
    assert np.isnan(target_values(data, "train", MASS)).all()
    assert MASS.headers == ("log10_mass_ev", "predicted", "std_dex")
    assert dataclasses.asdict(MASS) == {"column": None, "unit": "eV", "log10": True}

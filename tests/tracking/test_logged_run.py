"""A run that is broken off, resumed and scored, as W&B, MLflow and TensorBoard have it.

And the same run without any of them, which must be equal.
"""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.dataclass_parsing import to_plain
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.runs.identity import flattened
from deeplens_tf.saving.keras_files import load_model
from deeplens_tf.training import callbacks
from deeplens_tf.training.finetuning import finetune
from tests.conftest import eagerly
from tests.tracking import wandb_files
from tests.training.breaking_off import Stop, break_off_in_step

pytestmark = pytest.mark.slow
EPOCHS, STEPS = 3, 3
LOGGED = (
    *("logging.wandb=lenses", "logging.mlflow=lenses/of/mine"),
    *("logging.views_every_epochs=2", "logging.embedded_images=10"),
)


def children():
    """Return the processes that this one has started and that still run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.append(file.parent.name)
    return sorted(found)


def threads():
    names = {thread.name for thread in threading.enumerate()}
    return names - {"tqdm_monitor"}  # of the progress bars


@pytest.fixture(scope="module")
def runs(tmp_path_factory, blobs_folder, blobs_words):
    """The run with all of `LOGGED`, and the one without; what was running is left as it was."""
    folder = tmp_path_factory.mktemp("runs")
    words = ("finetune.encoder=none", "encoder.name=vit_nano", "train.batch_size=15")
    words += ("train.jit_compile=false", f"train.epochs={EPOCHS}", *blobs_words)
    words += (f"checkpoint.every_steps={STEPS + 1}",)
    small = dict(patch_size=4, width=16, depth=0, heads=2, mlp_width=32)

    def tune(name, *more):
        config = load_config("finetune", [*words, *more], str(blobs_folder))
        return finetune(config, "it", str(folder / name))

    before = children(), threads()
    with pytest.MonkeyPatch.context() as patch, eagerly():
        patch.setitem(VARIANTS, "vit_nano", small)
        patch.delenv("WANDB_MODE", raising=False)  # offline unless the user says otherwise
        patch.setenv("WANDB_X_DISABLE_STATS", "true")
        patch.setenv("MLFLOW_TRACKING_URI", (folder / "store").as_uri())
        plain = tune("plain")
        with patch.context() as broken, pytest.raises(Stop):
            break_off_in_step(broken, callbacks.ReturnMemory, 2 * STEPS + 2)
            tune("logged", *LOGGED)
        logged = tune("logged", *LOGGED)
        evaluate_run(logged)
        import wandb

        wandb.teardown()
        yield logged, plain
    assert (children(), threads()) == before


def history(run):
    return [
        {key: value for key, value in row.items() if value == value}
        for row in pd.read_csv(run.history).to_dict("records")
    ]


def numbers_of_report(run):
    (folder,) = (run.folder / "evaluation").iterdir()
    return folder.name, json.loads((folder / "metrics.json").read_text())


def test_logging_changes_neither_the_weights_nor_the_curves(runs):
    logged, plain = runs
    assert logged.history.read_bytes() == plain.history.read_bytes()
    weights = (load_model(run.model).get_weights() for run in runs)
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_wandb_has_the_rows_of_the_history_once(runs):
    logged, _ = runs
    assert wandb_files.history(logged.folder) == history(logged)
    assert len(history(logged)) == EPOCHS


def test_wandb_has_one_run_with_its_configuration_and_its_report(runs):
    logged, _ = runs
    told = wandb_files.runs(logged.folder)
    assert len({each.run_id for each in told}) == 1
    assert {(each.project, each.display_name) for each in told} == {("lenses", "logged")}
    assert {each.run_id for each in told} == {
        json.loads((logged.folder / "logging.json").read_text())["wandb"]["id"]
    }
    config = wandb_files.config(told[-1])
    assert config["optimizer"] == to_plain(logged.load_config())["optimizer"]
    assert config["run"]["packages"] == logged.facts()["packages"]
    assert config["run"]["run_folder"] == str(logged.folder.resolve())
    name, report = numbers_of_report(logged)
    found = wandb_files.summary(logged.folder)
    assert found[f"{name}/macro_auc"] == report["macro_auc"]
    assert found[f"{name}/per_class_auc/cdm"] == report["per_class_auc"]["cdm"]
    assert found["loss"] == history(logged)[-1]["loss"]


@pytest.fixture
def mlflow_run(runs):
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("lenses/of/mine")
    (found,) = client.search_runs([experiment.experiment_id])
    return client, found


def test_mlflow_has_the_rows_of_the_history_once(runs, mlflow_run):
    logged, (client, found) = runs[0], mlflow_run
    rows = [{"epoch": epoch} for epoch in range(EPOCHS)]
    for name in pd.read_csv(logged.history).columns[1:]:
        for each in client.get_metric_history(found.info.run_id, name):
            assert name not in rows[each.step]
            rows[each.step][name] = each.value
    assert rows == history(logged)


def test_mlflow_has_the_configuration_the_report_and_the_ending(runs, mlflow_run):
    logged, (_, found) = runs[0], mlflow_run
    assert found.info.status == "FINISHED"
    assert found.data.tags["run_folder"] == str(logged.folder.resolve())
    assert found.data.tags["packages.keras"] == logged.facts()["packages"]["keras"]
    config = flattened(to_plain(logged.load_config()))
    expected = {key: "null" if value is None else str(value) for key, value in config.items()}
    assert found.data.params == expected
    name, report = numbers_of_report(logged)
    assert found.data.metrics[f"{name}/macro_auc"] == report["macro_auc"]


def test_no_address_is_in_the_run_folder(runs):
    for run in runs:
        for file in (*run.folder.glob("*.json"), run.config):
            assert "store" not in file.read_text(), file


def test_tensorboard_has_pictures_of_views_and_the_projectors_files(runs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.projector.projector_plugin import (
        ProjectorConfig,
        _read_tensor_tsv_file,
        text_format,
    )

    logged, plain = runs
    folder = logged.tensorboard / "pictures"
    read = EventAccumulator(str(folder)).Reload()
    steps = {each.step for each in read.Tensors("view_1")}
    assert steps == {0, 2}
    found = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = found.embeddings
    vectors = _read_tensor_tsv_file(str(folder / embedding.tensor_path))
    assert vectors.shape == tuple(embedding.tensor_shape) == (10, 16)
    lines = (folder / embedding.metadata_path).read_text().splitlines()
    assert lines[0] == "file\tlabel"
    assert len(lines) == 11
    assert not (plain.tensorboard / "pictures").exists()

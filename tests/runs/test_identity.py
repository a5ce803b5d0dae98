"""The settings that distinguish two ways of training."""

import pytest

from deeplens_tf.config import load_config
from deeplens_tf.runs.identity import result_settings


def settings(*overrides, stage="finetune"):
    return result_settings(load_config("defaults", overrides), stage)


@pytest.mark.parametrize(
    "override",
    [
        "seed=3",
        "data.path=elsewhere",
        "data.cache=elsewhere",
        "finetune.encoder=runs/x",
        "checkpoint.keep=5",
        "logging.wandb=lenses",
        "data.in_memory=false",
        "data.catalog_columns={file: path, label: null}",
        "optimizer.schedule_epochs=20",  # the value that null stands for
        "pretrain.temperature=0.5",
    ],
)
def test_seeds_paths_and_the_other_stage_do_not(override):
    assert settings(override) == settings()


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("encoder.patch_size=4", "encoder.patch_size", 4),
        ("optimizer.learning_rate=0.1", "optimizer.learning_rate", 0.1),
        ("finetune.fraction=0.5", "finetune.fraction", 0.5),
        ("finetune.encoder_rate=0.5", "finetune.encoder_rate", 0.5),
        ("augment.flip.vertical=false", "augment.flip.vertical", False),
        ("data.image_size=32", "data.image_size", 32),
    ],
)
def test_everything_else_does(override, key, value):
    found = settings(override)
    assert {k for k in found if found[k] != settings()[k]} == {key}
    assert found[key] == value


def test_pretraining_is_distinguished_by_its_own_keys():
    assert settings("finetune.fraction=0.5", stage="pretrain") == settings(stage="pretrain")
    assert settings("pretrain.encoder=runs/x", stage="pretrain") == settings(stage="pretrain")
    changed = settings("pretrain.temperature=0.5", stage="pretrain")
    assert changed["pretrain.temperature"] == 0.5

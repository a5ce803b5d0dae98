"""Which keys of a configuration tell two ways of training apart."""

import pytest

from deeplens_tf.config import load_config
from deeplens_tf.runs.identity import deciding_settings


def settings(*words, stage="finetune"):
    return deciding_settings(load_config("defaults", words), stage)


@pytest.mark.parametrize(
    "word",
    [
        "seed=3",
        "data.path=elsewhere",
        "data.cache=elsewhere",
        "finetune.encoder=runs/x",
        "checkpoint.keep=5",
        "optimizer.schedule_epochs=20",  # which is what null stands for
        "pretrain.temperature=0.5",
    ],
)
def test_seeds_places_and_the_other_stage_decide_nothing(word):
    assert settings(word) == settings()


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("encoder.patch_size=4", "encoder.patch_size", 4),
        ("optimizer.learning_rate=0.1", "optimizer.learning_rate", 0.1),
        ("finetune.fraction=0.5", "finetune.fraction", 0.5),
        ("augment.flip.vertical=false", "augment.flip.vertical", False),
        ("data.image_size=32", "data.image_size", 32),
    ],
)
def test_everything_else_does(word, key, value):
    found = settings(word)
    assert {k for k in found if found[k] != settings()[k]} == {key}
    assert found[key] == value


def test_a_pretraining_is_told_apart_by_its_own_keys():
    assert settings("finetune.fraction=0.5", stage="pretrain") == settings(stage="pretrain")
    changed = settings("pretrain.temperature=0.5", stage="pretrain")
    assert changed["pretrain.temperature"] == 0.5

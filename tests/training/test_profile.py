"""`--profile` writes a profile that names operations of the step, and changes no result."""

import numpy as np
import pytest

from deeplens_tf import finetune, load_encoder, pretrain
from deeplens_tf.training.callbacks import _profiled_steps

QUICK = (
    "train.epochs=1",
    "train.batch_size=15",
    "train.jit_compile=false",
    "encoder.options.depth=1",
)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, (1, 1)), (9, (1, 9)), (12, (3, 12)), (20, (11, 20)), (1000, (11, 20))],
)
def test_ten_steps_after_the_first_ten(steps, expected):
    assert _profiled_steps(steps) == expected


@pytest.fixture(scope="module")
def runs(blobs_words, tmp_path_factory):
    """The same pretraining with a profile and without."""
    folder = tmp_path_factory.mktemp("runs")
    words = [word for setting in (*blobs_words, *QUICK) for word in ("--set", setting)]
    for name, options in (("profiled", ["--profile"]), ("plain", [])):
        pretrain.main([*words, "--run-dir", str(folder / name), *options])
    return folder, words


def profiles_of(run):
    return list(run.glob("tensorboard/**/*.xplane.pb"))


def test_the_profile_names_operations_of_the_step(runs):
    (file,) = profiles_of(runs[0] / "profiled")
    assert b"MatMul" in file.read_bytes()
    assert profiles_of(runs[0] / "plain") == []


def test_the_profile_changes_no_result(runs):
    folder = runs[0]
    encoders = [load_encoder(folder / name) for name in ("profiled", "plain")]
    for ours, theirs in zip(*(each.get_weights() for each in encoders), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    configs = [(folder / name / "config.yaml").read_text() for name in ("profiled", "plain")]
    assert configs[0] == configs[1]


def test_fine_tuning_is_profiled_too(runs, capsys):
    folder, words = runs
    options = ["--head", "classification", "--encoder", str(folder / "plain"), "--profile"]
    finetune.main([*words, *options, "--run-dir", str(folder / "fine")])
    assert len(profiles_of(folder / "fine")) == 1
    assert "profile: steps 1 to 3 of this command" in capsys.readouterr().out

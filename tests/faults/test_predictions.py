"""SIGKILL at any moment of `predict` loses at most a batch, and never changes the table."""

import signal

import numpy as np
import pytest

from deeplens_tf.config import load_config
from tests.conftest import write_blobs
from tests.evaluation.runs import finetuned
from tests.faults.test_kills import KILL_AT_FLUSH

SMALL_BATCHES = """
from deeplens_tf.inference import new_images
new_images.BATCH_SIZE = 4
"""


@pytest.mark.parametrize("suffix", [".csv", ".fits"])
def test_killed_at_each_flush_the_same_command_completes_the_same_table(nursery, tmp_path, suffix):
    write_blobs(tmp_path / "lenses", 6, seed=0)
    write_blobs(tmp_path / "survey", 6, seed=1)
    np.save(tmp_path / "survey/flat.npy", np.ones((16, 16)))
    config = load_config("finetune", ["data.image_size=16"], str(tmp_path / "lenses"))
    run = finetuned(tmp_path / "run", config)
    words = ("predict", "--run", str(run.folder), "--data", str(tmp_path / "survey"), "--out")
    assert nursery.run(*words, str(tmp_path / f"whole{suffix}"))[0] == 0
    expected = (tmp_path / f"whole{suffix}").read_bytes()
    for flush in range(1, 8):
        out = tmp_path / f"{flush}{suffix}"
        before = SMALL_BATCHES + KILL_AT_FLUSH.format(n=flush)
        code, _, _ = nursery.run(*words, str(out), before=before)
        assert (code == -signal.SIGKILL) or out.exists()
        code, printed, _ = nursery.run(*words, str(out), before=SMALL_BATCHES)
        assert code == 0
        assert ("are done: going on" in printed) == (flush > 1)
        assert out.read_bytes() == expected
        assert not (tmp_path / f"{flush}{suffix}.unfinished").exists()

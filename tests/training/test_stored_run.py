"""A run that an earlier version started can be resumed, and ends as it would have."""

import contextlib
import io
import shutil
import socket
from pathlib import Path

import pandas as pd
import pytest

from deeplens_tf.training.checkpointer import Checkpointer
from tests.training.stored_runs import STORED, run, write_images

LISTENING = "0A"  # in the fourth column of the kernel's socket tables


def listening():
    """Return the addresses on which this process accepts connections."""
    own = {link for link in map(_target, Path("/proc/self/fd").iterdir()) if link}
    tables = [Path(f"/proc/self/net/{name}") for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    return [line[1] for line in lines if line[3] == LISTENING and f"socket:[{line[9]}]" in own]


def _target(link):
    with contextlib.suppress(FileNotFoundError):  # the descriptor of the folder being read
        return str(link.readlink())


@pytest.fixture(scope="module", params=["pretrain", "finetune"])
def resumed(request, tmp_path_factory):
    """A stored run that was resumed: its folder, its output, the open ports at each save."""
    folder, out, ports = tmp_path_factory.mktemp(request.param), io.StringIO(), []
    write_images(folder / "images")
    shutil.copytree(STORED / request.param, folder / "run")
    real = Checkpointer._save

    def save(self):
        ports.append(listening())
        real(self)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.chdir(folder)
        patch.setattr(Checkpointer, "_save", save)
        run(request.param, "run")
    return folder / "run", out.getvalue(), ports


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_resumed(resumed):
    folder, out, _ = resumed
    (stored,) = (STORED / folder.parent.name.rstrip("0123456789") / "checkpoints").iterdir()
    assert f"resumed: run/checkpoints/{stored.name}\n" in out
    # Processors differ in rounding.
    found, expected = (pd.read_csv(folder / f"{name}.csv") for name in ("history", "expected"))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_run_that_logs_for_tensorboard_opens_no_port(resumed):
    folder, _, ports = resumed
    assert list((folder / "tensorboard").rglob("events*"))
    assert ports
    assert not any(ports)
    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening()) == 1

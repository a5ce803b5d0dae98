"""A run that an earlier version of the package began goes on, and ends as it would have."""

import contextlib
import io
import shutil
import socket
from pathlib import Path

import pandas as pd
import pytest

from deeplens_tf.training.checkpointer import Checkpointer
from tests.training.stored_runs import STORED, run, write_images

LISTENING = "0A"  # in the fourth column of the kernel's tables


def listening():
    """The sockets of this process that wait for someone to connect."""
    own = {link for link in map(_target, Path("/proc/self/fd").iterdir()) if link}
    tables = [Path(f"/proc/self/net/{name}") for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    return [line[1] for line in lines if line[3] == LISTENING and f"socket:[{line[9]}]" in own]


def _target(link):
    with contextlib.suppress(FileNotFoundError):  # of the folder that is being read
        return str(link.readlink())


@pytest.fixture(scope="module", params=["pretrain", "finetune"])
def resumed(request, tmp_path_factory):
    """A stored run gone on with: its folder, what was said, the ports open at each save."""
    folder, said, ports = tmp_path_factory.mktemp(request.param), io.StringIO(), []
    write_images(folder / "images")
    shutil.copytree(STORED / request.param, folder / "run")
    real = Checkpointer._save

    def save(self):
        ports.append(listening())
        real(self)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.chdir(folder)
        patch.setattr(Checkpointer, "_save", save)
        run(request.param, "run")
    return folder / "run", said.getvalue(), ports


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on(resumed):
    folder, said, _ = resumed
    (stored,) = (STORED / folder.parent.name.rstrip("0123456789") / "checkpoints").iterdir()
    assert f"resumed: run/checkpoints/{stored.name}\n" in said
    # Another processor rounds in another way.
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

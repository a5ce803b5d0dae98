"""The same command in two processes gives the same run bit for bit."""

import pytest

from tests.faults.conftest import command, outcome


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("compiled", ["false", "true"])
def test_the_same_command_twice(stage, compiled, nursery, options, finished, tmp_path):
    options = [*options, "--set", f"train.jit_compile={compiled}"]
    folders = [tmp_path / "first", tmp_path / "second"]
    if compiled == "false":
        folders[0] = finished(stage)
    for folder in folders:
        code, _, err = nursery.run(*command(stage, options, folder))
        assert (code, err) == (0, "")
    assert outcome(folders[0]) == outcome(folders[1])

"""The same command twice, in processes of their own, gives the same run bit for bit."""

import pytest

from tests.faults.conftest import command, outcome


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("compiled", ["false", "true"])
def test_the_same_command_twice(stage, compiled, nursery, words, finished, tmp_path):
    words = [*words, "--set", f"train.jit_compile={compiled}"]
    folders = [tmp_path / "first", tmp_path / "second"]
    if compiled == "false":
        folders[0] = finished(stage)
    for folder in folders:
        code, _, err = nursery.run(*command(stage, words, folder))
        assert (code, err) == (0, "")
    assert outcome(folders[0]) == outcome(folders[1])

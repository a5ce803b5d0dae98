"""Freed memory is kept: in a process of its own, since the setting is one of the process."""

import platform
import subprocess
import sys

import pytest

from deeplens_tf.freed_memory import keep_freed_memory, return_freed_memory

FAULTS_OF_TEN_ARRAYS = """
import resource, sys
import numpy as np
from deeplens_tf.freed_memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
np.zeros(64 << 20, "uint8").fill(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.empty(64 << 20, "uint8").fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(argument):
    command = [sys.executable, "-c", FAULTS_OF_TEN_ARRAYS, argument]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_that_is_used_again_causes_no_page_faults():
    # 64 MiB are 16,384 pages of 4 KiB, or 32 of 2 MiB.
    assert page_faults("keep") < 100 < page_faults("default")


RESIDENT_AFTERWARDS = """
import numpy as np
from deeplens_tf.freed_memory import keep_freed_memory, return_freed_memory

keep_freed_memory()
for _ in range(2):
    np.empty(256 << 20, "uint8").fill(1)
pages = lambda: int(open("/proc/self/statm").read().split()[1])
kept = pages()
assert return_freed_memory()
print((kept - pages()) * 4096 >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_kept_memory_can_be_returned():
    command = [sys.executable, "-c", RESIDENT_AFTERWARDS]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(output) > 240  # MiB, of 256


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
    assert not return_freed_memory()

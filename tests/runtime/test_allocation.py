"""The allocator that keeps what a step frees."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from s3prl_speechclip.runtime.allocation import KeptMemory
if sys.argv[1] == "kept":
    assert KeptMemory().kept
torch.zeros(20_000_000).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.zeros(10_000_000).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

SURPLUS = """
import torch
from s3prl_speechclip.runtime import allocation
memory = allocation.KeptMemory()
torch.ones(50_000_000).sum()
pages = allocation._resident_pages()
assert not memory.return_surplus()
memory._limit = 1
assert memory.return_surplus()
print(pages - allocation._resident_pages())
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")


def test_memory_that_was_freed_is_not_cleared_anew():
    """Guards the speed of a step: 40 MB that are asked for again come without page faults."""
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how], text=True))
        for how in ("kept", "default")
    }
    assert faults["kept"] < faults["default"] / 4


def test_a_process_keeps_no_more_than_its_share():
    """Guards machines of little memory: 200 MB that are free go back once they are too many."""
    returned = int(subprocess.check_output([sys.executable, "-c", SURPLUS], text=True))
    assert returned * 4096 > 150e6

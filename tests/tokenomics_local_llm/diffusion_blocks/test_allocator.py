from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FREE_ALL_BUT_THE_LAST = """
import sys, torch
from pathlib import Path
from tokenomics_local_llm.diffusion_blocks.allocator import return_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "returned":
    assert return_freed_memory()
before = resident()
for _ in range(2):  # the library learns from the first time what to keep
    pieces = [torch.ones(2**20) for _ in range(50)]
    last = pieces.pop()
    del pieces
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the habit is glibc's")
@pytest.mark.parametrize(("habit", "low", "high"), [("kept", 150, 210), ("returned", 0, 30)])
def test_freed_memory_goes_back_to_the_system(habit: str, low: int, high: int) -> None:
    command = [sys.executable, "-c", _FREE_ALL_BUT_THE_LAST, habit]

    left = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert low * 2**20 < left < high * 2**20

"""Fewer searches for cyclic garbage, in processes that only turn spans into rows and back.

Their objects are many and make no cycles, so the collector's searches find nothing and take a quarter of the time.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["collect_rarely"]

_OBJECTS: Final = 50_000
"""New objects between two searches; Python's default is 700."""


def collect_rarely() -> None:
    """Search rarely from now on, in this whole process: not for a process that is somebody else's."""
    gc.freeze()
    gc.set_threshold(_OBJECTS)

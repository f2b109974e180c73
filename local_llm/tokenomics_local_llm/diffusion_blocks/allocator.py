"""Freed memory, given back to the system.

glibc keeps what is freed in pieces of up to 32 MB for itself once a program has freed such pieces, and training frees
them all the time: of a peak of 2.0 GB in one block of SmolLM2-135M, checkpointed, 0.6 GB were such leftovers.
"""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["return_freed_memory"]

_M_MMAP_THRESHOLD: Final = -3
_MEBIBYTE: Final = 2**20


def return_freed_memory() -> bool:
    """Give pieces of a mebibyte and more back as soon as they are freed, at the price of some system time.

    Returns:
        Whether the C library does so; others than glibc have no such setting, or no such habit.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MEBIBYTE))

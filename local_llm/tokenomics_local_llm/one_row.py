"""A step of one token without oneDNN, to which PyTorch sends it needlessly.

With AVX-512 PyTorch (2.13) multiplies bfloat16 matrices by oneDNN whatever their shape, although its own kernel takes
0.6 of the time where the other factor is one row, as in each step of a single text. PyTorch has one switch for the
process: here it is off only while all forward passes that run have one row, since oneDNN is many times faster with
more. Which of the two computes is settled product by product, so that switching amid a pass is safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final

import torch

__all__ = ["one_row_by_itself"]

_ONEDNN: Final[Any] = torch.backends.mkldnn


class _Switch:
    """oneDNN's, for the process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running = {True: 0, False: 0}  # forward passes that gain from its absence, and others
        self._found: bool | None = None
        """How the program had set it, while it is off here."""

    def count(self, gains: bool, change: int) -> None:
        """A pass begins or ends."""
        with self._lock:
            self._running[gains] += change
            off = bool(self._running[True]) and not self._running[False]
            if off and self._found is None:
                self._found = _ONEDNN.enabled
                _ONEDNN.enabled = False
            elif not off and self._found is not None:
                _ONEDNN.enabled = self._found
                self._found = None


_SWITCH: Final = _Switch()


@contextmanager
def one_row_by_itself(rows: int, dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Around a forward pass.

    Args:
        rows: Its tokens, of all sequences together.
        dtype: Of the weights.
        device: Where they are.
    """
    gains = rows == 1 and dtype == torch.bfloat16 and device.type == "cpu"
    _SWITCH.count(gains, 1)
    try:
        yield
    finally:
        _SWITCH.count(gains, -1)

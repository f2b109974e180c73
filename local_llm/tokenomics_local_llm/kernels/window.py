"""Tokens that stay in full precision: the first ones and the newest."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Window"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Keys and values of some tokens."""

    keys: Tensor
    """(B, H, T, D) bfloat16, float16 or float32; the channels of a token lie side by side in memory."""
    values: Tensor
    """Likewise, of the same dtype."""
    starts: Tensor | None = None
    """Tokens at the left of each row that are padding, (B,) int64; none by default."""
    ends: Tensor | None = None
    """Where the tokens of each row end, (B,) int64; all are there by default."""

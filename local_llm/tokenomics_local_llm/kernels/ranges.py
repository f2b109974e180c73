"""Ranges, a minimum and a step for each group of a row, of least squared error: searched, or fitted to given codes.

The search in PyTorch is the reference; the compiled one adds up in another order, so that of two ranges which are as
good to within rounding it may choose the other.
"""

from __future__ import annotations

import logging
from functools import cache
from itertools import product
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from tokenomics_local_llm.kernels.instructions import Instructions, choose_instructions

__all__ = ["SMALLEST_STEP", "fitted_range", "range_between", "searched_range"]

_LOGGER = logging.getLogger(__name__)

SMALLEST_STEP: Final = 2.0**-24
"""float16's smallest number: a constant row keeps a step that can be divided by."""

_TOP: Final = 3  # the largest code
_SHRUNK: Final = (0.55, 0.7, 0.85, 1.0)
"""Ends of the ranges that are searched, as shares of the way from a group's mean to its extremes."""


def searched_range(grouped: Tensor, *, instructions: str | None = None) -> tuple[Tensor, Tensor]:
    """Of the ranges between shrunken extremes, each fitted to its own codes, the one of least squared error.

    Args:
        grouped: (..., groups, channels of a group), float32, finite.
        instructions: As for `decode_attention`; only whether they are `TORCH` matters.

    Returns:
        Minimum and step, (..., groups, 1).
    """
    compiled = _compiled_for(grouped, instructions)
    if compiled is None:
        return _searched_in_torch(grouped)
    rows = grouped.detach().contiguous().flatten(-2)
    minimum, step = (torch.empty(*grouped.shape[:-1], 1) for _ in range(2))
    flat = (part.view(-1, grouped.shape[-2]).numpy() for part in (minimum, step))
    shares = np.asarray(_SHRUNK, np.float32)
    compiled.searched_ranges(rows.view(-1, rows.shape[-1]).numpy(), shares, np.float32(SMALLEST_STEP), *flat)
    return minimum, step


def range_between(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum and step of the range whose end codes stand for these."""
    return low, ((high - low) / _TOP).clamp_min(SMALLEST_STEP)


def fitted_range(grouped: Tensor, codes: Tensor, minimum: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """The range fitted to codes by least squares; a group of a single code keeps the range it has."""
    row_mean, code_mean = grouped.mean(-1, keepdim=True), codes.mean(-1, keepdim=True)
    row_part, code_part = grouped - row_mean, codes - code_mean
    fitted = (row_part * code_part).sum(-1, keepdim=True) / code_part.square().sum(-1, keepdim=True)
    usable = torch.isfinite(fitted) & (fitted > SMALLEST_STEP)
    return torch.where(usable, row_mean - fitted * code_mean, minimum), torch.where(usable, fitted, step)


def _searched_in_torch(grouped: Tensor) -> tuple[Tensor, Tensor]:
    low, high = grouped.aminmax(dim=-1, keepdim=True)
    mean = grouped.mean(-1, keepdim=True)
    best_minimum, best_step = range_between(low, high)
    least = torch.full_like(low, torch.inf)
    for below, above in product(_SHRUNK, repeat=2):
        narrow = range_between(mean + (low - mean) * below, mean + (high - mean) * above)
        minimum, step = fitted_range(grouped, _nearest(grouped, *narrow), *narrow)
        error = (grouped - minimum - step * _nearest(grouped, minimum, step)).square().sum(-1, keepdim=True)
        better = error < least
        least = torch.where(better, error, least)
        best_minimum = torch.where(better, minimum, best_minimum)
        best_step = torch.where(better, step, best_step)
    return best_minimum, best_step


def _nearest(rows: Tensor, minimum: Tensor, step: Tensor) -> Tensor:
    return ((rows - minimum) / step + 0.5).floor_().clamp_(0, _TOP)


def _compiled_for(rows: Tensor, instructions: str | None) -> Any:
    """The compiled search, or `None` where it cannot serve."""
    if rows.device.type != "cpu" or choose_instructions(instructions) == Instructions.TORCH:
        return None
    return _compiled()


@cache
def _compiled() -> Any:
    """The compiled search, or `None` where this release of numba cannot compile it."""
    from tokenomics_local_llm.kernels import compiled_ranges

    one = np.ones((1, 4), np.float32)
    try:
        compiled_ranges.searched_ranges(one, one[0], np.float32(SMALLEST_STEP), one[:, :1].copy(), one[:, :1].copy())
    except Exception as error:  # numba and llvmlite raise many kinds, none of them documented
        _LOGGER.warning("compiling the search for ranges failed, so that PyTorch serves, slower: %s", error)
        return None
    return compiled_ranges

"""The search for the range of least squared error, compiled by numba: row by row, so that nothing depends on chunks.

Codes come from comparisons with three bounds, and what a fit needs from sums of codes: no division per channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenomics_local_llm.kernels.vector_ir import compiled, compiled_with_arrays, larger

__all__ = ["searched_ranges"]

TOP = np.float32(3)
HALF = np.float32(0.5)
ONE = np.float32(1)
ZERO = np.float32(0)


@compiled
def code_of(value: Any, low: Any, step: Any) -> Any:
    """The nearest code, the higher one of two, as float32."""
    first = ONE if value >= low + HALF * step else ZERO
    second = ONE if value >= low + (HALF + ONE) * step else ZERO
    third = ONE if value >= low + (TOP - HALF) * step else ZERO
    return first + second + third


@compiled
def fitted(values: Any, low: Any, step: Any, smallest: Any) -> Any:
    """Minimum and step fitted to the codes of a range; the same where all values have one code.

    The values' mean is 0.
    """
    total, squares, cross = ZERO, ZERO, ZERO
    for i in range(values.size):
        code = code_of(values[i], low, step)
        total += code
        squares += code * code
        cross += values[i] * code
    mean = total / np.float32(values.size)
    variance = squares - total * mean
    if variance > np.float32(1e-3) and cross > smallest * variance:
        step = cross / variance
        low = -step * mean
    return low, step


@compiled
def squared_error(values: Any, low: Any, step: Any) -> Any:
    """Of the values' nearest codes."""
    total = ZERO
    for i in range(values.size):
        error = values[i] - low - step * code_of(values[i], low, step)
        total += error * error
    return total


@compiled
def centred(values: Any, out: Any) -> Any:
    """Write the values less their mean; return the mean."""
    total = ZERO
    for i in range(values.size):
        total += values[i]
    mean = total / np.float32(values.size)
    for i in range(values.size):
        out[i] = values[i] - mean
    return mean


@compiled_with_arrays
def searched_ranges(rows: Any, shares: Any, smallest: Any, minimum: Any, step: Any) -> None:
    """Of the ranges between shrunken extremes, each fitted to its own codes, the one of least squared error.

    Args:
        rows: (N, D) float32.
        shares: Of the way from a group's mean to its extremes, float32.
        smallest: The smallest step.
        minimum: (N, groups) float32, written.
        step: Likewise.
    """
    groups = minimum.shape[1]
    size = rows.shape[1] // groups
    values = np.empty(size, np.float32)
    for n in range(rows.shape[0]):
        for group in range(groups):
            mean = centred(rows[n, group * size : (group + 1) * size], values)
            low, high = ZERO, ZERO
            for i in range(size):
                low, high = -larger(-low, -values[i]), larger(high, values[i])
            minimum[n, group], step[n, group] = low + mean, larger((high - low) / TOP, smallest)
            least = np.float32(3e38)
            for below in range(shares.size):
                for above in range(shares.size):
                    bottom = low * shares[below]
                    wide = larger((high * shares[above] - bottom) / TOP, smallest)
                    own_low, own_step = fitted(values, bottom, wide, smallest)
                    error = squared_error(values, own_low, own_step)
                    if error < least:
                        least = error
                        minimum[n, group], step[n, group] = own_low + mean, own_step

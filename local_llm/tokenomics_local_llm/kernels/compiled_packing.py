"""Rows to 2-bit codes, compiled by numba in the very arithmetic of the PyTorch steps in `packing`: bit for bit.

So nothing here may be reordered or fused, and all numbers are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenomics_local_llm.kernels.vector_ir import exactly_compiled

__all__ = ["clipped_ranges", "nearest_codes", "sequential_codes"]

LEVELS = np.float32(3)


@exactly_compiled
def threshold(row: Any, kept: Any) -> Any:
    """The smallest of the `kept.size` largest absolute values; `kept` is overwritten, ascending."""
    kept[:] = np.float32(-1)
    for i in range(row.size):
        size = abs(row[i])
        if size > kept[0]:
            place = 1
            while place < kept.size and size > kept[place]:
                kept[place - 1] = kept[place]
                place += 1
            kept[place - 1] = size
    return kept[0]


@exactly_compiled
def clipped_ranges(rows: Any, largest: int, lowest: Any, highest: Any) -> None:
    """Least and greatest entry of each group once entries beyond the row's threshold are cut to it.

    Args:
        rows: (N, D) float32.
        largest: The threshold is the entry that so many absolute values reach; 0 for no threshold.
        lowest: (N, groups) float32, written.
        highest: Likewise.
    """
    groups = lowest.shape[1]
    size = rows.shape[1] // groups
    kept = np.empty(largest, np.float32)
    for n in range(rows.shape[0]):
        limit = threshold(rows[n], kept) if largest else np.float32(np.inf)
        for group in range(groups):
            low, high = limit, -limit
            for i in range(group * size, (group + 1) * size):
                value = min(max(rows[n, i], -limit), limit)
                low, high = min(low, value), max(high, value)
            lowest[n, group], highest[n, group] = low, high


@exactly_compiled
def nearest(value: Any, low: Any, step: Any) -> Any:
    """The code whose number is nearest, the higher one of two."""
    code = np.floor((value - low) / step + np.float32(0.5))
    return min(max(code, np.float32(0)), LEVELS)


@exactly_compiled
def pack_row(codes: Any, packed: Any) -> None:
    """Codes of one row to planar bytes."""
    quarter = packed.size
    for i in range(quarter):
        both = codes[i] | codes[i + quarter] << 2 | codes[i + 2 * quarter] << 4 | codes[i + 3 * quarter] << 6
        packed[i] = np.uint8(both)


@exactly_compiled
def nearest_codes(rows: Any, scale: Any, minimum: Any, packed: Any) -> None:
    """Round every channel to the nearest code.

    Args:
        rows: (N, D) float32.
        scale: (N, groups) float32.
        minimum: Likewise.
        packed: Planar codes, (N, D / 4) uint8, written.
    """
    groups = scale.shape[1]
    size = rows.shape[1] // groups
    codes = np.empty(rows.shape[1], np.uint8)
    for n in range(rows.shape[0]):
        for group in range(groups):
            low, step = minimum[n, group], scale[n, group]
            for i in range(group * size, (group + 1) * size):
                codes[i] = np.uint8(nearest(rows[n, i], low, step))
        pack_row(codes, packed[n])


@exactly_compiled
def sequential_codes(rows: Any, scale: Any, minimum: Any, feedback: Any, heads: Any, packed: Any) -> None:
    """Round channel after channel, each to the code nearest its value less the feedback of the errors before it.

    Args:
        rows: (N, D) float32.
        scale: (N, groups) float32.
        minimum: Likewise.
        feedback: (H, D, D) float32; row i is what channel i's error adds to the channels after it.
        heads: The feedback of each row, (N,) int64.
        packed: Planar codes, (N, D / 4) uint8, written.
    """
    count, channels = rows.shape
    size = channels // scale.shape[1]
    codes, target = np.empty(channels, np.uint8), np.empty(channels, np.float32)
    for n in range(count):
        target[:] = rows[n]
        for i in range(channels):
            low, step = minimum[n, i // size], scale[n, i // size]
            code = nearest(target[i], low, step)
            codes[i] = np.uint8(code)
            error = low + code * step - rows[n, i]
            spread(error, feedback[heads[n], i, i + 1 :], target[i + 1 :])
        pack_row(codes, packed[n])


@exactly_compiled
def spread(error: Any, feedback: Any, target: Any) -> None:
    """Subtract `error * feedback`."""
    for i in range(target.size):
        target[i] -= error * feedback[i]

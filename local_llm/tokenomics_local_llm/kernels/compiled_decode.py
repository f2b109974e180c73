"""Decode attention over packed codes, compiled by numba: one pass over the tokens, softmax as it goes.

With k = minimum + scale * c the score of a token is scale * (q . c) + minimum * sum(q): only q . c needs the codes, and
`slot_dots` takes it in integers, with q in two 7-bit digits. The weighted sum of values is likewise
sum(p * scale * c) + sum(p * minimum), with p * scale in two digits, one scale for each tile of 128 tokens.

Both sums use that codes have the mean 1.5: what the digits of p * scale lose is multiplied by c - 1.5 rather than
by c, and the digits' own sum stands for sum(q). That halves the rounding error at no cost.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tokenomics_local_llm.kernels.vector_ir import compiled, exp2, half, rounded, slot_dots, widened

__all__ = ["attend", "merge"]

TILE = 128
BLOCK = 64
LANES = 16
ROW = 64
DIGITS = 2
LARGEST = np.float32(8191)  # its digits are 64 and -1; 128 * high + low
MEAN_CODE = np.float32(1.5)
LOWEST = np.float32(-1e30)  # stands for minus infinity, which relaxed arithmetic does not know
LOG2_E = np.float32(math.log2(math.e))
LN2 = np.float32(math.log(2))


@compiled
def split_digits(values: Any, first: int, inverse: Any, digits: Any, at: int, count: int) -> Any:
    """Write `values[first:] * inverse` rounded, as high and low digits from `at` on; return their sum."""
    total = np.int32(0)
    for i in range(count):
        whole = rounded(values[first + i] * inverse)
        high = np.int32(whole + np.int32(64)) >> np.int32(7)
        digits[at + i] = np.int8(high)
        digits[at + count + i] = np.int8(whole - np.int32(high << np.int32(7)))
        total += whole
    return total


@compiled
def largest_size(values: Any, first: int, count: int) -> Any:
    """The largest absolute value of `values[first : first + count]`."""
    found = np.float32(0)
    for i in range(count):
        found = max(found, abs(values[first + i]))
    return found


@compiled
def digit_scale(size: Any) -> Any:
    """What one unit of the digits stands for when the largest weight is `size`, and its inverse; 0 for none."""
    if size < np.float32(1e-30):
        return np.float32(0), np.float32(0)
    return size / LARGEST, LARGEST / size


@compiled
def split_query(
    query: Any, heads: int, dim: int, groups: int, digits: Any, factors: Any, sums: Any
) -> None:
    """Digits of every head's query, what their unit stands for, and the sum of each group as the digits have it."""
    count = dim // groups
    for head in range(heads):
        factors[head], inverse = digit_scale(largest_size(query, head * dim, dim))
        split_digits(query, head * dim, inverse, digits, DIGITS * head * dim, dim)
        for group in range(groups):
            total = np.int32(0)
            for i in range(group * count, (group + 1) * count):
                total += rounded(query[head * dim + i] * inverse)
            sums[head * groups + group] = np.float32(total) * factors[head]


@compiled
def softmax_step(scores: Any, first: int, count: int, state: Any, head: int, out: Any, dim: int) -> None:
    """Replace `count` scores by exp2(score - maximum), the running maximum and sum of `state[head]` brought up to date.

    What `out` holds of this head is scaled to the new maximum.
    """
    highest = state[head, 0]
    for i in range(count):
        highest = max(highest, scores[first + i])
    if highest > state[head, 0]:
        shrink = exp2(state[head, 0] - highest)
        state[head, 0] = highest
        state[head, 1] *= shrink
        for i in range(dim):
            out[head * dim + i] *= shrink
    total = np.float32(0)
    for i in range(count):
        weight = exp2(scores[first + i] - highest)
        scores[first + i] = weight
        total += weight
    state[head, 1] += total


@compiled
def attend_window(
    kind: Any, keys: int, values: int, first: int, last: int, key_stride: int, value_stride: int, query: Any,
    heads: int, dim: int, scores: Any, state: Any, out: Any,
) -> None:  # fmt: skip
    """Tokens `first`..`last` in floating point, at the addresses `keys` and `values`, so many numbers apart."""
    for tile in range(first, last, TILE):
        count = min(TILE, last - tile)
        for h in range(heads):
            start = h * dim
            for t in range(count):
                at = (tile + t) * key_stride
                score = np.float32(0)
                for i in range(dim):
                    score += query[start + i] * widened(kind, keys, at + i)
                scores[t] = score
            softmax_step(scores, 0, count, state, h, out, dim)
            for t in range(count):
                at = (tile + t) * value_stride
                weight = scores[t]
                for i in range(dim):
                    out[h * dim + i] += weight * widened(kind, values, at + i)


@compiled
def dot_heads(
    instructions: Any, codes: Any, start: int, rows: int, words: Any, weights: int, digit_stride: int,
    half_stride: int, heads: int, dots: Any, to: int, slot_stride: int, head_stride: int,
) -> None:  # fmt: skip
    """`slot_dots` for any number of heads, in pairs and perhaps one more."""
    for head in range(0, heads - 1, 2):
        slot_dots(instructions, codes, start, rows, words, weights + 2 * head * digit_stride, digit_stride,
                  half_stride, 2, dots, to + head * head_stride, slot_stride, head_stride)  # fmt: skip
    if heads % 2:
        slot_dots(instructions, codes, start, rows, words, weights + 2 * (heads - 1) * digit_stride, digit_stride,
                  half_stride, 1, dots, to + (heads - 1) * head_stride, slot_stride, head_stride)  # fmt: skip


@compiled
def score_tile(
    instructions: Any, codes: Any, at: int, words: Any, heads: int, dim: int, groups: int, dots: Any, scale: Any,
    minimum: Any, parameters: int, factors: Any, sums: Any, scores: Any,
) -> None:  # fmt: skip
    """Scores of one tile of keys for `heads` query heads, (heads, 128)."""
    rows = dim // 4 // groups
    for group in range(groups):
        for block in range(TILE // BLOCK):
            start = at + (block * groups + group) * rows * ROW
            dot_heads(instructions, codes, start, rows, words, group * rows, dim // 4, 0, heads, dots,
                      block * BLOCK, LANES, TILE)  # fmt: skip
        first = parameters + group * TILE
        for head in range(heads):
            factor, total = factors[head], sums[head * groups + group]
            for t in range(TILE):
                score = np.float32(dots[head * TILE + t]) * factor * half(scale[first + t])
                score += total * half(minimum[first + t])
                scores[head * TILE + t] = score if group == 0 else scores[head * TILE + t] + score


@compiled
def weigh_tile(
    instructions: Any, codes: Any, at: int, chunks: int, scores: Any, heads: int, dim: int, groups: int, scale: Any,
    minimum: Any, parameters: int, weights: Any, digits: Any, words: Any, factors: Any, offsets: Any, dots: Any,
    out: Any,
) -> None:  # fmt: skip
    """Add one tile of values to `out` (heads, D), weighted by `scores` (heads, 128)."""
    for group in range(groups):
        first = parameters + group * TILE
        for head in range(heads):
            shift = np.float32(0)
            for t in range(TILE):
                value_scale, weight = half(scale[first + t]), scores[head * TILE + t]
                weights[t] = weight * value_scale
                shift += weight * (half(minimum[first + t]) + MEAN_CODE * value_scale)
            cell = group * heads + head
            factors[cell], inverse = digit_scale(largest_size(weights, 0, TILE))
            total = split_digits(weights, 0, inverse, digits, DIGITS * cell * TILE, TILE)
            offsets[cell] = shift - MEAN_CODE * factors[cell] * np.float32(total)
    words_of_half = DIGITS * heads * TILE // 4 if groups == 2 else 0
    padded = chunks * LANES
    for chunk in range(chunks):
        start = at + chunk * (TILE // 4) * ROW
        dot_heads(instructions, codes, start, TILE // 4, words, 0, TILE // 4, words_of_half, heads, dots,
                  chunk * LANES, padded, 4 * padded)  # fmt: skip
    quarter = dim // 4
    for head in range(heads):
        for slot in range(4):
            cell = slot * groups // 4 * heads + head
            factor, offset = factors[cell], offsets[cell]
            source, target = (head * 4 + slot) * padded, head * dim + slot * quarter
            for i in range(quarter):
                out[target + i] += np.float32(dots[source + i]) * factor + offset


@compiled
def attend(
    instructions: Any, first_unit: int, last_unit: int, splits: int, heads: int, query: Any, shape: Any,
    key_codes: Any, key_scale: Any, key_minimum: Any, value_codes: Any, value_scale: Any, value_minimum: Any,
    starts: Any, kind: Any, windows: Any, window_starts: Any, out: Any, lse: Any,
) -> None:  # fmt: skip
    """Attention of units `first_unit`..`last_unit`, each a part of the tokens of one row and key/value head.

    A unit's first split also takes the windows. The result of a unit is normalised, and comes with the logarithm
    (base e) of its sum, so that `merge` can join the splits.

    Args:
        instructions: See `vector_ir.slot_dots`.
        first_unit: Units are numbered (row, key/value head, split), the last fastest.
        last_unit: The unit after the last.
        splits: Parts of the tokens.
        heads: Query heads of a key/value head (g).
        query: (B * H, g * D) float32, times the score's scaling and log2(e).
        shape: H, D, groups, tiles held, tokens.
        key_codes: Bytes of `PackedKeys`, flat; scales and minimums as uint16 bits, flat; values alike.
        key_scale: See `key_codes`.
        key_minimum: See `key_codes`.
        value_codes: Bytes of `PackedValues`, flat.
        value_scale: See `key_codes`.
        value_minimum: See `key_codes`.
        starts: Tokens of padding at the left of each row, (B,) int64.
        kind: Of the windows' numbers; see `vector_ir.widened`.
        windows: (2, 9) int64: address, row stride, head stride and token stride of the keys, then of the values,
            and the tokens of the window.
        window_starts: (2, B) int64, as `starts`.
        out: (units, g, D) float32, flat.
        lse: (units, g) float32, flat.
    """
    kv_heads, dim, groups, tiles, length = shape
    chunks = (dim + 4 * LANES - 1) // (4 * LANES)
    key_tile, value_tile, parameter_tile = TILE * dim // 4, chunks * (TILE // 4) * ROW, groups * TILE
    digits = np.empty(heads * DIGITS * dim, np.int8)
    words = digits.view(np.int32)
    weight_digits = np.empty(groups * heads * DIGITS * TILE, np.int8)
    weight_words = weight_digits.view(np.int32)
    query_factors, query_sums = np.empty(heads, np.float32), np.empty(heads * groups, np.float32)
    factors, offsets = np.empty(groups * heads, np.float32), np.empty(groups * heads, np.float32)
    key_dots, value_dots = np.empty(heads * TILE, np.int32), np.empty(heads * 4 * chunks * LANES, np.int32)
    scores, weights = np.empty(heads * TILE, np.float32), np.empty(TILE, np.float32)
    state, sums = np.empty((heads, 2), np.float32), np.empty(heads * dim, np.float32)
    for unit in range(first_unit, last_unit):
        cell, split = unit // splits, unit % splits
        row, kv_head = cell // kv_heads, cell % kv_heads
        state[:, 0], state[:, 1], sums[:] = LOWEST, np.float32(0), np.float32(0)
        if split == 0:
            for window in range(2):
                place = windows[window]
                keys = place[0] + (row * place[1] + kv_head * place[2]) * kind.size
                values = place[4] + (row * place[5] + kv_head * place[6]) * kind.size
                attend_window(kind, keys, values, window_starts[window, row], place[8], place[3], place[7],
                              query[cell], heads, dim, scores, state, sums)  # fmt: skip
        split_query(query[cell], heads, dim, groups, digits, query_factors, query_sums)
        first_tile, last_tile = starts[row] // TILE, (length + TILE - 1) // TILE
        count = max(last_tile - first_tile, 0)
        for tile in range(first_tile + count * split // splits, first_tile + count * (split + 1) // splits):
            at, parameters = cell * tiles + tile, (cell * tiles + tile) * parameter_tile
            score_tile(instructions, key_codes, at * key_tile, words, heads, dim, groups, key_dots, key_scale,
                       key_minimum, parameters, query_factors, query_sums, scores)  # fmt: skip
            for head in range(heads):
                for t in range(starts[row] - tile * TILE):
                    scores[head * TILE + t] = LOWEST
                for t in range(length - tile * TILE, TILE):
                    scores[head * TILE + t] = LOWEST
                softmax_step(scores, head * TILE, TILE, state, head, sums, dim)
            weigh_tile(instructions, value_codes, at * value_tile, chunks, scores, heads, dim, groups, value_scale,
                       value_minimum, parameters, weights, weight_digits, weight_words, factors, offsets, value_dots,
                       sums)  # fmt: skip
        for head in range(heads):
            total = state[head, 1]
            inverse = np.float32(1) / total if total > np.float32(0) else np.float32(0)
            for i in range(dim):
                out[(unit * heads + head) * dim + i] = sums[head * dim + i] * inverse
            lse[unit * heads + head] = (state[head, 0] + np.log2(total)) * LN2 if total > np.float32(0) else LOWEST


@compiled
def merge(splits: int, dim: int, parts: Any, part_lse: Any, out: Any, lse: Any) -> None:
    """Join the splits of every (row, query head): weights are the exponents of their logarithms, normalised.

    Args:
        splits: Parts that the tokens were divided into.
        dim: Channels of a head.
        parts: (cells, splits, g, D) float32.
        part_lse: (cells, splits, g) float32.
        out: (cells, g, D) float32, written.
        lse: (cells, g) float32, written.
    """
    for cell in range(parts.shape[0]):
        for head in range(parts.shape[2]):
            highest = LOWEST
            for split in range(splits):
                highest = max(highest, part_lse[cell, split, head])
            total = np.float32(0)
            out[cell, head] = np.float32(0)
            for split in range(splits):
                weight = exp2((part_lse[cell, split, head] - highest) * LOG2_E)
                total += weight
                for i in range(dim):
                    out[cell, head, i] += weight * parts[cell, split, head, i]
            for i in range(dim):
                out[cell, head, i] /= total
            lse[cell, head] = highest + np.log(total)

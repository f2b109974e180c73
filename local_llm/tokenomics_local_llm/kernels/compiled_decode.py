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

from tokenomics_local_llm.kernels.vector_ir import (
    compiled,
    compiled_with_arrays,
    exp2,
    half,
    larger,
    rounded,
    slot_dots,
    split_row,
    widened,
)

__all__ = ["attend", "merge"]

TILE = 128
BLOCK = 64
LANES = 16
ROW = 64
DIGITS = 2
LARGEST = np.float32(8191)  # its digits are 64 and -1; 128 * high + low
MEAN_CODE = np.float32(1.5)
LOWEST = np.float32(-1e30)  # stands for minus infinity, which relaxed arithmetic does not know
MASKED = np.float32(-2e30)  # below it, so that a tile where nothing is seen weighs nothing
LOG2_E = np.float32(math.log2(math.e))
LN2 = np.float32(math.log(2))


# Every inner loop runs from 0 over slices: an index that numba cannot see to be positive it makes wrap around, and
# LLVM then vectorises nothing.


@compiled
def largest_size(values: Any) -> Any:
    """The largest absolute value."""
    found = np.float32(0)
    for i in range(values.size):
        found = larger(found, abs(values[i]))
    return found


@compiled
def digit_scale(size: Any) -> Any:
    """What one unit of the digits stands for when the largest weight is `size`, and its inverse; 0 for none."""
    if size < np.float32(1e-30):
        return np.float32(0), np.float32(0)
    return size / LARGEST, LARGEST / size


@compiled
def split_digits(values: Any, inverse: Any, high: Any, low: Any) -> Any:
    """Write the digits of `values * inverse`, rounded; return the sum of what they stand for."""
    total = np.int32(0)
    for i in range(values.size):
        whole = rounded(values[i] * inverse)
        upper = np.int32(whole + np.int32(64)) >> np.int32(7)
        high[i] = np.int8(upper)
        low[i] = np.int8(whole - np.int32(upper << np.int32(7)))
        total += whole
    return total


@compiled
def split_query(query: Any, dim: int, groups: int, digits: Any, factors: Any, sums: Any) -> None:
    """Digits of every head's query, what their unit stands for, and the sum of each group as the digits have it."""
    size = dim // groups
    for head in range(factors.size):
        own = query[head * dim : (head + 1) * dim]
        factors[head], inverse = digit_scale(largest_size(own))
        for group in range(groups):
            span = slice(group * size, (group + 1) * size)
            total = split_digits(own[span], inverse, digits[head, 0, span], digits[head, 1, span])
            sums[head, group] = np.float32(total) * factors[head]


@compiled
def scaled(values: Any, factor: Any) -> None:
    """Multiply in place."""
    for i in range(values.size):
        values[i] *= factor


@compiled
def copied(values: Any, out: Any) -> None:
    """Copy: an assignment of slices would make an array on the way."""
    for i in range(values.size):
        out[i] = values[i]


@compiled
def softmax_step(scores: Any, state: Any, out: Any) -> None:
    """Replace scores by exp2(score - maximum), and bring up to date the running maximum and sum, `state`.

    What `out` holds is scaled to the new maximum.
    """
    highest = state[0]
    for i in range(scores.size):
        highest = larger(highest, scores[i])
    if highest > state[0]:
        shrink = exp2(state[0] - highest)
        state[0] = highest
        state[1] *= shrink
        scaled(out, shrink)
    total = np.float32(0)
    for i in range(scores.size):
        weight = exp2(scores[i] - highest)
        scores[i] = weight
        total += weight
    state[1] += total


@compiled
def dense_dot(kind: Any, address: int, query: Any) -> Any:
    """The dot product of `query` with as many numbers in memory."""
    total = np.float32(0)
    for i in range(query.size):
        total += query[i] * widened(kind, address, i)
    return total


@compiled
def dense_add(kind: Any, address: int, weight: Any, out: Any) -> None:
    """Add `weight` times as many numbers in memory to `out`."""
    for i in range(out.size):
        out[i] += weight * widened(kind, address, i)


@compiled
def attend_window(
    kind: Any,
    keys: int,
    values: int,
    first: int,
    last: int,
    key_step: int,
    value_step: int,
    query: Any,
    scores: Any,
    state: Any,
    out: Any,
) -> None:
    """Tokens `first` to `last` in floating point, at the addresses `keys` and `values`, so many bytes apart."""
    heads, dim = out.shape
    for tile in range(first, last, TILE):
        count = min(TILE, last - tile)
        for head in range(heads):
            own = query[head * dim : (head + 1) * dim]
            for t in range(count):
                scores[head, t] = dense_dot(kind, keys + (tile + t) * key_step, own)
            softmax_step(scores[head, :count], state[head], out[head])
            for t in range(count):
                dense_add(kind, values + (tile + t) * value_step, scores[head, t], out[head])


@compiled
def dot_heads(
    instructions: Any,
    codes: Any,
    start: int,
    rows: int,
    words: Any,
    weights: int,
    digit_stride: int,
    half_stride: int,
    heads: int,
    dots: Any,
    to: int,
    slot_stride: int,
    head_stride: int,
) -> None:
    """`slot_dots` for any number of heads, in pairs and perhaps one more."""
    for head in range(0, heads - 1, 2):
        slot_dots(
            instructions,
            codes,
            start,
            rows,
            words,
            weights + 2 * head * digit_stride,
            digit_stride,
            half_stride,
            2,
            dots,
            to + head * head_stride,
            slot_stride,
            head_stride,
        )
    if heads % 2:
        slot_dots(
            instructions,
            codes,
            start,
            rows,
            words,
            weights + 2 * (heads - 1) * digit_stride,
            digit_stride,
            half_stride,
            1,
            dots,
            to + (heads - 1) * head_stride,
            slot_stride,
            head_stride,
        )


@compiled
def add_scores(instructions: Any, dots: Any, factor: Any, total: Any, scale: Any, minimum: Any, scores: Any) -> None:
    """Add one group's part of the scores of a head and a tile: scale * (q . c) + minimum * sum(q)."""
    for t in range(TILE):
        scale_of_token, minimum_of_token = half(instructions, scale[t]), half(instructions, minimum[t])
        scores[t] += np.float32(dots[t]) * factor * scale_of_token + total * minimum_of_token


@compiled
def score_tile(
    instructions: Any,
    codes: Any,
    at: int,
    words: Any,
    groups: int,
    dots: Any,
    scale: Any,
    minimum: Any,
    factors: Any,
    sums: Any,
    scores: Any,
) -> None:
    """Scores (heads, 128) of one tile of keys, whose scales and minimums are (groups * 128)."""
    heads = factors.size
    words_of_head = words.size // (DIGITS * heads)
    rows = words_of_head // groups
    scores[:] = np.float32(0)
    for group in range(groups):
        for block in range(TILE // BLOCK):
            start = at + (block * groups + group) * rows * ROW
            dot_heads(
                instructions,
                codes,
                start,
                rows,
                words,
                group * rows,
                words_of_head,
                0,
                heads,
                dots,
                block * BLOCK,
                LANES,
                TILE,
            )
        span = slice(group * TILE, (group + 1) * TILE)
        for head in range(heads):
            own = dots[head * TILE : (head + 1) * TILE]
            add_scores(instructions, own, factors[head], sums[head, group], scale[span], minimum[span], scores[head])


@compiled
def mask(scores: Any, first: int, last: int) -> None:
    """Let nothing but tokens `first` to `last` of a tile be seen."""
    for head in range(scores.shape[0]):
        for t in range(TILE):
            if t < first or t >= last:
                scores[head, t] = MASKED


@compiled
def weigh(instructions: Any, scores: Any, scale: Any, minimum: Any, weights: Any) -> Any:
    """Write score * scale; return sum(score * (minimum + 1.5 * scale))."""
    shift = np.float32(0)
    for t in range(TILE):
        value_scale = half(instructions, scale[t])
        weights[t] = scores[t] * value_scale
        shift += scores[t] * (half(instructions, minimum[t]) + MEAN_CODE * value_scale)
    return shift


@compiled
def add_dots(dots: Any, factor: Any, offset: Any, out: Any) -> None:
    """Add what the digits' products stand for, and `offset`, to some channels."""
    for i in range(out.size):
        out[i] += np.float32(dots[i]) * factor + offset


@compiled
def weigh_tile(
    instructions: Any,
    codes: Any,
    at: int,
    groups: int,
    scores: Any,
    scale: Any,
    minimum: Any,
    weights: Any,
    digits: Any,
    words: Any,
    factors: Any,
    offsets: Any,
    dots: Any,
    out: Any,
) -> None:
    """Add one tile of values to `out` (heads, D), weighted by `scores` (heads, 128)."""
    heads, dim = out.shape
    for group in range(groups):
        span = slice(group * TILE, (group + 1) * TILE)
        for head in range(heads):
            shift = weigh(instructions, scores[head], scale[span], minimum[span], weights)
            factor, inverse = digit_scale(largest_size(weights))
            total = split_row(weights, inverse, digits[group, head, 0], digits[group, head, 1])
            factors[group, head] = factor
            offsets[group, head] = shift - MEAN_CODE * factor * np.float32(total)
    words_of_half = DIGITS * heads * TILE // 4 if groups == 2 else 0
    quarter, padded = dim // 4, dots.size // (4 * heads)
    for chunk in range(padded // LANES):
        start = at + chunk * (TILE // 4) * ROW
        dot_heads(
            instructions,
            codes,
            start,
            TILE // 4,
            words,
            0,
            TILE // 4,
            words_of_half,
            heads,
            dots,
            chunk * LANES,
            padded,
            4 * padded,
        )
    # Few long spans: unless quarters are padded, a group's products lie side by side as its channels do.
    spans = groups if padded == quarter else 4
    for head in range(heads):
        for part in range(spans):
            group, start, size = part * groups // spans, (4 * head + part * 4 // spans) * padded, dim // spans
            own = out[head, part * size : (part + 1) * size]
            add_dots(dots[start : start + size], factors[group, head], offsets[group, head], own)


@compiled
def turn(rows: Any, mean: Any, rotation: Any, turned: Any, shifts: Any) -> None:
    """Write rows times the rotation (D, D), flat, and each row times the mean."""
    heads, dim = turned.shape
    for head in range(heads):
        turned[head] = np.float32(0)
        own = rows[head * dim : (head + 1) * dim]
        shifts[head] = plain_dot(own, mean)
        for i in range(dim):
            add_row(own[i], rotation[i * dim : (i + 1) * dim], turned[head])


@compiled
def turn_back(sums: Any, state: Any, mean: Any, rotation: Any, buffer: Any) -> None:
    """Replace weighted sums (heads, D) by those of the values before the rotation, and before the mean went."""
    heads, dim = sums.shape
    for head in range(heads):
        copied(sums[head], buffer)
        for i in range(dim):
            sums[head, i] = plain_dot(buffer, rotation[i * dim : (i + 1) * dim])
        add_row(state[head, 1], mean, sums[head])


@compiled
def add_row(weight: Any, row: Any, out: Any) -> None:
    """Add `weight * row`."""
    for i in range(out.size):
        out[i] += weight * row[i]


@compiled
def plain_dot(first: Any, second: Any) -> Any:
    """The dot product of two rows."""
    total = np.float32(0)
    for i in range(first.size):
        total += first[i] * second[i]
    return total


@compiled_with_arrays
def digit_buffers(shape: Any) -> Any:
    """Room for digits, and the same bytes as words of four."""
    digits = np.empty(shape, np.int8)
    return digits, digits.reshape(-1).view(np.int32)


@compiled_with_arrays
def working_room(heads: int, dim: int, groups: int) -> Any:
    """The arrays that `attend_units` works in: of queries, of a tile's scores and weights, of the running sums."""
    padded = (dim + 4 * LANES - 1) // (4 * LANES) * 4 * LANES
    queries = (
        *digit_buffers((heads, DIGITS, dim)),
        np.empty(heads, np.float32),
        np.empty((heads, groups), np.float32),
        np.empty((heads, dim), np.float32),
        np.empty(heads, np.float32),
    )
    scores = np.empty(heads * TILE, np.int32), np.empty((heads, TILE), np.float32)
    weights = (
        np.empty(TILE, np.float32),
        *digit_buffers((groups, heads, DIGITS, TILE)),
        np.empty((groups, heads), np.float32),
        np.empty((groups, heads), np.float32),
        np.empty(heads * padded, np.int32),
    )
    sums = np.empty((heads, 2), np.float32), np.empty((heads, dim), np.float32), np.empty(dim, np.float32)
    return queries, scores, weights, sums


@compiled_with_arrays
def attend(
    instructions: Any, first_unit: int, last_unit: int, splits: int, heads: int, shape: Any, *arguments: Any
) -> None:
    """`attend_units` with room to work in."""
    room = working_room(heads, shape[1], shape[2])
    attend_units(instructions, room, first_unit, last_unit, splits, heads, shape, *arguments)


@compiled
def attend_units(  # noqa: C901  # one loop over tokens with the softmax as it goes: a call a token would cost more than it
    instructions: Any,
    room: Any,
    first_unit: int,
    last_unit: int,
    splits: int,
    heads: int,
    shape: Any,
    query: Any,
    key_codes: Any,
    key_scale: Any,
    key_minimum: Any,
    value_codes: Any,
    value_scale: Any,
    value_minimum: Any,
    starts: Any,
    key_rotation: Any,
    key_mean: Any,
    value_rotation: Any,
    value_mean: Any,
    kind: Any,
    windows: Any,
    window_spans: Any,
    out: Any,
    lse: Any,
) -> None:
    """Attention of units `first_unit`..`last_unit`, each a part of the tokens of one row and key/value head.

    A unit's first split also takes the windows, after the packed tokens: their sum is turned back before. The result of
    a unit is normalised, and comes with the logarithm (base e) of its sum, so that `merge` can join the splits.

    Args:
        instructions: See `vector_ir.slot_dots`.
        room: Of `working_room`.
        first_unit: Units are numbered (row, key/value head, split), the last fastest.
        last_unit: The unit after the last.
        splits: Parts of the tokens.
        heads: Query heads of a key/value head (g).
        shape: H, D, groups, tiles held, tokens.
        query: (B * H, g * D) float32, times the score's scaling and log2(e).
        key_codes: Bytes of `PackedKeys`, flat; scales and minimums as uint16 bits, flat; values alike.
        key_scale: See `key_codes`.
        key_minimum: See `key_codes`.
        value_codes: Bytes of `PackedValues`, flat.
        value_scale: See `key_codes`.
        value_minimum: See `key_codes`.
        starts: Tokens of padding at the left of each row, (B,) int64.
        key_rotation: (H or 1, D * D) float32, applied to keys before they were packed; no rows if there is none.
        key_mean: (H or 1, D) float32, subtracted before that.
        value_rotation: See `key_rotation`.
        value_mean: See `key_mean`.
        kind: Of the windows' numbers; see `vector_ir.widened`.
        windows: (2, 8) int64: address, row stride, head stride and token stride of the keys, then of the values.
        window_spans: (2, 2, B) int64: the first token of each row that is seen, and the one after the last.
        out: (units, g, D) float32, written.
        lse: (units, g) float32, written.
    """
    kv_heads, dim, groups, tiles, length = shape
    chunks = (dim + 4 * LANES - 1) // (4 * LANES)
    key_tile, value_tile, parameter_tile = TILE * dim // 4, chunks * (TILE // 4) * ROW, groups * TILE
    queries, of_scores, of_weights, of_sums = room
    digits, words, query_factors, query_sums, turned_query, shifts = queries
    key_dots, scores = of_scores
    weights, weight_digits, weight_words, factors, offsets, value_dots = of_weights
    state, sums, buffer = of_sums
    for unit in range(first_unit, last_unit):
        cell, split = unit // splits, unit % splits
        row, kv_head = cell // kv_heads, cell % kv_heads
        state[:, 0] = LOWEST
        state[:, 1] = np.float32(0)
        sums[:] = np.float32(0)
        turned = query[cell]
        shifts[:] = np.float32(0)
        if key_rotation.shape[0]:
            mean, rotation = kv_head % key_mean.shape[0], kv_head % key_rotation.shape[0]
            turn(query[cell], key_mean[mean], key_rotation[rotation], turned_query, shifts)
            turned = turned_query.reshape(-1)
        split_query(turned, dim, groups, digits, query_factors, query_sums)
        first_tile, last_tile = starts[row] // TILE, (length + TILE - 1) // TILE
        count = max(last_tile - first_tile, 0)
        for tile in range(first_tile + count * split // splits, first_tile + count * (split + 1) // splits):
            at = cell * tiles + tile
            span = slice(at * parameter_tile, (at + 1) * parameter_tile)
            score_tile(
                instructions,
                key_codes,
                at * key_tile,
                words,
                groups,
                key_dots,
                key_scale[span],
                key_minimum[span],
                query_factors,
                query_sums,
                scores,
            )
            first, last = starts[row] - tile * TILE, length - tile * TILE
            if first > 0 or last < TILE:
                mask(scores, first, last)
            for head in range(heads):
                softmax_step(scores[head], state[head], sums[head])
            weigh_tile(
                instructions,
                value_codes,
                at * value_tile,
                groups,
                scores,
                value_scale[span],
                value_minimum[span],
                weights,
                weight_digits,
                weight_words,
                factors,
                offsets,
                value_dots,
                sums,
            )
        for head in range(heads):
            state[head, 0] += shifts[head]
        if value_rotation.shape[0]:
            mean, rotation = kv_head % value_mean.shape[0], kv_head % value_rotation.shape[0]
            turn_back(sums, state, value_mean[mean], value_rotation[rotation], buffer)
        if split == 0:
            for window in range(windows.shape[0]):
                place = windows[window]
                keys = place[0] + (row * place[1] + kv_head * place[2]) * kind.size
                values = place[4] + (row * place[5] + kv_head * place[6]) * kind.size
                attend_window(
                    kind,
                    keys,
                    values,
                    window_spans[window, 0, row],
                    window_spans[window, 1, row],
                    place[3] * kind.size,
                    place[7] * kind.size,
                    query[cell],
                    scores,
                    state,
                    sums,
                )
        for head in range(heads):
            total = state[head, 1]
            seen = total > np.float32(0)
            lse[unit, head] = (state[head, 0] + np.log2(total)) * LN2 if seen else LOWEST
            scaled(sums[head], np.float32(1) / total if seen else np.float32(0))
            copied(sums[head], out[unit, head])


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
                highest = larger(highest, part_lse[cell, split, head])
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

"""Decode attention over packed codes on a GPU: one Triton kernel, and one that merges what its splits found.

A program reads one split of one key-value head's tokens for up to 8 of the query rows that share this head, padded to
8: however many there are, no tile reaches into another head. With k = m + s c a score is s (q.c) + m sum(q), so
scales meet rows of scores and never an element. Nor is a code converted or shifted: its bits, masked where they lie,
are the low bits of a float16 of 1024 and more. What that leaves, 4 to the power of the code's slot, queries are divided
by beforehand, and outputs afterwards.

Products are float16 with sums in float32, and as exact as if all were float32: a query, and a weight relative to the
largest of its tile, is two float16 numbers, its rounding and the rest. They are two rows of one matrix product, which
has no less than 16, so that the second costs nothing.

A program is one warp. Its rows are too few to share among warps: of four, each would repeat all products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from tokenomics_local_llm.oscar.attention import Part
from tokenomics_local_llm.oscar.packing import PackedTokens

__all__ = ["attend_in_triton"]

_ROWS: Final = 8
"""Query rows of a program, each two rows of its matrix products."""
_TOKENS: Final = 64
"""Tokens that are unpacked at a time."""
_SLOTS: Final = 4
_WARPS: Final = 1
_WARPS_OF_A_MERGE: Final = 8
_STAGES: Final = 3
_PROGRAMS_A_PROCESSOR: Final = 8  # as many as its registers hold
_MOST_SPLITS: Final = 128
_LEAST_TOKENS_OF_A_SPLIT: Final = 256
_PROCESSORS_ELSEWHERE: Final = 1  # where the interpreter runs, splitting gains nothing


def attend_in_triton(
    query: Tensor,
    keys: PackedTokens,
    values: PackedTokens,
    scaling: float,
    *,
    first: Tensor | None = None,
    splits: int | None = None,
) -> Part:
    """Attention over codes on a GPU, or in Triton's interpreter; a `DecodeAttention`.

    Args:
        query: Turned as the keys are, (B, Hq, N, D); query heads h g to h g + g - 1 read key-value head h.
        keys: Codes of T tokens, one or two groups a head.
        values: Codes of the same tokens, likewise.
        scaling: Multiplies the scores.
        first: The first token that each sequence may read, (B,), int64; `None` is 0 for all.
        splits: Into how many parts, at most, the tokens are cut for programs that run side by side; `None` gives every
            multiprocessor a few.

    Raises:
        ValueError: If query heads do not divide among the key-value heads, or a head has more than two groups.
    """
    batch, heads = keys.codes.shape[:2]
    rows = _rows_of_a_head(query, heads)
    programs = batch * heads * -(-rows // _ROWS)
    tiles = -(-keys.tokens // _TOKENS)
    asked = splits or _splits(programs, keys.tokens, query.device)
    tiles_of_a_split = max(-(-tiles // asked), 1)
    used = max(-(-tiles // tiles_of_a_split), 1)
    rows_query = query.float().reshape(batch * heads, rows, query.shape[-1]).contiguous()
    outputs = rows_query.new_empty(batch * heads * rows, used, values.head_dim)
    lses = rows_query.new_empty(batch * heads * rows, used)
    _attend[(programs, used)](
        rows_query,
        *_side(keys),
        *_side(values),
        torch.zeros(batch, dtype=torch.int64, device=query.device) if first is None else first,
        outputs,
        lses,
        scaling * math.log2(math.e),
        keys.tokens,
        tiles_of_a_split,
        heads,
        rows,
        KEY_QUARTER=keys.head_dim // _SLOTS,
        KEY_GROUPS=_groups(keys),
        VALUE_QUARTER=values.head_dim // _SLOTS,
        VALUE_GROUPS=_groups(values),
        KEY_WIDTH=_width(keys.head_dim // _SLOTS),
        VALUE_WIDTH=_width(values.head_dim // _SLOTS),
        ROWS=_ROWS,
        TOKENS=_TOKENS,
        num_warps=_WARPS,
        num_stages=_STAGES,
    )
    output, lse = _merged(outputs, lses) if used > 1 else (outputs, lses)
    return Part(output=output.view(*query.shape[:3], values.head_dim), lse=lse.view(query.shape[:3]))


def _rows_of_a_head(query: Tensor, heads: int) -> int:
    query_heads, tokens = query.shape[1:3]
    if query_heads % heads:
        raise ValueError(f"query heads must be a multiple of the {heads} key-value heads, got {query_heads}")
    return query_heads // heads * tokens


def _groups(packed: PackedTokens) -> int:
    groups = packed.scale.shape[-1]
    if groups not in (1, 2):
        raise ValueError(
            f"the Triton kernel reads one or two groups a head, got {groups}: set group_size to {packed.head_dim} or "
            f"{packed.head_dim // 2}, or use attend_packed"
        )
    return groups


def _splits(programs: int, tokens: int, device: torch.device) -> int:
    processors = _PROCESSORS_ELSEWHERE
    if device.type == "cuda":
        processors = torch.cuda.get_device_properties(device).multi_processor_count
    wanted = processors * _PROGRAMS_A_PROCESSOR // programs
    return max(min(wanted, tokens // _LEAST_TOKENS_OF_A_SPLIT, _MOST_SPLITS), 1)


def _width(quarter: int) -> int:
    """Channels of a quarter as a matrix product takes them: a power of two, and 16 at least."""
    return max(1 << (quarter - 1).bit_length(), 16)


def _side(packed: PackedTokens) -> tuple[Tensor, int, Tensor, int, Tensor, int]:
    """Codes, scales and minimums, each with its distance from one head to the next."""
    parts = [_by_cell(part) for part in (packed.codes, packed.scale, packed.minimum)]
    return tuple(each for part in parts for each in (part, part.stride(1)))  # type: ignore[return-value] # of six


def _by_cell(part: Tensor) -> Tensor:
    """With tokens in a row, and every (sequence, head) as far from the next: no copy for a store's views."""
    heads, width = part.shape[1], part.shape[3]
    fits = part.stride(3) == 1 and part.stride(2) == width and part.stride(0) == heads * part.stride(1)
    return part if fits else part.contiguous()


def _merged(outputs: Tensor, lses: Tensor) -> tuple[Tensor, Tensor]:
    rows, splits, channels = outputs.shape
    output, lse = outputs.new_empty(rows, channels), lses.new_empty(rows)
    _merge[(rows,)](
        outputs,
        lses,
        output,
        lse,
        splits,
        CHANNELS=channels,
        SPLITS=1 << (splits - 1).bit_length(),
        WIDTH=1 << (channels - 1).bit_length(),
        num_warps=_WARPS_OF_A_MERGE,
    )
    return output, lse


_jit: Callable[[Any], Any] = triton.jit  # which has no types

_NOTHING = tl.constexpr(-1e30)  # below every score, and finite: a difference of infinities is no number
_LEAST = tl.constexpr(1e-30)  # what is divided by is never less
_LN_2 = tl.constexpr(math.log(2))


@_jit
def _digits(exact: tl.tensor, ROWS: tl.constexpr, WIDTH: tl.constexpr) -> tl.tensor:
    """(ROWS, WIDTH) of at most 1 as float16, (2 ROWS, WIDTH): first all roundings, then what they leave, to 2^-24."""
    high = exact.to(tl.float16)
    low = (exact - high.to(tl.float32)).to(tl.float16)
    rounding = tl.arange(0, 2)[:, None, None] == 0
    return tl.reshape(tl.where(rounding, high[None, :, :], low[None, :, :]), [2 * ROWS, WIDTH])


@_jit
def _sum(digits: tl.tensor, ROWS: tl.constexpr, WIDTH: tl.constexpr) -> tl.tensor:
    """Of what two digits gave, (2 ROWS, WIDTH), what their sum gives, (ROWS, WIDTH)."""
    return tl.sum(tl.reshape(digits, [2, ROWS, WIDTH]), axis=0)


@_jit
def _twice(column: tl.tensor, ROWS: tl.constexpr) -> tl.tensor:
    """(ROWS,) for both digits, (2 ROWS, 1)."""
    return tl.reshape(tl.broadcast_to(column[None, :], [2, ROWS]), [2 * ROWS])[:, None]


@_jit
def _slot(codes: tl.tensor, SLOT: tl.constexpr) -> tl.tensor:
    """Codes of one slot times 4^slot, float16, without a conversion: 0x6400 + n are the bits of 1024 + n."""
    bits = (codes.to(tl.int16) & (3 << 2 * SLOT)) | 0x6400
    return bits.to(tl.float16, bitcast=True) - 1024.0


@_jit
def _halves(at: tl.tensor, token: tl.tensor, seen: tl.tensor, GROUPS: tl.constexpr) -> tl.tensor:
    """Scales, or minimums, of each token's first half of channels and of its second."""
    near = tl.load(at + token * GROUPS, mask=seen, other=0.0).to(tl.float32)
    far = near
    if GROUPS == 2:
        far = tl.load(at + token * GROUPS + 1, mask=seen, other=0.0).to(tl.float32)
    return near, far


@_jit
def _relative(weights: tl.tensor, ROWS: tl.constexpr, TOKENS: tl.constexpr) -> tl.tensor:
    """Digits of weights over each row's largest, (2 ROWS, TOKENS), and that, (2 ROWS, 1)."""
    peak = tl.maximum(tl.max(weights, axis=1), _LEAST)
    return _digits(weights / peak[:, None], ROWS, TOKENS), _twice(peak, ROWS)


@_jit
def _attend(
    query: tl.tensor,
    key_codes: tl.tensor,
    key_codes_stride: tl.tensor,
    key_scale: tl.tensor,
    key_scale_stride: tl.tensor,
    key_minimum: tl.tensor,
    key_minimum_stride: tl.tensor,
    value_codes: tl.tensor,
    value_codes_stride: tl.tensor,
    value_scale: tl.tensor,
    value_scale_stride: tl.tensor,
    value_minimum: tl.tensor,
    value_minimum_stride: tl.tensor,
    first: tl.tensor,
    outputs: tl.tensor,
    lses: tl.tensor,
    scaling: tl.tensor,
    tokens: tl.tensor,
    tiles_of_a_split: tl.tensor,
    heads: tl.tensor,
    rows: tl.tensor,
    KEY_QUARTER: tl.constexpr,
    KEY_GROUPS: tl.constexpr,
    VALUE_QUARTER: tl.constexpr,
    VALUE_GROUPS: tl.constexpr,
    KEY_WIDTH: tl.constexpr,
    VALUE_WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
) -> None:
    programs_of_a_cell = tl.cdiv(rows, ROWS)
    cell = (tl.program_id(0) // programs_of_a_cell).to(tl.int64)
    row = tl.program_id(0) % programs_of_a_cell * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(1)
    key_channel, value_channel = tl.arange(0, KEY_WIDTH), tl.arange(0, VALUE_WIDTH)

    query_at = query + (cell * rows + row[:, None]) * (4 * KEY_QUARTER) + key_channel[None, :]
    asked = (row < rows)[:, None] & (key_channel < KEY_QUARTER)[None, :]
    query0 = tl.load(query_at, mask=asked, other=0.0) * scaling
    query1 = tl.load(query_at + KEY_QUARTER, mask=asked, other=0.0) * scaling
    query2 = tl.load(query_at + 2 * KEY_QUARTER, mask=asked, other=0.0) * scaling
    query3 = tl.load(query_at + 3 * KEY_QUARTER, mask=asked, other=0.0) * scaling
    near_sum = tl.sum(query0 + query1, axis=1)[:, None]
    far_sum = tl.sum(query2 + query3, axis=1)[:, None]
    largest = tl.maximum(tl.maximum(tl.abs(query0), tl.abs(query1)), tl.maximum(tl.abs(query2), tl.abs(query3)))
    peak = tl.maximum(tl.max(largest, axis=1), _LEAST)[:, None]
    digits0 = _digits(query0 / peak, ROWS, KEY_WIDTH)
    digits1 = _digits(query1 / peak * 0.25, ROWS, KEY_WIDTH)
    digits2 = _digits(query2 / peak * 0.0625, ROWS, KEY_WIDTH)
    digits3 = _digits(query3 / peak * 0.015625, ROWS, KEY_WIDTH)

    key_codes += cell * key_codes_stride
    key_scale += cell * key_scale_stride
    key_minimum += cell * key_minimum_stride
    value_codes += cell * value_codes_stride
    value_scale += cell * value_scale_stride
    value_minimum += cell * value_minimum_stride
    start = tl.load(first + cell // heads).to(tl.int32)
    begin = split * tiles_of_a_split * TOKENS
    end = tl.minimum(begin + tiles_of_a_split * TOKENS, tokens)

    highest = tl.full([ROWS], _NOTHING, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    near_minimum = tl.zeros([ROWS], tl.float32)
    far_minimum = tl.zeros([ROWS], tl.float32)
    output0 = tl.zeros([2 * ROWS, VALUE_WIDTH], tl.float32)
    output1 = tl.zeros([2 * ROWS, VALUE_WIDTH], tl.float32)
    output2 = tl.zeros([2 * ROWS, VALUE_WIDTH], tl.float32)
    output3 = tl.zeros([2 * ROWS, VALUE_WIDTH], tl.float32)
    for position in range(tl.maximum(begin, start // TOKENS * TOKENS), end, TOKENS):
        token = position + tl.arange(0, TOKENS)
        seen = (token >= start) & (token < end)

        codes = tl.load(
            key_codes + token[None, :] * KEY_QUARTER + key_channel[:, None],
            mask=seen[None, :] & (key_channel < KEY_QUARTER)[:, None],
            other=0,
        )
        near = _sum(tl.dot(digits1, _slot(codes, 1), tl.dot(digits0, _slot(codes, 0))), ROWS, TOKENS)
        far = _sum(tl.dot(digits3, _slot(codes, 3), tl.dot(digits2, _slot(codes, 2))), ROWS, TOKENS)
        near_step, far_step = _halves(key_scale, token, seen, KEY_GROUPS)
        near_least, far_least = _halves(key_minimum, token, seen, KEY_GROUPS)
        scores = (near * near_step[None, :] + far * far_step[None, :]) * peak
        scores += near_sum * near_least[None, :] + far_sum * far_least[None, :]
        scores = tl.where(seen[None, :], scores, _NOTHING)

        higher = tl.maximum(highest, tl.max(scores, axis=1))
        weights = tl.where(seen[None, :], tl.exp2(scores - higher[:, None]), 0.0)
        faded = tl.exp2(highest - higher)
        highest = higher
        total = total * faded + tl.sum(weights, axis=1)

        codes = tl.load(
            value_codes + token[:, None] * VALUE_QUARTER + value_channel[None, :],
            mask=seen[:, None] & (value_channel < VALUE_QUARTER)[None, :],
            other=0,
        )
        near_step, far_step = _halves(value_scale, token, seen, VALUE_GROUPS)
        near_least, far_least = _halves(value_minimum, token, seen, VALUE_GROUPS)
        near_minimum = near_minimum * faded + tl.sum(weights * near_least[None, :], axis=1)
        far_minimum = far_minimum * faded + tl.sum(weights * far_least[None, :], axis=1)
        near_weights, near_peak = _relative(weights * near_step[None, :], ROWS, TOKENS)
        far_weights, far_peak = near_weights, near_peak
        if VALUE_GROUPS == 2:
            far_weights, far_peak = _relative(weights * far_step[None, :], ROWS, TOKENS)
        faded_digits = _twice(faded, ROWS)
        output0 = output0 * faded_digits + tl.dot(near_weights, _slot(codes, 0)) * near_peak
        output1 = output1 * faded_digits + tl.dot(near_weights, _slot(codes, 1)) * near_peak
        output2 = output2 * faded_digits + tl.dot(far_weights, _slot(codes, 2)) * far_peak
        output3 = output3 * faded_digits + tl.dot(far_weights, _slot(codes, 3)) * far_peak

    part = (cell * rows + row) * tl.num_programs(1) + split
    divisor = tl.maximum(total, _LEAST)[:, None]
    lse = tl.where(total > 0, (highest + tl.log2(tl.maximum(total, _LEAST))) * _LN_2, float("-inf"))
    tl.store(lses + part, lse, mask=row < rows)
    output_at = outputs + part[:, None] * (4 * VALUE_QUARTER) + value_channel[None, :]
    wanted = (row < rows)[:, None] & (value_channel < VALUE_QUARTER)[None, :]
    near_minimum, far_minimum = near_minimum[:, None], far_minimum[:, None]
    tl.store(output_at, (_sum(output0, ROWS, VALUE_WIDTH) + near_minimum) / divisor, mask=wanted)
    tl.store(output_at + VALUE_QUARTER, (_sum(output1, ROWS, VALUE_WIDTH) * 0.25 + near_minimum) / divisor, mask=wanted)
    tl.store(
        output_at + 2 * VALUE_QUARTER, (_sum(output2, ROWS, VALUE_WIDTH) * 0.0625 + far_minimum) / divisor, mask=wanted
    )
    tl.store(
        output_at + 3 * VALUE_QUARTER,
        (_sum(output3, ROWS, VALUE_WIDTH) * 0.015625 + far_minimum) / divisor,
        mask=wanted,
    )


@_jit
def _merge(
    outputs: tl.tensor,
    lses: tl.tensor,
    output: tl.tensor,
    lse: tl.tensor,
    splits: tl.tensor,
    CHANNELS: tl.constexpr,
    SPLITS: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    split, channel = tl.arange(0, SPLITS), tl.arange(0, WIDTH)
    parts = tl.load(lses + row * splits + split, mask=split < splits, other=float("-inf"))
    highest = tl.maximum(tl.max(parts, axis=0), _NOTHING)
    weights = tl.exp(parts - highest)
    total = tl.sum(weights, axis=0)
    rows = tl.load(
        outputs + (row * splits + split[:, None]) * CHANNELS + channel[None, :],
        mask=(split < splits)[:, None] & (channel < CHANNELS)[None, :],
        other=0.0,
    )
    divisor = tl.maximum(total, _LEAST)
    tl.store(lse + row, tl.where(total > 0, highest + tl.log(divisor), float("-inf")))
    tl.store(output + row * CHANNELS + channel, tl.sum(rows * weights[:, None], axis=0) / divisor, channel < CHANNELS)

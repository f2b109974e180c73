"""Decode attention over packed codes in plain PyTorch: what the compiled kernels are checked against.

The same algebra in single precision, without digits: q . k = scale * (q . c) + minimum * sum(q) by group, values alike.
It never holds more than `CHUNK` tokens unpacked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from tokenomics_local_llm.kernels.store import PackedKeys, PackedStore, PackedValues
from tokenomics_local_llm.kernels.turn import Turn
from tokenomics_local_llm.kernels.window import Window

__all__ = ["attend_in_torch", "merge_parts"]

CHUNK: Final = 4096
"""Tokens unpacked at a time."""


def attend_in_torch(
    query: Tensor,
    keys: PackedKeys,
    values: PackedValues,
    *,
    windows: Sequence[Window],
    starts: Tensor | None,
    key_turn: Turn | None,
    value_turn: Turn | None,
) -> tuple[Tensor, Tensor]:
    """Attention of one token; arguments as of `decode_attention`, but for the query.

    Args:
        query: (B, H, g, D) float32, scaled.
        keys: Packed keys.
        values: Packed values.
        windows: Tokens in full precision.
        starts: Tokens of padding of each row.
        key_turn: What was done to keys before packing.
        value_turn: Likewise.

    Returns:
        The output (B, H, g, D) and the logarithm of the sum of exponents (B, H, g).
    """
    turned, shift = key_turn.of_query(query) if key_turn else (query, 0.0)
    packed, lse = merge_parts(
        [
            (torch.zeros_like(query), query.new_full(query.shape[:3], -torch.inf)),
            *_packed_parts(turned, keys, values, starts),
        ]
    )
    if value_turn:
        packed = value_turn.back(packed)
    return merge_parts([(packed, lse + shift), *(_dense_part(query, window) for window in windows)])


def _packed_parts(
    query: Tensor, keys: PackedKeys, values: PackedValues, starts: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    for first, key_chunk, value_chunk in zip(range(0, keys.length, CHUNK), _chunks(keys), _chunks(values), strict=True):
        weights, lse = _softmax(_masked(_grouped_scores(query, *key_chunk), starts, first))
        yield _grouped_sum(weights, *value_chunk), lse


def merge_parts(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join attention over parts of the tokens, (output, log-sum-exp) each, into attention over all of them."""
    outputs, logarithms = (torch.stack(each) for each in zip(*parts, strict=True))
    total = logarithms.logsumexp(0)
    weights = (logarithms - total).exp().nan_to_num(0.0)  # no part saw a token: -inf - -inf
    return (weights.unsqueeze(-1) * outputs).sum(0), total


def _chunks(store: PackedStore) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Codes (B, H, T, groups, group size) in single precision, with scales and minimums, a chunk at a time."""
    for first in range(0, store.length, CHUNK):
        codes, scale, minimum = store.unpacked(first, min(first + CHUNK, store.length))
        yield codes.float().unflatten(-1, (store.groups, -1)), scale.float(), minimum.float()


def _grouped_scores(query: Tensor, codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    grouped = query.unflatten(-1, codes.shape[-2:])  # B H g groups size
    dots = torch.einsum("bhqgc,bhtgc->bhqgt", grouped, codes)
    scores = dots * scale.mT.unsqueeze(2) + grouped.sum(-1, keepdim=True) * minimum.mT.unsqueeze(2)
    return scores.sum(3)


def _grouped_sum(weights: Tensor, codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    scaled = weights.unsqueeze(3) * scale.mT.unsqueeze(2)  # B H q groups T
    sums = torch.einsum("bhqgt,bhtgc->bhqgc", scaled, codes)
    offsets = torch.einsum("bhqt,bhtg->bhqg", weights, minimum)
    return (sums + offsets.unsqueeze(-1)).flatten(-2)


def _dense_part(query: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    scores = query @ window.keys.float().mT
    seen = _masked(scores, window.starts, 0)
    if window.ends is not None:
        seen = seen.masked_fill((torch.arange(seen.shape[-1]) >= window.ends[:, None])[:, None, None], -torch.inf)
    weights, lse = _softmax(seen)
    return weights @ window.values.float(), lse


def _masked(scores: Tensor, starts: Tensor | None, first: int) -> Tensor:
    if starts is None:
        return scores
    positions = torch.arange(first, first + scores.shape[-1])
    return scores.masked_fill((positions < starts[:, None])[:, None, None], -torch.inf)


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Weights that sum to 1, or are all 0 where there is nothing to see; and the logarithm of their sum."""
    lse = scores.logsumexp(-1)
    return (scores - lse.unsqueeze(-1)).exp().nan_to_num(0.0), lse

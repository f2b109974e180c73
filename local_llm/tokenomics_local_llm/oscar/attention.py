"""Attention over packed codes, without restoring a single key or value: the algebra that every kernel implements.

With k = m + s c a key's score is q.k = s (q.c) + m sum(q), and a weighted sum of values is
sum((p s) c) + sum(p m): codes meet only queries and weights, never their scales. Each part of a sequence is attended
by itself and gives its output with the logarithm of its sum of exponentials, by which the parts are merged exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from tokenomics_local_llm.oscar.packing import PackedTokens, unpack_codes

__all__ = ["DecodeAttention", "Part", "attend_packed", "attend_plain", "merge"]

_BLOCK_TOKENS: Final = 4096  # bounds the unpacked codes that exist at a time


@dataclass(frozen=True, kw_only=True)
class Part:
    """What queries read from one part of a sequence, as if it were the whole."""

    output: Tensor
    """(B, Hq, N, D), float32; 0 where a query sees nothing of the part."""
    lse: Tensor
    """Logarithm of the sum of exponentials of the scores, (B, Hq, N), float32; -inf where a query sees nothing."""


class DecodeAttention(Protocol):
    """What a kernel over packed codes has to offer; `attend_packed` is the reference."""

    def __call__(
        self, query: Tensor, keys: PackedTokens, values: PackedTokens, scaling: float, *, first: Tensor | None = None
    ) -> Part:
        """Attend to all codes.

        Args:
            query: Turned as the keys are, (B, Hq, N, D); query heads h g to h g + g - 1 read key-value head h.
            keys: Codes of T tokens.
            values: Codes of the same tokens.
            scaling: Multiplies the scores.
            first: The first token that each sequence may read, (B,), int64; `None` is 0 for all.
        """
        ...


def attend_packed(
    query: Tensor, keys: PackedTokens, values: PackedTokens, scaling: float, *, first: Tensor | None = None
) -> Part:
    """Attention over codes in plain PyTorch; arguments as in `DecodeAttention`."""
    heads = keys.codes.shape[1]
    grouped = _by_head(query, heads) * scaling
    parts = [
        _attend_block(grouped, _slice(keys, start), _slice(values, start), _hidden(first, start, keys.tokens))
        for start in range(0, keys.tokens, _BLOCK_TOKENS)
    ]
    return merge(parts)


def _by_head(query: Tensor, heads: int) -> Tensor:
    """(B, Hq, N, D) as (B, H, g, N, D), float32."""
    batch, query_heads, tokens, channels = query.shape
    return query.float().reshape(batch, heads, query_heads // heads, tokens, channels)


def _slice(packed: PackedTokens, start: int) -> PackedTokens:
    block = slice(start, start + _BLOCK_TOKENS)
    return PackedTokens(
        codes=packed.codes[:, :, block], scale=packed.scale[:, :, block], minimum=packed.minimum[:, :, block]
    )


def _hidden(first: Tensor | None, start: int, tokens: int) -> Tensor | None:
    """Which tokens of a block no query of a sequence may read, (B, 1, 1, 1, T)."""
    if first is None:
        return None
    positions = torch.arange(start, min(start + _BLOCK_TOKENS, tokens), device=first.device)
    return (positions < first[:, None])[:, None, None, None]


def _attend_block(query: Tensor, keys: PackedTokens, values: PackedTokens, hidden: Tensor | None) -> Part:
    scores = _scores(query, keys)
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    weights, lse = _softmax(scores)
    return Part(output=_weighted(weights, values).flatten(1, 2), lse=lse.flatten(1, 2))


def _scores(query: Tensor, keys: PackedTokens) -> Tensor:
    codes = unpack_codes(keys.codes).float().view(*keys.scale.shape, -1)  # (B, H, T, G, D / G)
    parts = query.view(*query.shape[:-1], keys.scale.shape[-1], -1)
    dots = torch.einsum("bhgnqd,bhtqd->bhgntq", parts, codes)
    scale, minimum = (part.float()[:, :, None, None] for part in (keys.scale, keys.minimum))
    scores: Tensor = (dots * scale + minimum * parts.sum(-1).unsqueeze(-2)).sum(-1)
    return scores


def _weighted(weights: Tensor, values: PackedTokens) -> Tensor:
    codes = unpack_codes(values.codes).float().view(*values.scale.shape, -1)
    scaled = weights.unsqueeze(-1) * values.scale.float()[:, :, None, None]
    sums = torch.einsum("bhgntq,bhtqd->bhgnqd", scaled, codes)
    offsets = torch.einsum("bhgnt,bhtq->bhgnq", weights, values.minimum.float())
    return (sums + offsets.unsqueeze(-1)).flatten(-2)


def attend_plain(query: Tensor, keys: Tensor, values: Tensor, scaling: float, visible: Tensor | None = None) -> Part:
    """Attention over keys and values as they are, in float32.

    Args:
        query: (B, Hq, N, D).
        keys: (B, H, T, D).
        values: (B, H, T, D).
        scaling: Multiplies the scores.
        visible: What each query may read, broadcast to (B, N, T); `None` is everything.
    """
    heads = keys.shape[1]
    grouped = _by_head(query, heads) * scaling
    scores = torch.einsum("bhgnd,bhtd->bhgnt", grouped, keys.float())
    if visible is not None:
        scores = scores.masked_fill(~visible[:, None, None], -torch.inf)
    weights, lse = _softmax(scores)
    output = torch.einsum("bhgnt,bhtd->bhgnd", weights, values.float())
    return Part(output=output.flatten(1, 2), lse=lse.flatten(1, 2))


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over the last dimension, all 0 where nothing is visible, and its log-sum-exp."""
    lse = torch.logsumexp(scores, dim=-1)
    return torch.exp(scores - lse.nan_to_num(neginf=0.0).unsqueeze(-1)), lse


def merge(parts: Sequence[Part]) -> Part:
    """Several parts as one softmax over all of them."""
    if len(parts) == 1:
        return parts[0]
    lses = torch.stack([part.lse for part in parts])
    lse = torch.logsumexp(lses, dim=0)
    shares = torch.exp(lses - lse.nan_to_num(neginf=0.0)).unsqueeze(-1)
    outputs = torch.stack([part.output for part in parts])
    return Part(output=(outputs * shares).sum(0), lse=lse)

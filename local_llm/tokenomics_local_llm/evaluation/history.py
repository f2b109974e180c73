"""Perplexity and divergence over positions whose history is in the cache, in whatever form that keeps it.

A prompt read at once measures nothing: while a cache is filled, attention still sees exact keys. So a text is read in
chunks, each against the cache of all before it, and only its last tokens are scored, those with a long history.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Final

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from tokenomics_local_llm.model import cache_argument

__all__ = ["HistoryScore", "compare", "logits_over_history"]

_COMPARED_AT_ONCE: Final = 256  # positions; a row of logits may have 150,000 entries


@dataclass(frozen=True, kw_only=True)
class HistoryScore:
    """One cache against a full one on one text."""

    perplexity: float
    """With the cache, of the scored tokens."""
    full_perplexity: float
    """With the full cache."""
    kl: float
    """Mean divergence of the next token's distribution from that with the full cache, nats."""
    agreement: float
    """Share of positions at which both find the same token the most probable."""
    positions: int
    """How many were scored."""

    @property
    def perplexity_ratio(self) -> float:
        """How many times the full cache's perplexity."""
        return self.perplexity / self.full_perplexity


@torch.inference_mode()
def logits_over_history(
    model: PreTrainedModel, tokens: Tensor, cache: Cache, *, scored_tokens: int, chunk_tokens: int = 256
) -> Tensor:
    """Read a text chunk by chunk through a cache.

    Args:
        model: A causal language model.
        tokens: The text, (T,).
        cache: Empty; holds the text afterwards.
        scored_tokens: How many of the last positions' logits to return.
        chunk_tokens: Tokens read at a time.

    Returns:
        (N, V), float32 on the CPU.

    Raises:
        ValueError: If the text is not longer than what is to be scored.
    """
    if not 0 < scored_tokens < len(tokens):
        raise ValueError(f"scored_tokens must be above 0 and below the text's {len(tokens)}, got {scored_tokens}")
    first = len(tokens) - scored_tokens
    kept = []
    for start in range(0, len(tokens), chunk_tokens):
        chunk = tokens[start : start + chunk_tokens]
        wanted = min(max(start + len(chunk) - first, 0), len(chunk))
        output = model(
            input_ids=chunk[None].to(model.device),
            use_cache=True,
            logits_to_keep=max(wanted, 1),
            **{cache_argument(model): cache},
        )
        if wanted:
            kept.append(output.logits[0].float().cpu())
    return torch.cat(kept)


def compare(full: Tensor, other: Tensor, tokens: Tensor) -> HistoryScore:
    """Score logits of a text's last positions against those of a full cache.

    Args:
        full: (N, V), with the full cache.
        other: (N, V), with the cache in question.
        tokens: The whole text, (T,).
    """
    targets = tokens[len(tokens) - len(full) + 1 :]  # the last position's next token is unknown
    sums = torch.zeros(4, dtype=torch.float64)
    for start in range(0, len(targets), _COMPARED_AT_ONCE):
        part = targets[start : start + _COMPARED_AT_ONCE]
        sums += _sums(full[start : start + len(part)], other[start : start + len(part)], part)
    loss, full_loss, kl, same = (sums / len(targets)).tolist()
    return HistoryScore(
        perplexity=exp(loss), full_perplexity=exp(full_loss), kl=kl, agreement=same, positions=len(targets)
    )


def _sums(full: Tensor, other: Tensor, targets: Tensor) -> Tensor:
    expected, found = torch.log_softmax(full, -1), torch.log_softmax(other, -1)
    losses = [-each.gather(1, targets[:, None]).double().sum() for each in (found, expected)]
    kl = (expected.exp() * (expected - found)).double().sum()
    return torch.stack([*losses, kl, (full.argmax(-1) == other.argmax(-1)).double().sum()])

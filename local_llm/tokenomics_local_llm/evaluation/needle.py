"""A needle in a haystack: a fact told once in a long text, and asked for at its end through the cache.

Whether a small model finds it is a matter of luck, so the probability of the right answer is given beside the hits:
what counts is how far a cache falls behind the full one on the same haystacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from transformers import Cache

from tokenomics_local_llm.evaluation.history import logits_over_history
from tokenomics_local_llm.model import LocalModel

__all__ = ["Haystack", "NeedleScore", "find_needle", "haystacks"]

_FACTS: Final = (("Lisbon", "48213"), ("Oslo", "90567"), ("Cairo", "31748"), ("Quito", "75920"), ("Dublin", "62384"))
_TOLD: Final = "\n\nThe secret number of {city} is {number}.\n\n"
_ASKED: Final = "\n\nQuestion: What is the secret number of {city}?\nAnswer: The secret number of {city} is"


@dataclass(frozen=True, kw_only=True)
class Haystack:
    """A text that tells a fact and asks for it."""

    depth: float
    """Where the fact is told: 0 is the beginning, 1 the end."""
    tokens: Tensor
    """Everything, the answer included, (T,)."""
    answer_tokens: int
    """How many of the last ones are the answer."""


@dataclass(frozen=True, kw_only=True)
class NeedleScore:
    """How well the facts were found."""

    found: float
    """Share of haystacks whose answer is all of the most probable tokens."""
    log_probability: float
    """Mean of the answers' tokens, nats."""


def haystacks(model: LocalModel, hay: Tensor, *, depths: Sequence[float]) -> list[Haystack]:
    """One text for each depth, each with a fact of its own.

    Args:
        model: Whose tokens.
        hay: A text that knows nothing of the facts, (T,).
        depths: Where to tell them, between 0 and 1.
    """
    return [_haystack(model, hay, depth, *_FACTS[i % len(_FACTS)]) for i, depth in enumerate(depths)]


def _haystack(model: LocalModel, hay: Tensor, depth: float, city: str, number: str) -> Haystack:
    at = int(depth * len(hay))
    told, asked, answer = (
        torch.tensor(model.encode(text))
        for text in (_TOLD.format(city=city, number=number), _ASKED.format(city=city), f" {number}")
    )
    tokens = torch.cat([hay[:at], told, hay[at:], asked, answer])
    return Haystack(depth=depth, tokens=tokens, answer_tokens=len(answer))


def find_needle(model: LocalModel, haystack: Haystack, cache: Cache) -> NeedleScore:
    """Ask one question; the cache is empty before and holds the haystack afterwards."""
    count = haystack.answer_tokens
    logits = logits_over_history(model.model, haystack.tokens, cache, scored_tokens=count + 1)[:-1]
    answer = haystack.tokens[-count:]
    log_probabilities = torch.log_softmax(logits, -1).gather(1, answer[:, None])
    return NeedleScore(
        found=float(torch.equal(logits.argmax(-1), answer)), log_probability=float(log_probabilities.mean())
    )

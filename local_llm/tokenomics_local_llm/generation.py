"""Text from a model, token by token: a plain iterator that computes a token when asked for it.

The loop is ours, not `model.generate` with a streamer: that needs a thread that nobody can stop, while a
generator that is closed has stopped. The cache is made by the caller's factory (`kv_caches` makes the factories), so
that another kind of cache can take its place.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor
from transformers import Cache

from tokenomics_local_llm.constraint import Constraint
from tokenomics_local_llm.errors import PromptTooLongError
from tokenomics_local_llm.kv_cache import CacheFactory, HeldCache, full_cache
from tokenomics_local_llm.model import LocalModel
from tokenomics_local_llm.sampling import Sampler
from tokenomics_local_llm.text import Detokenizer, StopSequences

__all__ = ["FinishReason", "GenerationOptions", "TextDelta", "generate", "stream"]

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How a text is generated and where it ends."""

    max_tokens: int = 512
    """The most tokens to generate; the model's context may end earlier."""
    temperature: float = 0.0
    """0 takes the most probable token each time."""
    top_p: float = 1.0
    """Draws among the most probable tokens that together reach this probability."""
    seed: int | None = None
    """Same seed, same text; `None` draws anew."""
    stop: tuple[str, ...] = ()
    """The text ends before the first of these; they never cut what a grammar forces."""
    grammar: str | None = None
    """What the text must match, in llguidance's variant of Lark."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not all(self.stop):
            raise ValueError(f"stop sequences must not be empty, got {self.stop!r}")


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """What one step added to the text; the counts are those of the whole text so far."""

    text: str
    """May be empty: inside a character, or where a stop sequence may have begun."""
    prompt_tokens: int
    completion_tokens: int
    """Every token generated so far, the closing one included."""
    finish_reason: FinishReason | None = None
    """Set on the last delta only."""
    kv_cache: HeldCache | None = None
    """What the cache holds at the end; set on the last delta only."""


@dataclass(frozen=True)
class _Run:
    """The tokens of one pass through the model: a chosen one and those that the grammar forces."""

    tokens: list[int]
    ends: bool
    """Whether the model or the grammar ends the text with them."""


def generate(
    model: LocalModel, prompt: str, options: GenerationOptions, *, cache_factory: CacheFactory = full_cache
) -> TextDelta:
    """The whole text at once, as one delta; arguments and errors are those of `stream`."""
    deltas = list(stream(model, prompt, options, cache_factory=cache_factory))
    return replace(deltas[-1], text="".join(delta.text for delta in deltas))


def stream(
    model: LocalModel, prompt: str, options: GenerationOptions, *, cache_factory: CacheFactory = full_cache
) -> Generator[TextDelta]:
    """The text as it is generated, a delta a step; closing the iterator ends the work.

    Args:
        model: The model.
        prompt: Text with its special tokens, as a chat template renders it.
        options: Sampling and where to end.
        cache_factory: Makes the key-value cache of this text from the model's configuration.

    Raises:
        PromptTooLongError: If the prompt fills the model's context.
        UnsupportedSchemaError: If the grammar cannot be enforced.
        ValueError: If an option is out of its range.
    """
    prompt_tokens = model.encode(prompt)
    budget = min(options.max_tokens, _room(model, len(prompt_tokens)))
    constraint = None if options.grammar is None else Constraint(model, options.grammar)
    sampler = Sampler(temperature=options.temperature, top_p=options.top_p, seed=options.seed)
    cache = cache_factory(model.model.config)
    runs = _runs(model, prompt_tokens, sampler, constraint, cache)
    return _deltas(model, runs, budget, len(prompt_tokens), StopSequences(() if constraint else options.stop), cache)


def _room(model: LocalModel, prompt_tokens: int) -> int:
    limit = model.context_tokens
    if limit is None:
        return sys.maxsize
    if prompt_tokens >= limit:
        raise PromptTooLongError(
            f"the prompt has {prompt_tokens} tokens and {model.name} reads at most {limit}, the answer included: "
            "shorten the conversation or take a model with a longer context"
        )
    return limit - prompt_tokens


def _runs(
    model: LocalModel, prompt: list[int], sampler: Sampler, constraint: Constraint | None, cache: Cache
) -> Iterator[_Run]:
    forced = constraint.forced() if constraint else []
    if constraint and constraint.finished:  # nothing to decide: a call of a tool without arguments
        yield _Run(forced, ends=True)
        return
    unread = prompt + forced
    ends = False
    while not ends:
        chosen = _choose(model.next_logits(unread, cache), sampler, constraint)
        ends = chosen[-1] in model.end_tokens or (constraint is not None and constraint.finished)
        yield _Run(forced + chosen, ends=ends)
        unread, forced = chosen, []


def _choose(logits: Tensor, sampler: Sampler, constraint: Constraint | None) -> list[int]:
    if constraint is None:
        return [sampler(logits)]
    token = sampler(constraint.allow(logits))
    constraint.accept(token)
    return [token, *constraint.forced()]


def _deltas(
    model: LocalModel, runs: Iterator[_Run], budget: int, prompt_tokens: int, stops: StopSequences, cache: Cache
) -> Generator[TextDelta]:
    detokenizer = Detokenizer(model.decode)
    count = 0
    reason: FinishReason | None = None
    for run in runs:
        tokens = run.tokens[: budget - count]
        count += len(tokens)
        text = stops.push(detokenizer.push([token for token in tokens if token not in model.end_tokens]))
        if stops.reached or (run.ends and len(tokens) == len(run.tokens)):
            reason = "stop"
        elif count == budget:
            reason = "length"
        if reason:
            text += stops.push(detokenizer.flush()) + stops.flush()
        yield TextDelta(
            text=text,
            prompt_tokens=prompt_tokens,
            completion_tokens=count,
            finish_reason=reason,
            kv_cache=HeldCache.of(cache) if reason else None,
        )
        if reason:
            return

"""Paying the full price for what the provider's cache could have served: D11 after a change, D12 before any.

A provider's cache serves a beginning that it has read before. So what a prompt repeats is cheap up to the first
difference, and dear after it (stranded). Both detectors claim the gap between the two prices and nothing more: the
tokens themselves may be needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import ModelCall, Trajectory
from tokenomics_plugin.waste.carriage import CarriedContext
from tokenomics_plugin.waste.detector import Need
from tokenomics_plugin.waste.facts import end_of, facts_of, ranges
from tokenomics_plugin.waste.finding import BlockRange, Finding

__all__ = ["MissedCache", "StrandedRepetition"]

_AUTOMATIC: Final = frozenset({"openai", "azure.ai.openai", "azure.ai.inference", "deepseek"})
"""Providers that cache prompts unasked; others must be asked, so that no cache read may mean none was asked for."""
_MINIMUM_TOKENS: Final[dict[str, int]] = dict.fromkeys(_AUTOMATIC, 1_024)
_MINIMUM_TOKENS_ELSEWHERE: Final = 4_096
"""The most that any provider asks for (Anthropic's and Gemini's larger models): what is shorter proves nothing."""
_STEP_TOKENS: Final = 128
"""Caches read in steps (OpenAI's of 128 tokens), and the end of a prompt need not fall on one."""
_TIME_TO_LIVE_S: Final = 300.0


@dataclass(frozen=True, kw_only=True)
class StrandedRepetition:
    """D11: blocks that the call before carried too, but that follow a block that changed.

    Likely where the changed blocks were replaced in their place, such as a system prompt with the time in it: with
    what changes at the end, the rest is cached. It is provable only for roles whose order you declare free, because the
    order may matter to the model. A window that slides and a history that was cut short save more than they strand,
    perhaps: a matter of policy.
    """

    id: ClassVar[str] = "D11"
    name: ClassVar[str] = "stranded repetition"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CONTEXTS, Need.USAGE})

    free_roles: frozenset[str] = frozenset()
    """Roles of blocks that may stand anywhere without a difference to the model, such as `system`."""
    minimum_tokens: Mapping[str, int] = field(default_factory=_MINIMUM_TOKENS.copy)
    """Provider -> input tokens below which it caches nothing."""
    time_to_live_s: float = _TIME_TO_LIVE_S
    """Seconds for which a provider keeps what it has read."""

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each call that repeats in vain."""
        for context in facts_of(trajectory).carriage.contexts.values():
            if not context.displaced:
                continue
            before = context.calls[context.index - 1]
            if self._could_be_cached(context.call, before):
                yield self._finding(context, before)

    def _could_be_cached(self, call: ModelCall, before: ModelCall) -> bool:
        tokens = None if call.usage is None else call.usage.input_tokens
        age_ns = call.started_unix_nano - end_of(before)
        return (
            tokens is not None
            and tokens >= self.minimum_tokens.get(call.provider or "", _MINIMUM_TOKENS_ELSEWHERE)
            and 0 <= age_ns <= self.time_to_live_s * 10**9
            and (call.provider, call.model) == (before.provider, before.model)
        )

    def _finding(self, context: CarriedContext, before: ModelCall) -> Finding:
        changed = (context.call.context or ())[context.known_prefix : context.displaced[0]]
        is_free = all(block is not None and block.role in self.free_roles for block in changed)
        return Finding(
            cause=self.id,
            tier=Tier.C if context.has_moved else Tier.A if is_free else Tier.B,
            blocks=tuple(ranges(context.call.span_id, context.displaced)),
            is_price_gap=True,
            tokens=_share(context.call, context.displaced),
            evidence=(before.span_id,),
        )


@dataclass(frozen=True, kw_only=True)
class MissedCache:
    """D12: a call began with the whole prompt of an earlier one, and the cache served less than that.

    The earlier call's input tokens are what could have been served: no estimate is needed. Provable where the provider
    caches unasked, or has served this model's calls from its cache in this run; likely where the cache was perhaps
    never asked for. An eviction at the provider looks the same, and costs the same.
    """

    id: ClassVar[str] = "D12"
    name: ClassVar[str] = "missed cache"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CONTEXTS, Need.USAGE})

    minimum_tokens: Mapping[str, int] = field(default_factory=_MINIMUM_TOKENS.copy)
    """Provider -> input tokens below which it caches nothing."""
    time_to_live_s: float = _TIME_TO_LIVE_S
    """Seconds for which a provider keeps what it has read."""

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each call that was served too little."""
        # Keyed by prompt and model: the cache of one model serves no other.
        sent: dict[tuple[object, ...], ModelCall] = {}
        caching = {(call.provider, call.model) for call in trajectory.model_calls if _uses_cache(call)}
        for context in facts_of(trajectory).carriage.contexts.values():
            call, model = context.call, (context.call.provider, context.call.model)
            earlier = sent.get((context.prefix_node, *model))
            if earlier is not None and self._is_missed(call, earlier):
                is_proven = model in caching or call.provider in _AUTOMATIC
                yield Finding(
                    cause=self.id,
                    tier=Tier.A if is_proven else Tier.B,
                    blocks=(BlockRange(call=call.span_id, start=0, stop=context.known_prefix),),
                    is_price_gap=True,
                    tokens=_missed(call, earlier),
                    evidence=(earlier.span_id,),
                )
            if context.node is not None and call.error_type is None and not call.is_cache_hit:
                sent[context.node, *model] = call

    def _is_missed(self, call: ModelCall, earlier: ModelCall) -> bool:
        if call.usage is None or earlier.usage is None or call.is_cache_hit or call.operation != earlier.operation:
            return False
        missed, possible = _missed(call, earlier), earlier.usage.input_tokens
        if missed is None or possible is None or not call.usage.is_consistent or not earlier.usage.is_consistent:
            return False
        age_ns = call.started_unix_nano - end_of(earlier)
        return (
            possible >= self.minimum_tokens.get(call.provider or "", _MINIMUM_TOKENS_ELSEWHERE)
            and missed > _STEP_TOKENS
            and 0 <= age_ns <= self.time_to_live_s * 10**9
        )


def _uses_cache(call: ModelCall) -> bool:
    usage = call.usage
    return usage is not None and bool(usage.cache_read_tokens or usage.cache_write_tokens)


def _missed(call: ModelCall, earlier: ModelCall) -> int | None:
    """Input tokens that an earlier prompt had and the cache did not serve."""
    if call.usage is None or earlier.usage is None:
        return None
    cached, possible = call.usage.cache_read_tokens, earlier.usage.input_tokens
    return None if cached is None or possible is None else possible - cached


def _share(call: ModelCall, positions: Iterable[int]) -> int | None:
    """Input tokens of some blocks: the provider's count split by size; `None` when a size is unknown."""
    tokens = None if call.usage is None else call.usage.input_tokens
    sizes = [None if block is None else block.size for block in call.context or ()]
    if tokens is None or any(size is None for size in sizes):
        return None
    known = [size for size in sizes if size is not None]
    return tokens * sum(known[position] for position in positions) // max(1, sum(known))

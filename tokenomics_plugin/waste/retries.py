"""After an error: trying the same again (D3), carrying the error along (D4), and paying twice for one answer (D18)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import ModelCall, Step, ToolCall, Trajectory
from tokenomics_plugin.waste.detector import Need
from tokenomics_plugin.waste.errors import is_deterministic, is_transient
from tokenomics_plugin.waste.facts import Facts, end_of, facts_of, has_completed
from tokenomics_plugin.waste.finding import Finding

__all__ = ["ErrorRent", "FallbackDoubleSpend", "RetryAfterSameFailure"]

_UNKNOWN_TOOL: Final = "unknown_tool"
"""Error type of a call to a tool that the model named and that does not exist."""


@dataclass(frozen=True, kw_only=True)
class RetryAfterSameFailure:
    """D3: a call failed as the same call had failed before, and nothing was changed in between.

    Provable where the class of the error says that it must fail again; a matter of policy where it may pass (too many
    requests, a server's fault, a timeout); likely where the class says neither.
    """

    id: ClassVar[str] = "D3"
    name: ClassVar[str] = "retry after the same failure"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.HASHES, Need.SIDE_EFFECTS})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each repeated failure."""
        facts = facts_of(trajectory)
        repeats = list(_repeated_failures(facts))
        needless = facts.needless_requests(
            (call, earlier) for call, earlier in repeats if isinstance(call, ToolCall) and isinstance(earlier, ToolCall)
        )
        for call, earlier in repeats:
            asker = facts.asked_by.get(call.span_id)
            spans = (call.span_id, asker) if asker in needless and asker is not None else (call.span_id,)
            knew = asker is not None and facts.knew(asker, earlier.span_id)
            yield Finding(
                cause=self.id,
                tier=_tier(call.error_type),
                spans=spans,
                blocks=facts.rent(spans) if knew else (),
                evidence=(earlier.span_id,),
            )


@dataclass(frozen=True, kw_only=True)
class ErrorRent:
    """D4: an error message, and the request that caused it, are carried on after the tool has worked.

    Until then the message teaches the model what not to do, so nothing is claimed before.
    """

    id: ClassVar[str] = "D4"
    name: ClassVar[str] = "error carried after recovery"
    tier: ClassVar[Tier] = Tier.B
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CONTEXTS})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each error that was recovered from."""
        facts = facts_of(trajectory)
        failed: dict[tuple[str | None, str | None], list[ToolCall]] = {}
        failures = {call.span_id for call in trajectory.tool_calls if call.error_type is not None}
        for tool in trajectory.tool_calls:
            key = tool.agent, tool.tool
            if tool.error_type is not None:
                failed.setdefault(key, []).append(tool)
            elif has_completed(tool):
                for error in failed.pop(key, ()):
                    yield from self._rent(facts, error, tool, failures)

    def _rent(self, facts: Facts, error: ToolCall, success: ToolCall, failures: set[str]) -> Iterator[Finding]:
        asker = facts.carriage.asked_by.get(error.span_id)
        # A request that also asked for what worked is part of what the model knows.
        is_all_failed = asker is not None and failures.issuperset(facts.asked.get(asker, ()))
        producers = (error.span_id, asker) if is_all_failed and asker is not None else (error.span_id,)
        if blocks := facts.rent(producers, after_unix_nano=end_of(success)):
            yield Finding(cause=self.id, tier=Tier.B, blocks=blocks, evidence=(error.span_id, success.span_id))


@dataclass(frozen=True, kw_only=True)
class FallbackDoubleSpend:
    """D18: a model call failed and was billed, and another model was then sent the same.

    What is claimed is the failure; the fallback is what the answer cost. Where the failure was one that may pass,
    paying for it now and then is the price of being reliable.
    """

    id: ClassVar[str] = "D18"
    name: ClassVar[str] = "billed failure before a fallback"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.USAGE, Need.CONTEXTS, Need.ATTEMPTS})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each billed failure."""
        contexts = facts_of(trajectory).carriage.contexts
        fallbacks = {call.span_id: call for call in trajectory.model_calls if call.attempt_kind == "fallback"}
        for call in trajectory.model_calls:
            fallback = fallbacks.get(call.superseded_by or "")
            if fallback is None or call.error_type is None or not _is_billed(call):
                continue
            context, other = contexts.get(call.span_id), contexts.get(fallback.span_id)
            is_same = context is not None and other is not None and context.node == other.node is not None
            is_proven = is_same and not is_transient(call.error_type)
            yield Finding(
                cause=self.id,
                tier=Tier.A if is_proven else Tier.C,
                spans=(call.span_id,),
                evidence=(fallback.span_id,),
            )


def _repeated_failures(facts: Facts) -> Iterator[tuple[ToolCall | ModelCall, ToolCall | ModelCall]]:
    """Failures, each with the first that was the same."""
    first: dict[tuple[object, ...], ToolCall | ModelCall] = {}
    for step in facts.trajectory.steps:
        key = _request(facts, step)
        if key is None or not isinstance(step, ToolCall | ModelCall):
            continue
        earlier = first.get(key)
        if step.error_type is None or step.run_state is not None:
            first.pop(key, None)
        elif earlier is not None and _is_same_failure(facts, step, earlier):
            yield step, earlier
        else:
            first[key] = step


def _request(facts: Facts, step: Step) -> tuple[object, ...] | None:
    """What was asked of whom; `None` when unknown, or when it was not asked anew."""
    if isinstance(step, ToolCall):
        if step.error_type == _UNKNOWN_TOOL and not step.is_replay:
            return step.tool, _UNKNOWN_TOOL  # whatever the arguments, of which spans say nothing then
        known = step.arguments_hash is not None and not step.is_replay and step.answered_by is None
        return (step.tool, step.arguments_hash) if known else None
    if isinstance(step, ModelCall) and not step.is_replay:
        context = facts.carriage.contexts.get(step.span_id)
        node = None if context is None or not step.context else context.node
        return None if node is None else (node, step.provider, step.request_model or step.model, step.max_tokens)
    return None


def _is_same_failure(facts: Facts, call: ToolCall | ModelCall, earlier: ToolCall | ModelCall) -> bool:
    if call.error_type != earlier.error_type:
        return False
    if isinstance(call, ModelCall) or isinstance(earlier, ModelCall):
        return True
    # Two messages of one class may be two errors.
    is_other = None not in (call.result_hash, earlier.result_hash) and call.result_hash != earlier.result_hash
    return not is_other and not facts.completed_writes.any_between(earlier, call)


def _tier(error_type: str | None) -> Tier:
    if is_deterministic(error_type):
        return Tier.A
    return Tier.C if is_transient(error_type) else Tier.B


def _is_billed(call: ModelCall) -> bool:
    """Whether anything is known to have been billed."""
    usage = call.usage
    if usage is None:
        return False
    known = usage.fresh_input_tokens, usage.cache_write_tokens, usage.cache_read_tokens
    return any((*known, usage.visible_output_tokens, usage.reasoning_tokens))

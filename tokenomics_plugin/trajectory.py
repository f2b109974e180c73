"""One task's work in one trace, as everything that judges spend reads it: model calls, tool calls and plans in order.

A store has spans. What agents, nodes and branches did is in the calls below them, so a trajectory keeps the calls
and writes on each what it was part of. Contexts are resolved here once, and blocks that a later call carries again
are the same objects: a conversation of a hundred turns costs its blocks, and a pointer for each time one is carried.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from tokenomics_plugin import semconv
from tokenomics_plugin.context_blocks import Context
from tokenomics_plugin.outcome import Outcome
from tokenomics_plugin.usage import TokenUsage

__all__ = [
    "UNDECLARED",
    "UNNAMED_ERROR",
    "ModelCall",
    "PlanRevision",
    "SideEffect",
    "SideEffects",
    "Step",
    "ToolCall",
    "Trajectory",
]

UNNAMED_ERROR: Final = "_OTHER"
"""Error type of what failed without saying how (OpenTelemetry's `error.type`)."""


class SideEffect(StrEnum):
    """What running a tool does to the world."""

    NONE = "none"
    """Nothing, and its result depends on its arguments only."""
    READ = "read"
    """Reads what a write may have changed."""
    WRITE = "write"
    """Changes something."""
    UNKNOWN = "unknown"
    """Nobody declared it; counts as a write."""

    @property
    def may_write(self) -> bool:
        """Whether what was read before may be different after it."""
        return self in (SideEffect.WRITE, SideEffect.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class SideEffects:
    """What a program's tools do, declared by patterns of their names (`get_*`); case matters."""

    read: AbstractSet[str] = frozenset()
    """Tools that only read."""
    write: AbstractSet[str] = frozenset()
    """Tools that change something; a name that is also in another set counts as this."""
    none: AbstractSet[str] = frozenset()
    """Tools that do neither, such as a calculator."""

    def __post_init__(self) -> None:
        for name in ("read", "write", "none"):
            patterns = getattr(self, name)
            if isinstance(patterns, str):
                raise ValueError(f"{name} must be a set of patterns, got the text {patterns!r}; write {{{patterns!r}}}")
            object.__setattr__(self, name, frozenset(patterns))

    def of(self, tool: str | None) -> SideEffect:
        """What that tool does; `UNKNOWN` when no pattern is about it."""
        return SideEffect.UNKNOWN if tool is None else _side_effect(self, tool)

    @property
    def harmless(self) -> tuple[str, ...]:
        """The patterns of tools that change nothing, in order."""
        return tuple(sorted(self.read | self.none))


UNDECLARED: Final = SideEffects()
"""Nothing is known of any tool: each may write."""


@lru_cache(maxsize=4096)
def _side_effect(declared: SideEffects, tool: str) -> SideEffect:
    # The worse one counts where several match: taking a write for a read would call a needed re-read a duplicate.
    for effect in (SideEffect.WRITE, SideEffect.READ, SideEffect.NONE):
        patterns: AbstractSet[str] = getattr(declared, effect.value)
        if any(fnmatchcase(tool, pattern) for pattern in patterns):
            return effect
    return SideEffect.UNKNOWN


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCall:
    """One request to a model: what the provider bills. Also what `PriceBook` prices."""

    span_id: str
    """16 hex digits."""
    parent_span_id: str | None = None
    """16 hex digits; `None` for a root."""
    agent: str | None = None
    """Agent that made it; `None` outside any named agent."""
    operation: str = semconv.OPERATION_CHAT
    """`gen_ai.operation.name`: chat, text_completion, embeddings…"""
    provider: str | None = None
    """`gen_ai.provider.name`."""
    model: str | None = None
    """The model that answered, else the one that was asked for."""
    request_model: str | None = None
    """`gen_ai.request.model`."""
    started_unix_nano: int = 0
    """Nanoseconds since the epoch."""
    ended_unix_nano: int | None = None
    """Nanoseconds since the epoch; `None` when the sender's clock stepped back in between."""
    usage: TokenUsage | None = None
    """Tokens in disjoint classes; `None` when nothing was reported."""
    reported_cost_usd: Decimal | None = None
    """What it cost as its log says; `None` when it does not."""
    is_usage_estimated: bool = False
    """Whether the count of output tokens is an estimate."""
    context: Context | None = None
    """What it carried, in order; `None` when unknown, and a block is `None` when that one is."""
    answer_hash: str | None = None
    """Fingerprint of the answer: the hash of the block that later calls carry it as."""
    finish_reasons: tuple[str, ...] = ()
    """`gen_ai.response.finish_reasons`; empty when unknown."""
    temperature: float | None = None
    """`gen_ai.request.temperature`; `None` when the request named none."""
    max_tokens: int | None = None
    """`gen_ai.request.max_tokens`; `None` when the request named none."""
    error_type: str | None = None
    """`error.type`, `UNNAMED_ERROR` when it failed without one; `None` when it did not fail."""
    run_state: str | None = None
    """How it ended when it neither completed nor failed: abandoned, cancelled, interrupted…; `None` otherwise."""
    enclosing_run_state: str | None = None
    """The same of the innermost span around it that has one: its agent, node or branch was abandoned, say."""
    is_cache_hit: bool = False
    """Whether the framework's own cache answered, so that no model ran."""
    is_replay: bool = False
    """Whether it had run before the interrupt that this run goes on from."""
    operation_id: str | None = None
    """The same on all attempts of one operation; `None`: nothing is said of attempts."""
    attempt_number: int | None = None
    """1, 2, 3…; `None`: nothing is said of attempts."""
    attempt_kind: str | None = None
    """What tried again: with_retry, fallback, structured_output_repair…; `None` for a first attempt."""
    superseded_by: str | None = None
    """Span id of the attempt that replaced this one."""
    step_kind: str | None = None
    """plan, act, observe, reflect, verify or answer."""
    step_id: str | None = None
    """Fingerprint of the plan's step that it carries out."""
    node: str | None = None
    """Innermost node of a graph that it ran in."""
    tool: str | None = None
    """Innermost tool that it ran in; `None` outside any."""

    @property
    def response_model(self) -> str | None:
        """The model whose price counts first."""
        return self.model

    @property
    def start_unix_nano(self) -> int:
        """When the price counts, nanoseconds since the epoch."""
        return self.started_unix_nano

    @property
    def duration_nano(self) -> int | None:
        """How long it took; `None` when unknown."""
        return None if self.ended_unix_nano is None else self.ended_unix_nano - self.started_unix_nano


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """One execution of a tool."""

    span_id: str
    """16 hex digits."""
    parent_span_id: str | None = None
    """16 hex digits; `None` for a root."""
    agent: str | None = None
    """Agent that ran it; `None` outside any named agent."""
    tool: str | None = None
    """`gen_ai.tool.name`."""
    call_id: str | None = None
    """`gen_ai.tool.call.id`."""
    started_unix_nano: int = 0
    """Nanoseconds since the epoch."""
    ended_unix_nano: int | None = None
    """Nanoseconds since the epoch; `None` when the sender's clock stepped back in between."""
    arguments_hash: str | None = None
    """Fingerprint of the arguments."""
    result_hash: str | None = None
    """Fingerprint of the result: the hash of the block that later calls carry it as."""
    error_type: str | None = None
    """`error.type`, `UNNAMED_ERROR` when it failed without one; `None` when it did not fail."""
    side_effect: SideEffect = SideEffect.UNKNOWN
    """What it does to the world, as declared."""
    run_state: str | None = None
    """How it ended when it neither completed nor failed; `None` otherwise."""
    enclosing_run_state: str | None = None
    """The same of the innermost span around it that has one."""
    is_replay: bool = False
    """Whether it had run before the interrupt that this run goes on from."""
    operation_id: str | None = None
    """The same on all attempts of one operation; `None`: nothing is said of attempts."""
    attempt_number: int | None = None
    """1, 2, 3…; `None`: nothing is said of attempts."""
    attempt_kind: str | None = None
    """What tried again: tool_retry…; `None` for a first attempt."""
    superseded_by: str | None = None
    """Span id of the attempt that replaced this one."""
    answered_by: str | None = None
    """`middleware`, `policy` or `memory` when that answered in its place and the tool did not run."""
    loop_kind: str | None = None
    """revisit or alternation; `None` for what repeats nothing, or was not watched."""
    loop_repeats: int | None = None
    """1 for the first repeat, 2…"""
    loop_first: str | None = None
    """Span id of what it repeats."""
    step_kind: str | None = None
    """plan, act, observe, reflect, verify or answer."""
    step_id: str | None = None
    """Fingerprint of the plan's step that it carries out."""
    node: str | None = None
    """Innermost node of a graph that it ran in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRevision:
    """A plan that was made, or revised."""

    span_id: str
    """16 hex digits."""
    parent_span_id: str | None = None
    """16 hex digits; `None` for a root."""
    agent: str | None = None
    """Agent whose plan it is; `None` outside any named agent."""
    started_unix_nano: int = 0
    """Nanoseconds since the epoch."""
    ended_unix_nano: int | None = None
    """Nanoseconds since the epoch; `None` when the sender's clock stepped back in between."""
    plan_id: str | None = None
    """Span id of the plan's first version."""
    revision: int = 0
    """0 for the first version."""
    steps: tuple[str, ...] | None = None
    """Fingerprints of its steps; `None` when unknown."""
    statuses: tuple[str, ...] | None = None
    """pending, in_progress or completed, step by step; `None` when unknown."""
    steps_added: int | None = None
    """Steps that this revision added."""
    steps_removed: int | None = None
    """Steps that it dropped."""
    steps_completed: int | None = None
    """Steps that it found done."""
    node: str | None = None
    """Innermost node of a graph that it was made in."""


Step = ModelCall | ToolCall | PlanRevision


@dataclass(frozen=True, kw_only=True, slots=True)
class Trajectory:
    """What was done for one task in one trace. A trace of several tasks is several of these."""

    trace_id: str
    """32 hex digits."""
    task_id: str | None = None
    """Business task; `None` when neither a span nor an outcome names one."""
    group: str | None = None
    """Cluster of tasks that are alike."""
    outcome: Outcome | None = None
    """The judgement that counts; `None` when nobody judged. Another trace of the task has the same one."""
    steps: tuple[Step, ...] = ()
    """In order of start; ties by end, then by span id."""
    agents: tuple[str, ...] = ()
    """Names of the agents that took part, in order of their first span."""
    model_calls: tuple[ModelCall, ...] = field(init=False)
    """The model calls among the steps."""
    tool_calls: tuple[ToolCall, ...] = field(init=False)
    """The tool calls among the steps."""

    def __post_init__(self) -> None:
        calls = tuple(step for step in self.steps if isinstance(step, ModelCall))
        object.__setattr__(self, "model_calls", calls)
        object.__setattr__(self, "tool_calls", tuple(step for step in self.steps if isinstance(step, ToolCall)))

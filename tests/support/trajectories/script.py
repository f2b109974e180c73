"""An agent's run written down turn by turn, with a clock, and a cache that serves all that it could."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from tokenomics_plugin.context_blocks import ContextBlock
from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.trajectory import ModelCall, PlanRevision, SideEffect, Step, ToolCall, Trajectory
from tokenomics_plugin.usage import TokenUsage

__all__ = ["Script", "fingerprint"]

_MS = 10**6
_AGENT = "f" * 16


def fingerprint(text: str) -> str:
    """What a keyed fingerprint of a text looks like."""
    return f"0badc0de:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class Script:
    """One agent's conversation. Every call takes 100 ms and the next one starts 10 ms later, unless told otherwise."""

    def __init__(self, *, agent: str = "agent", system: str = "You help.", user: str = "Do it.") -> None:
        self.steps: list[Step] = []
        self.conversation = [self.block("system", system, tokens=5_000), self.block("user", user)]
        self.agent = agent
        self.now = 1_000_000 * _MS
        self._spans = 0
        self._prompts: list[list[str]] = []

    def block(self, role: str, text: str, *, tokens: int = 200, producer: str | None = None) -> ContextBlock:
        """A block of context; texts of one role that are equal have one hash."""
        return ContextBlock(
            hash=fingerprint(f"{role}:{text}"), role=role, size=4 * tokens, tokens=tokens, producer=producer
        )

    def says(self, role: str, text: str) -> None:
        """Add something from outside to the conversation."""
        self.conversation.append(self.block(role, text))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += int(seconds * 1_000) * _MS

    def model(
        self,
        answer: str,
        *,
        keep: bool = True,
        context: Sequence[ContextBlock] | None = None,
        cached: int | None = None,
        lasts_ms: int = 100,
        waits: bool = True,
        **said: Any,
    ) -> ModelCall:
        """Call the model.

        Args:
            answer: Its answer.
            keep: Whether the conversation goes on with it.
            context: What it is sent, if not the conversation.
            cached: Input tokens from the cache, if not all of the longest beginning that was sent before.
            lasts_ms: Milliseconds.
            waits: Whether the next step begins after it, and not beside it.
            **said: Other fields of the call.
        """
        blocks = tuple(self.conversation if context is None else context)
        span_id, start = self._span(), self.now
        block = self.block("assistant", answer, producer=span_id)
        fields: dict[str, Any] = {
            "span_id": span_id,
            "parent_span_id": _AGENT,
            "agent": self.agent,
            "provider": "anthropic",
            "model": "claude-x",
            "started_unix_nano": start,
            "ended_unix_nano": start + lasts_ms * _MS,
            "usage": self._usage(blocks, cached),
            "context": blocks,
            "answer_hash": block.hash,
            "step_kind": "act",
        }
        call = ModelCall(**fields | said)
        self._add(call, waits)
        if keep:
            self.conversation.append(block)
        return call

    def tool(
        self,
        name: str,
        arguments: str,
        result: str,
        *,
        effect: SideEffect = SideEffect.READ,
        keep: bool = True,
        lasts_ms: int = 100,
        waits: bool = True,
        **said: Any,
    ) -> ToolCall:
        """Run a tool that the last answer asked for."""
        span_id, start = self._span(), self.now
        block = self.block("tool", result, producer=span_id)
        fields: dict[str, Any] = {
            "span_id": span_id,
            "parent_span_id": _AGENT,
            "agent": self.agent,
            "tool": name,
            "started_unix_nano": start,
            "ended_unix_nano": start + lasts_ms * _MS,
            "arguments_hash": fingerprint(arguments),
            "result_hash": block.hash,
            "side_effect": effect,
            "step_kind": "act",
        }
        call = ToolCall(**fields | said)
        self._add(call, waits)
        if keep:
            self.conversation.append(block)
        return call

    def turn(self, name: str, arguments: str, result: str, **said: Any) -> tuple[ModelCall, ToolCall]:
        """Let the model ask for one tool, and run it."""
        asker = self.model(f"Call {name} for the {len(self.steps)}th time: {arguments}")
        return asker, self.tool(name, arguments, result, **said)

    def plan(self, steps: Sequence[str] | None, **said: Any) -> PlanRevision:
        """Write the plan anew."""
        fields: dict[str, Any] = {
            "span_id": self._span(),
            "agent": self.agent,
            "started_unix_nano": self.now,
            "ended_unix_nano": self.now + _MS,
            "plan_id": "a" * 16,
            "steps": None if steps is None else tuple(map(fingerprint, steps)),
        }
        revision = PlanRevision(**fields | said)
        self._add(revision, True)
        return revision

    def revise(self, call: ModelCall | ToolCall, **said: Any) -> None:
        """Say more about a call that is written down already."""
        fields = {name: getattr(call, name) for name in type(call).__dataclass_fields__}
        self.steps[[step.span_id for step in self.steps].index(call.span_id)] = type(call)(**fields | said)

    def trajectory(self, status: OutcomeStatus | None = None) -> Trajectory:
        """All of it, with an outcome when one is given."""
        return Trajectory(
            trace_id="1" * 32,
            task_id="task",
            outcome=None if status is None else Outcome(task_id="task", status=status, observed_time_unix_nano=0),
            steps=tuple(sorted(self.steps, key=lambda step: (step.started_unix_nano, step.span_id))),
            agents=(self.agent,),
        )

    def _span(self) -> str:
        self._spans += 1
        return f"{self._spans:016x}"

    def _add(self, step: Step, waits: bool) -> None:
        self.steps.append(step)
        self.now = 10 * _MS + ((step.ended_unix_nano or self.now) if waits else self.now)

    def _usage(self, blocks: Sequence[ContextBlock], cached: int | None) -> TokenUsage:
        hashes = [block.hash for block in blocks]
        known = max((_common(hashes, prompt) for prompt in self._prompts[-8:]), default=0)
        self._prompts.append(hashes)
        total = sum(block.tokens or 0 for block in blocks)
        return TokenUsage.from_inclusive(
            input_tokens=total,
            output_tokens=200,
            cache_read_tokens=sum(block.tokens or 0 for block in blocks[:known]) if cached is None else cached,
        )


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, its) in pairs if mine != its), min(len(one), len(other)))

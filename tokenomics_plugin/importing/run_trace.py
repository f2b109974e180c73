"""The spans of one run of a chat log.

A log holds a conversation once, while each model call was sent all that came before it. So every assistant message
becomes a call that names the call before it and lists only what is new: bytes grow with the conversation and not
with its square. Ids are derived from what the run says, apart from its outcome: importing a file again adds nothing,
and a revised outcome revises. They are no keyed hashes, because they must be the same in every process: who guesses
a whole conversation, its task and its times to the letter can check the guess.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tokenomics_plugin import semconv
from tokenomics_plugin.context_blocks import ContextBlock, ContextDelta
from tokenomics_plugin.fingerprint import FingerprintKeys
from tokenomics_plugin.importing.blocks import ToolCall, arguments_fingerprint, message_block
from tokenomics_plugin.importing.chat_log import ChatRun, Message
from tokenomics_plugin.importing.clock import Clock
from tokenomics_plugin.importing.otlp import TOOL_ERROR, Attribute, derived_id, encodable, key_values, money
from tokenomics_plugin.outcome import Outcome

__all__ = ["RunTrace"]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A tool call that waits for its answer."""

    call: ToolCall
    at: int
    """When it was asked for."""
    is_synthesized: bool
    """Whether that time is ours."""


class RunTrace:
    """The trace of one run; its spans are made once, in their order.

    Args:
        run: The run.
        keys: Keys of the fingerprints; the run has that of the period in which it started.
        notes: Counts what a reader of the log should know.
    """

    def __init__(self, run: ChatRun, keys: FingerprintKeys, notes: Counter[str]) -> None:
        self.trace_id = derived_id(16, *_identity(run))
        self._run = run
        self._clock = Clock.at_start(run.started, run.messages)
        self._fingerprinter = keys.current(self._clock.now)
        self._notes = notes
        self.root_id = derived_id(8, self.trace_id, "run")
        self._task: dict[str, Attribute | None] = {semconv.TASK_ID: run.task_id, semconv.TASK_GROUP: run.group}
        self._waiting: deque[_Asked] = deque()
        self._new: list[ContextBlock] = []
        self._previous: str | None = None
        self._carried = 0

    def spans(self) -> Iterator[Span]:
        """Model calls and tools in the order of the log, and last the run around them."""
        started, is_undated = self._clock.now, self._clock.is_synthesized
        if self._run.tools:
            definitions = json.dumps(self._run.tools, ensure_ascii=False, sort_keys=True)
            self._new.append(message_block(self._fingerprinter, "tool definitions", definitions))
        for index, message in enumerate(self._run.messages):
            match message.role:
                case "assistant":
                    yield self._call(index, message)
                case "tool" | "function":
                    yield self._tool(index, message)
                case _:
                    self._clock.observe(message.timestamp)
                    self._new.append(message_block(self._fingerprinter, message.role, message.content))
        for number, asked in enumerate(self._waiting):
            yield self._unanswered(number, asked)
        yield self._root(started, is_undated)

    def outcome(self) -> Outcome | None:
        """What became of the run, dated at its end when the log gives no time; call it after `spans`."""
        return self._run.judged(observed=self._clock.now, trace_id=self.trace_id.hex())

    def _call(self, index: int, message: Message) -> Span:
        started = self._clock.now
        is_synthesized = self._clock.advance(message.timestamp)
        span_id = derived_id(8, self.trace_id, "call", str(index))
        self._note_usage(message)
        context = self._context(span_id.hex())
        block = message_block(
            self._fingerprinter,
            message.role,
            message.content,
            message.calls,
            tokens=None if message.usage is None else message.usage.output_tokens,
            producer=span_id.hex(),
        )
        self._new.append(block)
        self._waiting.extend(_Asked(call, self._clock.now, self._clock.is_synthesized) for call in message.calls)
        attributes = self._of_call(message) | context.to_attributes() | {semconv.RESULT_FINGERPRINT: block.hash}
        name = " ".join(filter(None, (semconv.OPERATION_CHAT, message.model or self._run.model)))
        kind = Span.SPAN_KIND_CLIENT
        return self._span(name, span_id, started, self._clock.now, attributes, is_synthesized, kind=kind)

    def _of_call(self, message: Message) -> dict[str, Attribute | None]:
        return {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_CHAT,
            semconv.GEN_AI_PROVIDER_NAME: self._run.provider,
            semconv.GEN_AI_REQUEST_MODEL: self._run.model or message.model,
            semconv.GEN_AI_RESPONSE_MODEL: message.model,
            semconv.GEN_AI_RESPONSE_ID: message.response_id,
            semconv.GEN_AI_RESPONSE_FINISH_REASONS: _listed(message.finish_reason),
            semconv.USAGE_COST: money(message.cost),
            **({} if message.usage is None else message.usage.to_attributes()),
        }

    def _tool(self, index: int, message: Message) -> Span:
        asked = self._asked_by(message)
        self._clock.advance(message.timestamp)
        span_id = derived_id(8, self.trace_id, "tool", str(index))
        block = message_block(self._fingerprinter, message.role, message.content, producer=span_id.hex())
        self._new.append(block)
        call = ToolCall(id=message.answers, name=message.tool or "", arguments=None) if asked is None else asked.call
        attributes = self._of_tool(call, is_known=asked is not None)
        attributes[semconv.RESULT_FINGERPRINT] = block.hash
        attributes[semconv.ERROR_TYPE] = TOOL_ERROR if message.is_error else None
        if asked is None:
            self._notes["tool results that answer no call: their arguments are unknown"] += 1
        started = self._clock.now if asked is None else asked.at
        is_synthesized = asked is None or asked.is_synthesized or self._clock.is_synthesized
        return self._span(
            _tool_name(call), span_id, started, self._clock.now, attributes, is_synthesized, is_error=message.is_error
        )

    def _asked_by(self, message: Message) -> _Asked | None:
        """The call that a tool message answers; without an id the oldest one, for that is how tools are run."""
        for asked in self._waiting:
            if message.answers is None or asked.call.id == message.answers:
                self._waiting.remove(asked)
                return asked
        return None

    def _unanswered(self, number: int, asked: _Asked) -> Span:
        self._notes["tool calls without a result: marked abandoned"] += 1
        span_id = derived_id(8, self.trace_id, "unanswered", str(number))
        attributes = self._of_tool(asked.call, is_known=True)
        attributes[semconv.RUN_STATE] = "abandoned"
        return self._span(_tool_name(asked.call), span_id, asked.at, asked.at, attributes, is_synthesized=True)

    def _of_tool(self, call: ToolCall, *, is_known: bool) -> dict[str, Attribute | None]:
        return {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_EXECUTE_TOOL,
            semconv.GEN_AI_TOOL_NAME: call.name or None,
            semconv.GEN_AI_TOOL_CALL_ID: call.id,
            semconv.ARGUMENTS_FINGERPRINT: (
                arguments_fingerprint(self._fingerprinter, call.arguments) if is_known else None
            ),
        }

    def _root(self, started: int, is_undated: bool) -> Span:
        self._clock.observe(self._run.ended)
        attributes: dict[str, Attribute | None] = {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_INVOKE_AGENT,
            semconv.GEN_AI_AGENT_NAME: self._run.agent,
            semconv.GEN_AI_PROVIDER_NAME: self._run.provider,
            semconv.GEN_AI_REQUEST_MODEL: self._run.model,
            semconv.RUN_COST: money(self._run.cost),
        }
        name = " ".join(filter(None, (semconv.OPERATION_INVOKE_AGENT, self._run.agent)))
        is_synthesized = is_undated or self._clock.is_synthesized
        return self._span(name, self.root_id, started, self._clock.now, attributes, is_synthesized)

    def _span(
        self,
        name: str,
        span_id: bytes,
        start: int,
        end: int,
        attributes: dict[str, Attribute | None],
        is_synthesized: bool,
        *,
        kind: Any = Span.SPAN_KIND_INTERNAL,
        is_error: bool = False,
    ) -> Span:
        if is_synthesized:
            attributes[semconv.TIME_SYNTHESIZED] = True
        return Span(
            trace_id=self.trace_id,
            span_id=span_id,
            parent_span_id=b"" if span_id == self.root_id else self.root_id,
            name=encodable(name),
            kind=kind,
            start_time_unix_nano=start,
            end_time_unix_nano=end,
            attributes=key_values(attributes | self._task),
            status=Status(code=Status.STATUS_CODE_ERROR) if is_error else None,
        )

    def _context(self, span_id: str) -> ContextDelta:
        """What the call carried: all that the one before it did, its answer, and what came since."""
        delta = ContextDelta(
            previous=self._previous if self._carried else None, kept=self._carried, entries=tuple(self._new)
        )
        self._carried += len(self._new)
        self._previous, self._new = span_id, []
        return delta

    def _note_usage(self, message: Message) -> None:
        if message.usage is None:
            self._notes["model calls without token counts: unknown, not 0"] += 1
        elif not message.usage.is_consistent:
            self._notes["model calls whose token counts contradict each other"] += 1


def _identity(run: ChatRun) -> Iterator[str]:
    """What makes a run the run that it is: all but its outcome, and what was only counted."""
    yield from (run.task_id, run.group or "", run.agent or "", run.provider or "", run.model or "", str(run.started))
    for message in run.messages:
        asked = [[call.id, call.name, call.arguments] for call in message.calls]
        yield json.dumps([message.role, message.content, message.answers, message.tool, message.timestamp, asked])


def _listed(reason: str | None) -> tuple[str, ...] | None:
    return None if reason is None else (reason,)


def _tool_name(call: ToolCall) -> str:
    return f"{semconv.OPERATION_EXECUTE_TOOL} {call.name}".strip()

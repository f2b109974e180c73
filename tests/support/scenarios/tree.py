"""Spans as a tree that a person can write and read: one line a span.

    invoke_agent clerk
      chat toy !Unavailable [superseded]
      chat toy [attempt 2 model_retry]
      execute_tool look_up [interrupted] #1

Below its parent, indented, a span stands with its name; `!` and the type of its error, if its status is ERROR; facts
in brackets; and links by kind to other lines, which carry a number for it. Traces stand in the order of their start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from tokenomics_plugin import semconv

__all__ = ["draw", "span_id"]

Attributes = Mapping[str, Any]
_Fact = Callable[[Attributes, ReadableSpan], str | None]


def _state(attributes: Attributes, span: ReadableSpan) -> str | None:
    state = attributes.get(semconv.RUN_STATE)
    target = _of_event(span, semconv.EVENT_HAND_OFF, semconv.HAND_OFF_TO)
    return f"{state} to {target}" if state and target else state


def _interrupts(_: Attributes, span: ReadableSpan) -> str | None:
    number = _of_event(span, semconv.EVENT_INTERRUPT, semconv.INTERRUPT_COUNT)
    return f"{number} interrupts" if number is not None and number != 1 else None


def _attempt(attributes: Attributes, _: ReadableSpan) -> str | None:
    number = attributes.get(semconv.ATTEMPT_NUMBER, 1)
    return f"attempt {number} {attributes.get(semconv.ATTEMPT_KIND)}" if number > 1 else None


def _loop(attributes: Attributes, _: ReadableSpan) -> str | None:
    if (kind := attributes.get(semconv.LOOP_KIND)) is None:
        return None
    period = attributes.get(semconv.LOOP_PERIOD)
    return f"loop {kind} {attributes.get(semconv.LOOP_REPEATS)}" + (f" of {period}" if period else "")


def _usage(attributes: Attributes, _: ReadableSpan) -> str | None:
    given, answered = (
        attributes.get(name) for name in (semconv.GEN_AI_USAGE_INPUT_TOKENS, semconv.GEN_AI_USAGE_OUTPUT_TOKENS)
    )
    if (unknown := attributes.get(semconv.USAGE_UNKNOWN_CALLS)) is not None:
        return f"{unknown} of unknown usage"
    numbers = [f"in {given}"] * (given is not None) + [f"out {answered}"] * (answered is not None)
    return " ".join(numbers) or None


def _plan(attributes: Attributes, _: ReadableSpan) -> str | None:
    if (revision := attributes.get(semconv.PLAN_REVISION)) is None:
        return None
    changes = (semconv.PLAN_STEPS_ADDED, semconv.PLAN_STEPS_REMOVED, semconv.PLAN_STEPS_COMPLETED)
    added, removed, completed = (attributes.get(name) for name in changes)
    return f"revision {revision}: {added} added, {removed} removed, {completed} completed"


def _statuses(attributes: Attributes, _: ReadableSpan) -> str | None:
    statuses = attributes.get(semconv.PLAN_STEP_STATUSES)
    return None if statuses is None else " ".join(statuses)


def _step_kind(attributes: Attributes, _: ReadableSpan) -> str | None:
    kind = attributes.get(semconv.STEP_KIND)
    return None if kind is None else f"{kind}, {attributes.get(semconv.STEP_KIND_SOURCE)}"


def _flag(name: str, text: str) -> _Fact:
    return lambda attributes, _: text if name in attributes else None


def _value(name: str, text: str) -> _Fact:
    return lambda attributes, _: text.format(attributes[name]) if name in attributes else None


_ALWAYS: Final[Mapping[str, _Fact]] = {
    "attempt": _attempt,
    "superseded": _flag(semconv.ATTEMPT_SUPERSEDED_BY, "superseded"),
    "state": _state,
    "interrupts": _interrupts,
    "replay": _flag(semconv.REPLAY, "replay"),
    "cache": _flag(semconv.CACHE_HIT, "cache hit"),
    "estimated": _flag(semconv.USAGE_ESTIMATED, "estimated"),
    "answered": _value(semconv.ANSWERED_BY, "by {}"),
    "loop": _loop,
    "plan": _plan,
}
_ON_DEMAND: Final[Mapping[str, _Fact]] = {
    "agent": _value(semconv.GEN_AI_AGENT_NAME, "agent {}"),
    "conversation": _value(semconv.GEN_AI_CONVERSATION_ID, "conversation {}"),
    "stream": _flag(semconv.GEN_AI_REQUEST_STREAM, "streamed"),
    "first chunk": _flag(semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, "first chunk timed"),
    "step kind": _step_kind,
    "statuses": _statuses,
    "usage": _usage,
}
# Attempts say by their numbers what they follow.
_LINKS: Final = (
    semconv.LINK_RESUMES,
    semconv.LINK_REPLAYS,
    semconv.LINK_TAKES_OVER,
    semconv.LINK_REPEATS,
    semconv.LINK_CARRIED_OUT_BY,
)


def draw(
    spans: Sequence[ReadableSpan], *, shows: frozenset[str] = frozenset(), in_any_order: tuple[str, ...] = ()
) -> str:
    """Draw spans, which are given in the order of their start.

    Args:
        spans: All spans of a program.
        shows: The facts to draw beside those that always are: `agent`, `conversation`, `first chunk`, `statuses` of a
            plan's steps, `step` that is carried out, `step kind`, `stream`, `usage`.
        in_any_order: What the names of spans begin with that run in parallel. Where they stand next to each other, they
            are sorted by how they are drawn.
    """
    return "\n".join(_Drawing(spans, shows, in_any_order).lines())


@dataclass(eq=False)
class _Line:
    """A span, and those below it."""

    span: ReadableSpan
    text: str
    links: Sequence[tuple[str, int]]
    below: list[_Line] = field(default_factory=list)
    number: int | None = None

    def walk(self, depth: int = 0) -> Iterator[tuple[int, _Line]]:
        yield depth, self
        for line in self.below:
            yield from line.walk(depth + 1)

    def shape(self) -> str:
        return "\n".join(f"{depth}{line.text}{[kind for kind, _ in line.links]}" for depth, line in self.walk())


class _Drawing:
    def __init__(self, spans: Sequence[ReadableSpan], shows: frozenset[str], in_any_order: tuple[str, ...]) -> None:
        self._known = frozenset(map(span_id, spans))
        self._facts = [*_ALWAYS.values(), *(_ON_DEMAND[name] for name in sorted(shows - {"step"}))]
        self._steps = _steps_of(spans) if "step" in shows else {}
        self._lines = {span_id(span): self._line(span) for span in spans}
        self._roots: list[_Line] = []
        for line in self._lines.values():
            parent = line.span.parent and self._lines.get(line.span.parent.span_id)
            (self._roots if parent is None else parent.below).append(line)
        self._in_any_order = in_any_order
        self._sort(self._roots)
        self._number()

    def lines(self) -> Iterator[str]:
        for root in self._roots:
            for depth, line in root.walk():
                yield "  " * depth + line.text + self._references(line)

    def _line(self, span: ReadableSpan) -> _Line:
        attributes = span.attributes or {}
        error = "" if span.status.is_unset else f" !{attributes.get(semconv.ERROR_TYPE, '?')}"
        orphan = " [orphan]" if span.parent is not None and span.parent.span_id not in self._known else ""
        facts = [fact(attributes, span) for fact in self._facts] + [self._step(attributes)]
        brackets = "".join(f" [{fact}]" for fact in facts if fact)
        return _Line(span, span.name + error + orphan + brackets, list(_links(span)))

    def _step(self, attributes: Attributes) -> str | None:
        step = self._steps.get(attributes.get(semconv.PLAN_STEP_ID, ""))
        return None if step is None else f"step {step}"

    def _sort(self, lines: list[_Line]) -> None:
        for line in lines:
            self._sort(line.below)
        groups = groupby(list(lines), lambda line: line.text.startswith(self._in_any_order))
        lines[:] = [
            line for parallel, group in groups for line in (sorted(group, key=_Line.shape) if parallel else group)
        ]

    def _number(self) -> None:
        targets = {target for line in self._lines.values() for _, target in line.links}
        numbers = count(1)
        for root in self._roots:
            for _, line in root.walk():
                if span_id(line.span) in targets:
                    line.number = next(numbers)

    def _references(self, line: _Line) -> str:
        own = "" if line.number is None else f" #{line.number}"
        return own + "".join(f" -> {kind} {self._name(target)}" for kind, target in line.links)

    def _name(self, target: int) -> str:
        line = self._lines.get(target)
        return "elsewhere" if line is None else f"#{line.number}"


def _steps_of(spans: Sequence[ReadableSpan]) -> dict[str, int]:
    """The steps of all plans, numbered as they come up."""
    listed = [step for span in spans for step in _strings(span, semconv.PLAN_STEPS)]
    return {step: number for number, step in enumerate(dict.fromkeys(listed), 1)}


def _strings(span: ReadableSpan, name: str) -> Sequence[str]:
    value = (span.attributes or {}).get(name, ())
    return [str(item) for item in value] if isinstance(value, Sequence) else []


def _links(span: ReadableSpan) -> Iterator[tuple[str, int]]:
    for link in span.links:
        if (kind := (link.attributes or {}).get(semconv.LINK_KIND)) in _LINKS:
            yield str(kind), link.context.span_id


def _of_event(span: ReadableSpan, event: str, name: str) -> Any:
    told = [happened.attributes or {} for happened in span.events if happened.name == event]
    return told[-1].get(name) if told else None


def span_id(span: ReadableSpan) -> int:
    """The id of a span that ended, and so has one."""
    context = span.get_span_context()
    assert context is not None
    return context.span_id

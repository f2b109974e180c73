"""What holds for every traced run, whatever its program.

Each rule says what is wrong with a recording, in sentences; nothing, when it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.metrics.export import Metric, MetricsData, Sum
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import format_span_id

from conventions import Level, violations_of_log, violations_of_metric, violations_of_span
from scenarios.models import SECRET
from scenarios.recording import Recording
from scenarios.scenario import Scenario
from scenarios.stage import THREAD
from scenarios.tree import span_id
from tokenomics_plugin import semconv

__all__ = ["broken_rules"]

OURS: Final = "tokenomics_langchain"
# The application's spans take their times from another clock than ours, read a moment apart.
_CLOCKS_APART_NS: Final = 20_000_000
_EVENTS: Final = {
    "interrupted": semconv.EVENT_INTERRUPT,
    "handed_off": semconv.EVENT_HAND_OFF,
    "drained": semconv.EVENT_DRAIN,
}
_USAGE: Final = (semconv.GEN_AI_USAGE_INPUT_TOKENS, semconv.GEN_AI_USAGE_OUTPUT_TOKENS)
_TOTALS: Final = (
    semconv.METRIC_INFERENCE_USAGE_INPUT_TOKENS,
    semconv.METRIC_INFERENCE_USAGE_OUTPUT_TOKENS,
)

Problems = Iterator[str]


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A traced run, and what it is compared with."""

    scenario: Scenario
    """What was run."""
    recording: Recording
    """What came of it."""
    untraced: Recording
    """What came of the same program, in the same mode, without tracing."""


def broken_rules(scenario: Scenario, recording: Recording, untraced: Recording) -> list[str]:
    """Everything that is wrong with a recording, beside its tree.

    Args:
        scenario: What was run.
        recording: The traced run.
        untraced: The run of the same program, in the same mode, that nothing traced.
    """
    run = Traced(scenario=scenario, recording=recording, untraced=untraced)
    return [problem for rule in _RULES for problem in rule(run)]


def the_program_is_left_alone(run: Traced) -> Problems:
    """It returns and raises the same, and its graphs have the same nodes."""
    if run.recording.outcome != run.untraced.outcome:
        yield f"the program came to {run.recording.outcome}, where untraced it came to {run.untraced.outcome}"


def every_span_ends(run: Traced) -> Problems:
    """Spans that were started are ended, before the process ends."""
    if run.recording.started != len(run.recording.spans):
        yield f"{run.recording.started - len(run.recording.spans)} spans never ended"
    if run.recording.ended_late and not run.scenario.is_kept_open:
        yield f"{run.recording.ended_late} spans ended only with the process"


def nothing_is_left_behind(run: Traced) -> Problems:
    """The handler lets go of every run."""
    if run.recording.open_runs and not run.scenario.is_kept_open:
        yield f"{run.recording.open_runs} runs are still open"
    if run.recording.waiting_trees and not run.scenario.is_kept_open:
        yield f"{run.recording.waiting_trees} trees of runs still wait to be asked for"


def the_ambient_context_is_the_callers(run: Traced) -> Problems:
    """The caller never sees a span that is not its own."""
    yield from run.recording.leaks


def nothing_is_complained_about(run: Traced) -> Problems:
    """Nobody logs a warning who does not without the tracing."""
    yield from (complaint for complaint in run.recording.complaints if complaint not in run.untraced.complaints)


def parents_contain_children(run: Traced) -> Problems:
    """In time, and the ids are there."""
    by_id = {span_id(span): span for span in run.recording.spans}
    if len(by_id) != len(run.recording.spans):
        yield "two spans have the same id"
    for span in run.recording.spans:
        parent = by_id.get(span.parent.span_id) if span.parent else None
        if span.parent is not None and parent is None:
            yield f"the parent of {span.name!r} is missing"
        elif parent is not None and not (run.scenario.has_stragglers and not _is_ours(span)):
            yield from _out_of(parent, span)


def _out_of(parent: ReadableSpan, span: ReadableSpan) -> Problems:
    slack = 0 if _is_ours(parent) and _is_ours(span) else _CLOCKS_APART_NS
    if _start(span) < _start(parent) - slack:
        yield f"{span.name!r} starts {_start(parent) - _start(span)} ns before {parent.name!r}, which is around it"
    if _end(span) > _end(parent) + slack:
        yield f"{span.name!r} ends {_end(span) - _end(parent)} ns after {parent.name!r}, which is around it"
    if span.context is not None and parent.context is not None and span.context.trace_id != parent.context.trace_id:
        yield f"{span.name!r} is in another trace than its parent {parent.name!r}"


def errors_have_types(run: Traced) -> Problems:
    """And what has no error has none; what neither completed nor failed says how it ended, and what happened."""
    for span in filter(_is_ours, run.recording.spans):
        attributes, state = span.attributes or {}, (span.attributes or {}).get(semconv.RUN_STATE)
        if (semconv.ERROR_TYPE in attributes) == span.status.is_unset:
            kind = attributes.get(semconv.ERROR_TYPE)
            yield f"{span.name!r} has status {span.status.status_code.name} and error.type {kind}"
        if (state == "cancelled") != (attributes.get(semconv.ERROR_TYPE) == "CancelledError"):
            yield f"{span.name!r} is {state}, with error.type {attributes.get(semconv.ERROR_TYPE)}"
        told = {event.name for event in span.events if event.name in _EVENTS.values()}
        if told != ({_EVENTS[str(state)]} if state in _EVENTS else set()):
            yield f"{span.name!r} is {state}, and tells of {sorted(told)}"


def attempts_form_chains(run: Traced) -> Problems:
    """Attempts of one operation are numbered from 1; each links to the one before, which names the one after."""
    operations: dict[str, list[ReadableSpan]] = {}
    for span in filter(_is_ours, run.recording.spans):
        operation = (span.attributes or {}).get(semconv.LOGICAL_OPERATION_ID)
        if operation is not None:
            operations.setdefault(str(operation), []).append(span)
        elif _operation(span) in ("chat", "text_completion", "execute_tool") and _has_run(span):
            yield f"{span.name!r} has no operation id"
    for operation, attempts in operations.items():
        yield from _broken(operation, sorted(attempts, key=_number))


def _broken(operation: str, attempts: Sequence[ReadableSpan]) -> Problems:
    name, numbers = attempts[0].name, [_number(span) for span in attempts]
    if numbers != list(range(1, len(attempts) + 1)):
        yield f"the attempts of {name!r} are numbered {numbers}"
    if operation != _hex(attempts[0]):
        yield f"the operation of {name!r} is named after another span"
    followers: list[ReadableSpan | None] = [*attempts[1:], None]
    for before, after in zip(attempts, followers, strict=True):
        named = (before.attributes or {}).get(semconv.ATTEMPT_SUPERSEDED_BY)
        if named != (None if after is None else _hex(after)):
            yield f"attempt {_number(before)} of {name!r} names the wrong one as the next, or none"
        if after is not None and _linked(after, semconv.LINK_RETRIES) != [span_id(before)]:
            yield f"attempt {_number(after)} of {name!r} does not link to the one before"
        if after is not None and semconv.ATTEMPT_KIND not in (after.attributes or {}):
            yield f"attempt {_number(after)} of {name!r} has no kind"


def resumed_runs_name_the_same_checkpoint(run: Traced) -> Problems:
    """A resumed run and the one that it resumes."""
    by_id = {span_id(span): span for span in run.recording.spans}
    for span in run.recording.spans:
        for target in _linked(span, semconv.LINK_RESUMES):
            names = {
                (by_id[i].attributes or {}).get(semconv.CHECKPOINT_ID) for i in (span_id(span), target) if i in by_id
            }
            if None in names and len(names) == 1:
                yield f"{span.name!r} resumes a run without naming a checkpoint"
        if semconv.REPLAY in (span.attributes or {}) and not _linked(span, semconv.LINK_REPLAYS):
            yield f"{span.name!r} is a replay of nothing"


def tokens_add_up(run: Traced) -> Problems:
    """Calls say what the models reported, agents the sum of the calls below them, and counters the sum of all."""
    calls = [span for span in run.recording.spans if _operation(span) in semconv.BILLED_OPERATIONS]
    exact = [span for span in calls if semconv.USAGE_ESTIMATED not in (span.attributes or {})]
    reported = tuple(sum(usage[i] for usage in run.recording.reported) for i in (0, 1))
    if _tokens(exact) != reported:
        yield f"calls say {_tokens(exact)} tokens, the models reported {reported}"
    if (counted := _counted(run.recording.metrics)) != _tokens(calls):
        yield f"counters say {counted} tokens, calls say {_tokens(calls)}"
    for agent in (span for span in run.recording.spans if _operation(span) == semconv.OPERATION_INVOKE_AGENT):
        yield from _wrong_sum(agent, [call for call in calls if _is_below(call, agent, run.recording.spans)])


def _wrong_sum(agent: ReadableSpan, calls: Sequence[ReadableSpan]) -> Problems:
    said = tuple((agent.attributes or {}).get(name) for name in _USAGE)
    unknown = sum(_USAGE[0] not in (call.attributes or {}) for call in calls)
    right = (None, None) if unknown or not calls else _tokens(calls)
    if said != right or (agent.attributes or {}).get(semconv.USAGE_UNKNOWN_CALLS, 0) != unknown:
        yield f"{agent.name!r} says {said} tokens; its calls say {right}, and {unknown} of them say none"


def nothing_private_leaves(run: Traced) -> Problems:
    """With content off, what users, models and tools wrote is nowhere."""
    for span in filter(_is_ours, run.recording.spans):
        if SECRET in _text(span):
            yield f"{span.name!r} tells a secret: {_text(span)}"
    for log in run.recording.logs:
        if SECRET in log.to_json():
            yield f"an event tells a secret: {log.to_json()}"
    for metric in _metrics(run.recording.metrics):
        if any(SECRET in str(point.attributes) for point in metric.data.data_points):
            yield f"{metric.name!r} tells a secret"


def _text(span: ReadableSpan) -> str:
    parts: list[Any] = [span.name, span.attributes, span.status.description]
    parts += [(event.name, event.attributes) for event in span.events]
    return str(
        [dict(part) if isinstance(part, Mapping) else part for part in parts] + [link.attributes for link in span.links]
    )


def the_conventions_are_kept(run: Traced) -> Problems:
    """What they require is there, and what they forbid is not."""
    spans = list(filter(_is_ours, run.recording.spans))
    findings = [found for span in spans for found in violations_of_span(span, conversations=(THREAD,))]
    findings += [found for log in run.recording.logs for found in violations_of_log(log, spans=spans)]
    findings += [found for metric in _metrics(run.recording.metrics) for found in violations_of_metric(metric)]
    for found in findings:
        if found.level is Level.VIOLATION:
            yield f"{found.subject!r} breaks the conventions: {found.detail}"


_RULES: Final[Sequence[Callable[[Traced], Problems]]] = (
    the_program_is_left_alone,
    every_span_ends,
    nothing_is_left_behind,
    the_ambient_context_is_the_callers,
    nothing_is_complained_about,
    parents_contain_children,
    errors_have_types,
    attempts_form_chains,
    resumed_runs_name_the_same_checkpoint,
    tokens_add_up,
    nothing_private_leaves,
    the_conventions_are_kept,
)
"""All of them."""


def _is_ours(span: ReadableSpan) -> bool:
    return span.instrumentation_scope is not None and span.instrumentation_scope.name == OURS


def _operation(span: ReadableSpan) -> Any:
    return (span.attributes or {}).get(semconv.GEN_AI_OPERATION_NAME)


def _has_run(span: ReadableSpan) -> bool:
    """Whether a call was made; what answered in its place, or asked for what is not there, made none."""
    attributes = span.attributes or {}
    return semconv.ANSWERED_BY not in attributes and attributes.get(semconv.ERROR_TYPE) != "unknown_tool"


def _tokens(spans: Sequence[ReadableSpan]) -> tuple[int, ...]:
    return tuple(sum(_int(span, name, default=0) for span in spans) for name in _USAGE)


def _counted(data: MetricsData | None) -> tuple[int, ...]:
    totals = dict.fromkeys(_TOTALS, 0)
    for metric in _metrics(data):
        if metric.name in totals and isinstance(metric.data, Sum):
            totals[metric.name] += sum(int(point.value) for point in metric.data.data_points)
    return tuple(totals.values())


def _metrics(data: MetricsData | None) -> Iterator[Metric]:
    for resource in () if data is None else data.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics


def _is_below(span: ReadableSpan, ancestor: ReadableSpan, spans: Sequence[ReadableSpan]) -> bool:
    by_id = {span_id(one): one for one in spans}
    while span.parent is not None:
        if span.parent.span_id == span_id(ancestor):
            return True
        if (parent := by_id.get(span.parent.span_id)) is None:
            return False
        span = parent
    return False


def _number(span: ReadableSpan) -> int:
    return _int(span, semconv.ATTEMPT_NUMBER, default=1)


def _int(span: ReadableSpan, name: str, *, default: int) -> int:
    value = (span.attributes or {}).get(name, default)
    assert isinstance(value, int)
    return value


def _linked(span: ReadableSpan, kind: str) -> list[int]:
    return [link.context.span_id for link in span.links if (link.attributes or {}).get(semconv.LINK_KIND) == kind]


def _hex(span: ReadableSpan) -> str:
    return format_span_id(span_id(span))


def _start(span: ReadableSpan) -> int:
    return span.start_time or 0


def _end(span: ReadableSpan) -> int:
    return span.end_time or 0

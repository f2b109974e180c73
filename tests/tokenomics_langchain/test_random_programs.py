"""Two hundred random programs, each run untraced and traced: nothing changes, and nothing is lost.

What is promised is checked against witnesses that have no part in the tracing: the models keep a ledger of the
usage that they reported, and a listener of its own says of which calls LangChain reported the end.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatGeneration, LLMResult
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.trace import NoOpTracer

from conventions import Level, violations_of_span
from random_programs import (
    FEATURES,
    HAPPENINGS,
    RUNS,
    SECRET,
    WORK,
    Graph,
    Outcome,
    Program,
    Tracing,
    World,
    execute,
    features,
    programs,
)
from tokenomics_langchain import LangChainInstrumentor, TokenomicsCallbackHandler, TokenomicsMiddleware, trace_graph

PROGRAMS_A_RUN = 14
BILLED = ("chat", "text_completion")
_WHEN = ("start", "end", "error")

Way = Callable[[TokenomicsCallbackHandler], tuple[list[BaseCallbackHandler], Tracing, AbstractContextManager[None]]]


class SpanLog(SpanProcessor):
    """Every span that started, and every one that ended."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.started.append(span.get_span_context().span_id)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


class WitnessedHandler(TokenomicsCallbackHandler):
    """The handler, and beside it a note of the model calls whose end LangChain reported to it.

    A call in a thread, or in a branch beside one that failed, may outlive a run around it: then its span had to end
    before the call did, and its usage came too late.

    Which of two threads comes first must be the same for the handler and for the note, so where there is such a
    race the events take turns; programs without an event loop wait for their threads, and need no turns.
    """

    def __init__(self, provider: TracerProvider, *, takes_turns: bool) -> None:
        super().__init__(provider)
        self._turn = threading.RLock() if takes_turns else nullcontext()
        self._parents: dict[UUID, UUID | None] = {}
        self._open: set[UUID] = set()
        self._around: dict[UUID, set[UUID]] = {}
        self.in_time: set[str] = set()
        self.too_late: set[str] = set()

    def hear(self, event: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with self._turn:
            getattr(super(), event)(*args, **kwargs)
            if event.endswith("_start"):
                self._note_start(**kwargs)
            else:
                self._note_end(*args, **kwargs)

    def _note_start(self, *, run_id: UUID, parent_run_id: UUID | None = None, **_: Any) -> None:
        self._parents[run_id] = parent_run_id
        self._open.add(run_id)
        self._around[run_id] = self._open.intersection(self._ancestors(run_id))

    def _note_end(self, result: Any, *, run_id: UUID, response: LLMResult | None = None, **_: Any) -> None:
        answer = result if isinstance(result, LLMResult) else response
        if answer is not None and run_id in self._around:
            calls = self.in_time if self._around[run_id] <= self._open else self.too_late
            calls.update(response_ids(answer))
        self._open.discard(run_id)

    def _ancestors(self, run_id: UUID) -> Iterator[UUID]:
        parent = self._parents.get(run_id)
        while parent is not None:
            yield parent
            parent = self._parents.get(parent)


def _heard(event: str) -> Any:
    return lambda self, *args, **kwargs: self.hear(event, args, kwargs)


for _event in ("on_chat_model_start", *(f"on_{kind}_{when}" for kind in ("chain", "llm", "tool") for when in _WHEN)):
    setattr(WitnessedHandler, _event, _heard(_event))


def response_ids(response: LLMResult) -> Iterator[str]:
    for generation in response.generations[0] if response.generations else ():
        message = generation.message if isinstance(generation, ChatGeneration) else None
        about = message.response_metadata if message else generation.generation_info or response.llm_output or {}
        is_cached = "total_cost" in (getattr(message, "usage_metadata", None) or {})
        if "id" in about and not is_cached:
            yield about["id"]


def by_handler(handler: TokenomicsCallbackHandler) -> Any:
    return [handler], Tracing(), nullcontext()


def by_middleware(handler: TokenomicsCallbackHandler) -> Any:
    return [], Tracing(middleware=lambda: [TokenomicsMiddleware(handler=handler)]), nullcontext()


def by_graph(handler: TokenomicsCallbackHandler) -> Any:
    return [], Tracing(graph=lambda builder: trace_graph(builder, handler=handler)), nullcontext()


def by_instrumentor(handler: TokenomicsCallbackHandler) -> Any:
    return [], Tracing(), instrumented(handler)


def by_all_of_them(handler: TokenomicsCallbackHandler) -> Any:
    middleware, graph = by_middleware(handler)[1].middleware, by_graph(handler)[1].graph
    return [handler], Tracing(middleware=middleware, graph=graph), instrumented(handler)


@contextmanager
def instrumented(handler: TokenomicsCallbackHandler) -> Iterator[None]:
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(handler=handler)
    try:
        yield
    finally:
        instrumentor.uninstrument()


OTHER_WAYS = (by_middleware, by_graph, by_instrumentor, by_all_of_them)


class Traced:
    """A program that was run, and what was recorded of it."""

    def __init__(self, program: Program, way: Way) -> None:
        self.program, self.way = program, way
        self.log = SpanLog()
        provider = TracerProvider()
        provider.add_span_processor(self.log)
        handler = self.handler = WitnessedHandler(provider, takes_turns=program.is_async)
        callbacks, tracing, installed = way(handler)
        with installed:
            self.outcome, self.world = run(program, tracing, provider, callbacks)
        if not self.world.kept:  # a stream that is kept and not read ends with the provider
            self.open_runs = handler.open_runs
        provider.shutdown()
        self.open_runs_after_shutdown = handler.open_runs
        self.spans = self.log.ended
        self.by_id = {span.context.span_id: span for span in self.spans}

    def covers(self, part: str) -> bool:
        """Whether the way of tracing records a part of the program from its start on."""
        if self.way is by_middleware:
            # A thread that outlives its agent may start a tool of which nobody knows any more whose it is.
            may_outlive = self.program.is_async and self.outcome.error is not None
            return part.startswith("tool_") and not may_outlive
        return part.startswith("node_") or self.covers_root

    @property
    def covers_root(self) -> bool:
        """Whether the way of tracing records the whole program."""
        return self.way is not by_middleware and (self.way is not by_graph or isinstance(self.program.root, Graph))


def run(
    program: Program,
    tracing: Tracing | None = None,
    provider: TracerProvider | None = None,
    callbacks: Sequence[BaseCallbackHandler] = (),
) -> tuple[Outcome, World]:
    world = World(
        tracer=NoOpTracer() if provider is None else provider.get_tracer("application"),
        wraps_work=program.wraps_work,
        cancel_after=program.stop.after if program.stop is not None and program.stop.how == "cancel" else None,
        callbacks=callbacks,
    )
    return execute(program, world, tracing or Tracing()), world


def operation(span: ReadableSpan) -> str | None:
    found = (span.attributes or {}).get("gen_ai.operation.name")
    return found if isinstance(found, str) else None


def usage(span: ReadableSpan) -> tuple[Any, Any]:
    attributes = span.attributes or {}
    return attributes.get("gen_ai.usage.input_tokens"), attributes.get("gen_ai.usage.output_tokens")


def children(traced: Traced, span: ReadableSpan) -> list[ReadableSpan]:
    return [other for other in traced.spans if other.parent and other.parent.span_id == span.context.span_id]


def below(traced: Traced, span: ReadableSpan) -> Iterator[ReadableSpan]:
    for child in children(traced, span):
        yield child
        yield from below(traced, child)


def assert_every_span_ends_once(traced: Traced) -> None:
    assert sorted(traced.log.started) == sorted(span.context.span_id for span in traced.spans)
    assert len(set(traced.log.started)) == len(traced.log.started)


def assert_nothing_stays_open(traced: Traced) -> None:
    assert getattr(traced, "open_runs", 0) == 0
    assert traced.open_runs_after_shutdown == 0


def assert_parents_contain_children(traced: Traced) -> None:
    for span in traced.spans:
        parent = traced.by_id[span.parent.span_id] if span.parent else None
        if parent is None or WORK in span.name + parent.name:
            continue  # how long the application's own spans last, is its own affair
        states = [(one.attributes or {}).get("tokenomics.run.state") for one in (parent, span)]
        if states[0] == "cancelled" != states[1]:
            continue  # a thread that nobody can stop goes on, and its work comes to an end of its own
        assert (parent.start_time or 0) <= (span.start_time or 0), (parent.name, span.name)
        assert (span.end_time or 0) <= (parent.end_time or 0), (parent.name, span.name)


def assert_every_trace_has_one_root(traced: Traced) -> None:
    roots = Counter(span.context.trace_id for span in traced.spans if span.parent is None)
    assert set(roots.values()) <= {1}
    assert set(roots) == {span.context.trace_id for span in traced.spans}


def assert_work_nests_where_it_was_done(traced: Traced) -> None:
    for span in traced.spans:
        if span.name.startswith(WORK) and traced.covers(span.name.removeprefix(WORK)):
            assert span.parent is not None, span.name
            parent = traced.by_id[span.parent.span_id]
            assert parent.name.endswith(" " + span.name.removeprefix(WORK)), (parent.name, span.name)


def assert_calls_say_what_models_reported(traced: Traced) -> None:
    told: dict[Any, Any] = {}
    for span in traced.spans:
        attributes = span.attributes or {}
        if operation(span) not in BILLED:
            continue
        if attributes.get("tokenomics.cache.hit"):
            assert usage(span) == (0, 0)
        elif attributes.get("tokenomics.usage.estimated"):
            continue
        elif "gen_ai.response.id" in attributes:
            assert attributes["gen_ai.response.id"] not in told
            told[attributes["gen_ai.response.id"]] = usage(span)
        else:
            assert usage(span) == (None, None), span.name
    reported = traced.world.reported
    assert set(told) - traced.handler.too_late == traced.handler.in_time
    assert told == {id_: reported[id_] or (None, None) for id_ in told}


def assert_sums_are_what_models_reported(traced: Traced) -> None:
    calls = [
        usage(span)
        for span in traced.spans
        if operation(span) in BILLED
        and not (span.attributes or {}).get("tokenomics.usage.estimated")
        and (span.attributes or {}).get("gen_ai.response.id") not in traced.handler.too_late
    ]
    reported = [traced.world.reported[id_] or (0, 0) for id_ in traced.handler.in_time]
    for place in (0, 1):
        assert sum(call[place] or 0 for call in calls) == sum(pair[place] for pair in reported)


def assert_agents_sum_up_their_calls(traced: Traced) -> None:
    for agent in traced.spans:
        if operation(agent) != "invoke_agent":
            continue
        calls = [usage(span) for span in below(traced, agent) if operation(span) in BILLED and in_time(span, agent)]
        unknown = sum(None in pair for pair in calls)
        assert (agent.attributes or {}).get("tokenomics.usage.unknown_calls", 0) == unknown
        expected = (sum(i for i, _ in calls), sum(o for _, o in calls)) if calls and not unknown else (None, None)
        assert usage(agent) == expected, agent.name


def in_time(span: ReadableSpan, agent: ReadableSpan) -> bool:
    """Whether it began before the agent ended; a thread that outlives a cancelled agent goes on calling models."""
    return (span.start_time or 0) <= (agent.end_time or 0)


def assert_context_is_left_alone(traced: Traced) -> None:
    assert traced.world.leaks == []


def assert_resumed_runs_are_linked(traced: Traced) -> None:
    links = [link for span in traced.spans for link in span.links]
    resumes = [link for link in links if (link.attributes or {}).get("tokenomics.link.kind") == "resumes"]
    if traced.covers_root and not traced.world.happened & {"a stream closed", "a stream dropped"}:
        # LangGraph says nothing of an interrupt to a stream that is let go when it brings it.
        assert len(resumes) == traced.world.resumes


def assert_conventions_are_kept(traced: Traced) -> None:
    spans = [span for span in traced.spans if not span.name.startswith(WORK)]
    findings = [f for span in spans for f in violations_of_span(span) if f.level is Level.VIOLATION]
    assert findings == []


def assert_no_content_leaves(traced: Traced) -> None:
    for span in traced.spans:
        if not span.name.startswith(WORK):
            assert SECRET not in span.to_json()


RACES = 5
PROMISES = (
    assert_every_span_ends_once,
    assert_nothing_stays_open,
    assert_parents_contain_children,
    assert_every_trace_has_one_root,
    assert_work_nests_where_it_was_done,
    assert_calls_say_what_models_reported,
    assert_sums_are_what_models_reported,
    assert_agents_sum_up_their_calls,
    assert_context_is_left_alone,
    assert_resumed_runs_are_linked,
    assert_conventions_are_kept,
    assert_no_content_leaves,
)


def hold(number: int, run_of: tuple[Any, Any], seen: Counter[str]) -> None:
    """Check what is promised on the programs of one kind of run."""

    @seed(number)
    @settings(max_examples=PROGRAMS_A_RUN, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(programs(*run_of), st.sampled_from(OTHER_WAYS))
    def check(program: Program, other_way: Way) -> None:
        untraced, _ = run(program)
        for way in (by_handler, other_way):
            traced = Traced(program, way)
            if traced.outcome != untraced:
                # Tools that run in parallel threads race for who is first to be seen. What tracing changed, it would
                # change every time.
                assert untraced in [Traced(program, way).outcome for _ in range(RACES)]
            for keeps_promise in PROMISES:
                keeps_promise(traced)
        seen.update(features(program) | traced.world.happened)

    check()


def test_two_hundred_random_programs_lose_nothing_and_notice_nothing() -> None:
    seen: Counter[str] = Counter()
    for number, run_of in enumerate(RUNS):
        hold(number, run_of, seen)

    for feature, count in seen.most_common():
        print(f"{count:4} {feature}")
    assert len(RUNS) * PROGRAMS_A_RUN >= 200
    assert set(seen) == FEATURES | HAPPENINGS

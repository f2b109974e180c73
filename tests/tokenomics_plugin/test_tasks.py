from __future__ import annotations

import asyncio
import logging
import queue
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from tokenomics_plugin import semconv
from tokenomics_plugin.outcome import Outcome, OutcomeStatus, latest_outcomes
from tokenomics_plugin.tasks import Task, bind_tasks, record_outcome, task


@pytest.fixture
def start(capture: Any) -> Any:
    """A task whose telemetry is captured."""

    def start_task(task_id: str, **options: Any) -> Task:
        return task(
            task_id, tracer_provider=capture.tracer_provider, logger_provider=capture.logger_provider, **options
        )

    return start_task


@pytest.fixture
def span(capture: Any) -> Any:
    """Start and end a span with the current context, as any instrumentation would."""

    def end_span(name: str) -> None:
        capture.tracer_provider.get_tracer("test").start_span(name).end()

    return end_span


def named(capture: Any, name: str) -> ReadableSpan:
    (found,) = [span for span in capture.spans.get_finished_spans() if span.name == name]
    return found  # type: ignore[no-any-return]


def task_of(capture: Any, name: str) -> object:
    return (named(capture, name).attributes or {}).get(semconv.TASK_ID)


def carriers(capture: Any) -> list[ReadableSpan]:
    return [span for span in capture.spans.get_finished_spans() if span.name.startswith("record_outcome")]


def test_spans_started_inside_belong_to_the_task(start: Any, span: Any, capture: Any) -> None:
    span("before")
    with start("t1", group="g"):
        span("inside")
    span("after")

    assert named(capture, "inside").attributes == {semconv.TASK_ID: "t1", semconv.TASK_GROUP: "g"}
    assert (task_of(capture, "before"), task_of(capture, "after")) == (None, None)


def test_an_inner_task_takes_its_own_spans_and_gives_back(start: Any, span: Any, capture: Any) -> None:
    with start("outer", group="g"):
        with start("inner"):
            span("in inner")
        span("in outer")

    assert named(capture, "in inner").attributes == {semconv.TASK_ID: "inner"}
    assert task_of(capture, "in outer") == "outer"


def test_threads_and_timers_started_inside_belong_to_the_task(start: Any, span: Any, capture: Any) -> None:
    class Worker(threading.Thread):
        def run(self) -> None:
            span("in subclass")

    timer = threading.Timer(0, span, ["in timer"])
    with start("t1"):
        threads = [threading.Thread(target=span, args=["in thread"]), Worker(), timer]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert {task_of(capture, f"in {place}") for place in ("thread", "subclass", "timer")} == {"t1"}


def test_work_in_a_shared_pool_belongs_to_the_task_that_submitted_it(start: Any, span: Any, capture: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        with start("t1"):
            pool.submit(span, "first").result()
        with start("t2"):
            pool.submit(span, "second").result()
        pool.submit(span, "nobody's").result()

    assert [task_of(capture, name) for name in ("first", "second", "nobody's")] == ["t1", "t2", None]


async def test_asyncio_tasks_and_their_threads_belong_to_the_task(start: Any, span: Any, capture: Any) -> None:
    async def work(name: str) -> None:
        await asyncio.sleep(0)
        span(f"{name} coroutine")
        await asyncio.to_thread(span, f"{name} to_thread")
        await asyncio.get_running_loop().run_in_executor(None, span, f"{name} executor")

    async def run(name: str) -> None:
        async with start(name):
            await asyncio.gather(*(asyncio.create_task(work(name)) for _ in range(1)))

    await asyncio.gather(run("a"), run("b"))

    places = ("coroutine", "to_thread", "executor")
    assert [task_of(capture, f"{name} {place}") for name in "ab" for place in places] == ["a"] * 3 + ["b"] * 3


def test_baggage_carries_the_task_into_another_process(start: Any) -> None:
    child = textwrap.dedent("""
        import sys
        from opentelemetry import context
        from opentelemetry.propagate import extract
        from opentelemetry.sdk.trace import TracerProvider
        from tokenomics_plugin.tasks import bind_tasks

        provider = TracerProvider()
        bind_tasks(provider)
        context.attach(extract({"baggage": sys.argv[1]}))
        span = provider.get_tracer("child").start_span("work")
        print(span.attributes["tokenomics.task.id"], span.attributes["tokenomics.task.group"])
    """)
    headers: dict[str, str] = {}
    with start("ticket 17/ä", group="g=1"):
        inject(headers)

    printed = subprocess.run(
        [sys.executable, "-c", child, headers["baggage"]], capture_output=True, text=True, check=True, timeout=60
    )

    assert printed.stdout.strip() == "ticket 17/ä g=1"


def test_an_outcome_goes_out_as_event_and_as_carrier_span_in_the_judged_trace(
    start: Any, span: Any, capture: Any
) -> None:
    with start("t1", value="4.50", group="g") as current:
        span("agent")
        outcome = current.succeed(score=0.9, evaluator="unit-tests", evidence="3/3")

    agent, carrier = named(capture, "agent"), named(capture, "record_outcome unit-tests")
    (event,) = (data.log_record for data in capture.logs.get_finished_logs())
    assert event.event_name == "gen_ai.evaluation.result"
    assert (event.trace_id, event.span_id) == (agent.context.trace_id, agent.context.span_id)
    assert carrier.context.trace_id == agent.context.trace_id
    assert [link.context.span_id for link in carrier.links] == [agent.context.span_id]
    for attributes in (dict(event.attributes or {}), dict(carrier.attributes or {})):
        assert Outcome.from_attributes(attributes, trace_id=outcome.trace_id) == outcome
    assert (outcome.value, outcome.trace_id) == (Decimal("4.50"), f"{agent.context.trace_id:032x}")


def test_a_task_of_several_traces_links_its_outcome_to_each(start: Any, span: Any, capture: Any) -> None:
    with start("t1") as current:
        span("first")
        span("second")
        current.fail()

    (carrier,) = carriers(capture)
    expected = [named(capture, name).context.trace_id for name in ("first", "second")]
    assert [link.context.trace_id for link in carrier.links] == expected


def test_a_surrounding_span_is_what_is_judged(start: Any, capture: Any) -> None:
    with capture.tracer_provider.get_tracer("web").start_as_current_span("request") as request, start("t1") as current:
        current.succeed()

    assert carriers(capture)[0].context.trace_id == request.get_span_context().trace_id


@pytest.mark.parametrize(
    ("judge", "status", "value", "harm"),
    [
        (lambda current: current.succeed(), OutcomeStatus.SUCCEEDED, Decimal(10), None),
        (lambda current: current.succeed(value=3), OutcomeStatus.SUCCEEDED, Decimal(3), None),
        (lambda current: current.fail(), OutcomeStatus.FAILED, Decimal(0), None),
        (lambda current: current.fail(value=1), OutcomeStatus.FAILED, Decimal(1), None),
        (lambda current: current.fail(harm="2.5"), OutcomeStatus.HARMFUL, Decimal(0), Decimal("2.5")),
    ],
    ids=["succeed", "succeed-for-less", "fail", "fail-in-part", "harm"],
)
def test_what_an_outcome_is_worth(start: Any, judge: Any, status: str, value: Decimal, harm: Decimal | None) -> None:
    with start("t1", value=10) as current:
        outcome = judge(current)

    assert (outcome.status, outcome.value, outcome.harm) == (status, value, harm)


def test_without_a_declared_value_nobody_knows_what_an_outcome_is_worth(start: Any) -> None:
    with start("t1") as current:
        assert (current.fail().value, current.succeed().value) == (None, None)


def test_a_later_outcome_revises_the_earlier_one(start: Any, capture: Any) -> None:
    with start("t1") as current:
        current.succeed()
        current.record(Outcome(task_id="t1", status=OutcomeStatus.HARMFUL, harm=Decimal(5)))

    assert [(span.attributes or {})[semconv.OUTCOME_VERSION] for span in carriers(capture)] == [0, 1]
    assert current.outcome is not None
    assert current.outcome.status is OutcomeStatus.HARMFUL


def test_a_task_left_without_a_judgement_is_pending(start: Any, capture: Any) -> None:
    with start("t1"):
        pass

    assert (carriers(capture)[0].attributes or {})[semconv.OUTCOME_STATUS] == "pending"


def test_leaving_a_task_does_not_undo_a_judgement_by_its_id(start: Any, capture: Any) -> None:
    with start("t1"):
        record_outcome("t1", "succeeded", tracer_provider=capture.tracer_provider)

    sent = [Outcome.from_attributes(dict(span.attributes or {})) for span in carriers(capture)]
    assert latest_outcomes(sent)["t1"].status is OutcomeStatus.SUCCEEDED


def test_an_outcome_built_earlier_and_recorded_later_still_revises(start: Any, capture: Any) -> None:
    with start("t1") as current:
        built = Outcome(task_id="t1", status=OutcomeStatus.SUCCEEDED)
        current.fail()
        current.record(built)

    sent = [Outcome.from_attributes(dict(span.attributes or {})) for span in carriers(capture)]
    assert latest_outcomes(sent)["t1"].status is OutcomeStatus.SUCCEEDED


def test_a_worker_thread_does_not_stay_with_the_task_that_started_it(start: Any, span: Any, capture: Any) -> None:
    work: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def serve() -> None:
        while (name := work.get()) is not None:
            span(name)

    with start("t1"):
        worker = threading.Thread(target=serve)
        worker.start()
    with start("t2"):
        work.put("later")
        work.put(None)
        worker.join()

    assert task_of(capture, "later") is None


def test_threads_belong_to_a_task_that_only_came_as_baggage(capture: Any, span: Any) -> None:
    bind_tasks(capture.tracer_provider)
    token = context.attach(extract({"baggage": "tokenomics.task.id=t1"}))
    thread = threading.Thread(target=span, args=["in thread"])
    thread.start()
    thread.join()
    context.detach(token)

    assert task_of(capture, "in thread") == "t1"


def test_a_provider_unlike_the_sdks_does_not_stop_the_work(caplog: pytest.LogCaptureFixture) -> None:
    class Slotted:
        __slots__ = ()

        def add_span_processor(self, _processor: object) -> None:
            raise AssertionError("never reached: it cannot be remembered")

    bind_tasks(Slotted())  # type: ignore[arg-type]

    assert "will not carry the task" in caplog.text


def test_an_exception_passes_unchanged_and_its_message_stays_private(start: Any, capture: Any) -> None:
    secret = ValueError("card 4111 1111 1111 1111")
    with pytest.raises(ValueError, match="card") as raised, start("t1"):
        raise secret

    (carrier,) = carriers(capture)
    assert raised.value is secret
    assert (carrier.attributes or {})[semconv.OUTCOME_EVIDENCE] == "left by ValueError"
    assert "4111" not in carrier.to_json()


def test_an_outcome_of_another_task_is_refused(start: Any) -> None:
    with start("t1") as current, pytest.raises(ValueError, match="this is task 't1', but the outcome is for 't2'"):
        current.record(Outcome(task_id="t2", status=OutcomeStatus.FAILED))


def test_a_bad_value_is_refused_before_the_work_starts(start: Any) -> None:
    with pytest.raises(ValueError, match="value must be an amount of money, got 'lots'"):
        start("t1", value="lots")


def test_a_task_is_entered_once_at_a_time(start: Any) -> None:
    with start("t1") as current, pytest.raises(RuntimeError, match="'t1' is entered already"):
        current.__enter__()


def test_an_outcome_weeks_later_needs_only_the_task_id(capture: Any) -> None:
    outcome = record_outcome(
        "t1",
        "harmful",
        harm="12.00",
        evaluator="refund-desk",
        tracer_provider=capture.tracer_provider,
        logger_provider=capture.logger_provider,
    )

    (carrier,) = carriers(capture)
    assert Outcome.from_attributes(dict(carrier.attributes or {})) == outcome
    assert carrier.parent is None


def test_a_kept_traceparent_puts_a_late_outcome_into_the_judged_trace(start: Any, span: Any, capture: Any) -> None:
    with start("t1") as current:
        span("agent")
    record_outcome("t1", "succeeded", traceparent=current.traceparent, tracer_provider=capture.tracer_provider)

    late = carriers(capture)[-1]
    agent = named(capture, "agent").context
    assert (late.context.trace_id, late.links[0].context.span_id) == (agent.trace_id, agent.span_id)


def test_a_traceparent_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="traceparent must look like"):
        record_outcome("t1", "succeeded", traceparent="00-zz")


def test_a_late_outcome_is_nobodys_child(capture: Any) -> None:
    with capture.tracer_provider.get_tracer("job").start_as_current_span("nightly job"):
        record_outcome("t1", "succeeded", tracer_provider=capture.tracer_provider)

    assert carriers(capture)[0].parent is None


def test_a_provider_learns_about_tasks_once(capture: Any) -> None:
    provider = TracerProvider()
    bind_tasks(provider)
    processors = provider._active_span_processor._span_processors
    bind_tasks(provider)

    assert provider._active_span_processor._span_processors == processors


def test_without_a_provider_the_work_goes_on_and_the_loss_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), task("t1", tracer_provider=trace.ProxyTracerProvider()) as current:
        current.succeed()

    assert "goes nowhere: call tokenomics_plugin.configure() first" in caplog.text


def test_a_broken_exporter_does_not_reach_the_program(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(TracerProvider):
        def get_tracer(self, *_args: Any, **_kwargs: Any) -> Any:
            raise OSError("no")

    with task("t1", tracer_provider=Broken()) as current:
        current.succeed()

    assert "the carrier span of an outcome of task 't1' was not sent" in caplog.text


def test_a_broken_carrier_does_not_keep_the_event_back(capture: Any) -> None:
    class Broken(TracerProvider):
        def get_tracer(self, *_args: Any, **_kwargs: Any) -> Any:
            raise OSError("no")

    record_outcome("t1", "failed", tracer_provider=Broken(), logger_provider=capture.logger_provider)

    assert len(capture.logs.get_finished_logs()) == 1


def test_the_context_is_what_it_was_before(start: Any) -> None:
    before = context.get_current()
    with start("t1"):
        pass

    assert context.get_current() == before

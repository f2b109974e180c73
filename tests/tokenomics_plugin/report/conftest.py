"""Stores made of lists, the summaries that every view must render, and golden files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tokenomics_plugin import semconv
from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.report import Summary, summarize
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.usage import TokenUsage

# A busy machine may stall any example for longer than Hypothesis allows it.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

GOLDEN = Path(__file__).parents[2] / "golden" / "report"
REWRITE = "REWRITE_GOLDEN"
START = 1_772_000_000 * 10**9  # 2026-02-25
SECOND = 10**9

HOSTILE = "</script><script>alert(1)</script>"
HOSTILE_NAMES = (
    HOSTILE,
    '" onmouseover="alert(2)" \'><img src=x onerror=alert(3)>',
    "<!--<script>&lt;b&gt;&amp;$data ${data} %{customdata}",
    "nul\x00 escape\x1b[2J bell\x07",
    "\u2028line\u2029paragraph\nnewline",
    "\u202egnp.exe\u202c שלום",
    "lone \ud800 surrogate",
    "<a href='javascript:alert(4)'>click</a><br><b>bold</b>",
    "x" * 5000,
)


@dataclass(frozen=True, kw_only=True)
class ListReader:
    """A `TraceReader` over lists."""

    spans_: Sequence[SpanRecord] = ()
    outcomes_: Sequence[Outcome] = ()

    def spans(self) -> Iterator[SpanRecord]:
        return iter(self.spans_)

    def outcomes(self) -> Sequence[Outcome]:
        return self.outcomes_


@dataclass
class Trace:
    """Builds one trace, span by span; each is given its parent's id or becomes a root."""

    number: int
    spans: list[SpanRecord] = field(default_factory=list)

    @property
    def trace_id(self) -> str:
        return f"{self.number:032x}"

    def span(self, parent: SpanRecord | None = None, **fields: Any) -> SpanRecord:
        made = SpanRecord(
            **{
                "trace_id": self.trace_id,
                "span_id": f"{self.number * 1000 + len(self.spans) + 1:016x}",
                "parent_span_id": None if parent is None else parent.span_id,
                "start_unix_nano": START + self.number * SECOND + len(self.spans),
                "duration_nano": SECOND,
                **fields,
            }
        )
        self.spans.append(made)
        return made

    def agent(self, agent_name: str | None = "planner", parent: SpanRecord | None = None, **fields: Any) -> SpanRecord:
        return self.span(parent, operation=semconv.OPERATION_INVOKE_AGENT, agent_name=agent_name, **fields)

    def tool(self, tool_name: str = "search", parent: SpanRecord | None = None, **fields: Any) -> SpanRecord:
        return self.span(parent, operation=semconv.OPERATION_EXECUTE_TOOL, tool_name=tool_name, **fields)

    def chat(
        self, parent: SpanRecord | None = None, *, tokens: tuple[int, int] | None = (1000, 100), **fields: Any
    ) -> SpanRecord:
        usage = None if tokens is None else TokenUsage.from_inclusive(input_tokens=tokens[0], output_tokens=tokens[1])
        return self.span(
            parent,
            **{
                "operation": semconv.OPERATION_CHAT,
                "provider": "acme",
                "request_model": "acme-large",
                "usage": usage,
                **fields,
            },
        )


@pytest.fixture(scope="session")
def prices() -> PriceBook:
    """One dollar a million input tokens, ten a million of output; the call of `Trace.chat` costs $0.002."""
    return PriceBook(
        [Price(provider="acme", model="*", input=Decimal(1), cache_read=Decimal("0.1"), output=Decimal(10))]
    )


@pytest.fixture
def summary_of(prices: PriceBook) -> Callable[..., Summary]:
    """Summarizes traces and outcomes."""

    def summarize_lists(traces: Sequence[Trace] = (), outcomes: Sequence[Outcome] = ()) -> Summary:
        spans = [span for trace in traces for span in trace.spans]
        return summarize(ListReader(spans_=spans, outcomes_=outcomes), prices)

    return summarize_lists


def outcome(task_id: str, status: str, **fields: Any) -> Outcome:
    return Outcome(task_id=task_id, status=OutcomeStatus(status), **{"observed_time_unix_nano": START, **fields})


def empty() -> ListReader:
    return ListReader()


def one_trace() -> ListReader:
    trace = Trace(1)
    agent = trace.agent(task_id="ticket-1")
    trace.chat(agent)
    trace.tool(parent=agent)
    trace.chat(agent, tokens=(1500, 40))
    return ListReader(spans_=trace.spans, outcomes_=[outcome("ticket-1", "succeeded", value="4.50")])


def failures_and_pending() -> ListReader:
    """Sixty tasks, two to a group: most succeed, one in twenty harms, some are open, two calls have no usage."""
    statuses = ("succeeded", "succeeded", "failed", "succeeded", "succeeded")
    traces, outcomes = [], []
    for number in range(1, 61):
        task_id, trace = f"task-{number:02}", Trace(number)
        agent = trace.agent("planner" if number % 3 else "critic", task_id=task_id, task_group=f"group-{number // 2}")
        failed = statuses[number % 5] == "failed"
        for call in range(2 + failed):
            trace.chat(agent, tokens=(900 + 40 * number, 50 + 10 * call))
            trace.tool("search" if call else "database", agent, status="Error" if failed and call else "Unset")
        if number == 7:
            helper = trace.tool("delegate", agent)
            trace.chat(helper, request_model="acme-small", tokens=None)
            trace.chat(helper, provider="nobody", request_model="unknown")
        traces.append(trace)
        if number % 20 == 3:
            outcomes.append(outcome(task_id, "harmful", harm="2.00"))
        elif number % 12 == 5:
            outcomes.append(outcome(task_id, "pending"))
        elif number % 30 != 11:
            outcomes.append(outcome(task_id, statuses[number % 5], value=None if failed else "0.50"))
    outcomes += [
        outcome("only-judged", "succeeded", value="0.50"),
        outcome("in-euros", "succeeded", value="3", currency="EUR"),
    ]
    return ListReader(spans_=[span for trace in traces for span in trace.spans], outcomes_=outcomes)


def hostile() -> ListReader:
    """Every name that a trace can carry, set to what would break out of a page or a terminal."""
    traces, outcomes = [], []
    for number, name in enumerate(HOSTILE_NAMES, start=1):
        trace = Trace(number)
        agent = trace.agent(name, name=name, task_id=name, task_group=name, conversation_id=name)
        tool = trace.tool(name, agent)
        trace.chat(tool, request_model=name, provider="acme", error_type=name, status="Error", tokens=(500, 500))
        trace.chat(agent, request_model=name, provider=name, tokens=None)
        traces.append(trace)
        outcomes.append(outcome(name, "succeeded" if number % 2 else "failed", evidence=name, evaluator=name))
    return ListReader(spans_=[span for trace in traces for span in trace.spans], outcomes_=outcomes)


CASES = {case.__name__: case for case in (empty, one_trace, failures_and_pending, hostile)}


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest, prices: PriceBook) -> tuple[str, Summary]:
    """Each of the summaries that every view must render, with its name."""
    return request.param, summarize(CASES[request.param](), prices)


@pytest.fixture
def hostile_summary(prices: PriceBook) -> Summary:
    return summarize(hostile(), prices)


@pytest.fixture
def busy_summary(prices: PriceBook) -> Summary:
    return summarize(failures_and_pending(), prices)


@pytest.fixture
def assert_golden(tmp_path: Path) -> Callable[[str, str], None]:
    """Compares a text with its golden file, which `REWRITE_GOLDEN=1` writes instead."""

    def compare(name: str, actual: str) -> None:
        golden = GOLDEN / name
        if os.environ.get(REWRITE):
            golden.write_text(actual, encoding="utf-8")
        (tmp_path / name).write_text(actual, encoding="utf-8")
        expected = golden.read_text(encoding="utf-8")
        assert actual == expected, f"{tmp_path / name} is not {golden}; if it is right, set {REWRITE}=1"

    return compare


@pytest.fixture
def trace() -> Trace:
    """An empty trace to fill."""
    return Trace(1)


@pytest.fixture
def new_trace() -> type[Trace]:
    """Makes empty traces, by number."""
    return Trace


@pytest.fixture
def judge() -> Callable[..., Outcome]:
    """Makes outcomes: task id, status, fields."""
    return outcome


@pytest.fixture(scope="session")
def reader() -> Callable[..., ListReader]:
    """Makes stores of lists."""
    return lambda spans=(), outcomes=(): ListReader(spans_=spans, outcomes_=outcomes)

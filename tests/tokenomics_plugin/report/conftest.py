"""Stores made of lists, the summaries that every view must render, and golden files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import settings

from report_stores import CASES, PRICES, ListReader, Trace, outcome
from tokenomics_plugin.outcome import Outcome
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report import Summary, summarize

# A busy machine may stall any example for longer than Hypothesis allows it.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def prices() -> PriceBook:
    """One dollar a million input tokens, ten a million of output; the call of `Trace.chat` costs $0.002."""
    return PRICES


@pytest.fixture
def summary_of(prices: PriceBook) -> Callable[..., Summary]:
    """Summarizes traces and outcomes."""

    def summarize_lists(traces: Sequence[Trace] = (), outcomes: Sequence[Outcome] = ()) -> Summary:
        spans = [span for trace in traces for span in trace.spans]
        return summarize(ListReader(spans_=spans, outcomes_=outcomes), prices)

    return summarize_lists


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest, prices: PriceBook) -> tuple[str, Summary]:
    """Each of the summaries that every view must render, with its name."""
    return request.param, summarize(CASES[request.param](), prices)


@pytest.fixture
def hostile_summary(prices: PriceBook) -> Summary:
    return summarize(CASES["hostile"](), prices)


@pytest.fixture
def busy_summary(prices: PriceBook) -> Summary:
    return summarize(CASES["failures_and_pending"](), prices)


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

"""The rows of an analysis add up to its sums, however a store was filled and however many processes read it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tokenomics_plugin import semconv
from tokenomics_plugin.analysis import Analysis, analyse, building
from tokenomics_plugin.cells import CellLedger
from tokenomics_plugin.credit import evidence_of
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.outcome import latest_outcomes
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.report import summarize
from tokenomics_plugin.store import Payload, TraceStore
from tokenomics_plugin.waste import find_detectors, flags_of, scan

PRICES = PriceBook(
    [
        Price(provider="p", model="m", input=Decimal("2.5"), cache_read=Decimal("0.25"), output=Decimal(10)),
        Price(provider="p", model="hourly", usd_per_hour=Decimal("0.37")),
    ]
)
START = 1_790_000_000 * 10**9
SIX = "productive_usd + overhead_usd + unknown_usd + waste_a_usd + waste_b_usd + waste_c_usd"
USAGE = st.none() | st.tuples(st.integers(0, 9_999), st.integers(0, 999))
CALL = st.tuples(st.just("chat"), st.sampled_from(["m", "hourly", "nobody's"]), USAGE, st.booleans())
TOOL = st.tuples(st.just("tool"), st.sampled_from(["get", "set"]), st.integers(0, 1), st.booleans())
TRACE = st.tuples(st.sampled_from([None, "a", "b"]), st.lists(CALL | TOOL, max_size=6))
OUTCOMES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "nobody's"]), st.sampled_from(["succeeded", "failed", "harmful", "pending"])),
    max_size=4,
)


def attributes(values: dict[str, Any]) -> list[KeyValue]:
    return [
        KeyValue(key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value))
        for key, value in values.items()
        if value is not None
    ]


def step(kind: str, name: str, what: Any, failed: bool) -> dict[str, Any]:
    error = {semconv.ERROR_TYPE: "ValueError"} if failed else {}
    if kind == "tool":
        fingerprints = {semconv.ARGUMENTS_FINGERPRINT: f"ab:{what:02x}", semconv.RESULT_FINGERPRINT: f"ab:{what:02x}ff"}
        return {semconv.GEN_AI_OPERATION_NAME: "execute_tool", semconv.GEN_AI_TOOL_NAME: name} | fingerprints | error
    used = (
        {}
        if what is None
        else dict(zip((semconv.GEN_AI_USAGE_INPUT_TOKENS, semconv.GEN_AI_USAGE_OUTPUT_TOKENS), what, strict=True))
    )
    named = {semconv.GEN_AI_PROVIDER_NAME: "p", semconv.GEN_AI_REQUEST_MODEL: name}
    return {semconv.GEN_AI_OPERATION_NAME: "chat"} | named | used | error


def trace(number: int, task: str | None, steps: Sequence[tuple[Any, ...]]) -> list[Payload]:
    """A trace, each span in a request of its own."""
    root = {semconv.GEN_AI_OPERATION_NAME: "invoke_agent", semconv.GEN_AI_AGENT_NAME: "agent", semconv.TASK_ID: task}
    spans = [
        Span(
            trace_id=(number + 1).to_bytes(16),
            span_id=(place + 1).to_bytes(8),
            parent_span_id=(1).to_bytes(8) if place else b"",
            start_time_unix_nano=START + place * 10**9,
            end_time_unix_nano=START + (place + 1) * 10**9,
            attributes=attributes(said),
        )
        for place, said in enumerate([root, *(step(*each) for each in steps)])
    ]
    requests = (
        ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])
        for span in spans
    )
    return [Payload(Signal.TRACES, request.SerializeToString()) for request in requests]


def outcome(number: int, task: str, status: str, trace_id: bytes = b"") -> Payload:
    said = {semconv.TASK_ID: task, semconv.OUTCOME_STATUS: status, semconv.OUTCOME_VALUE: "0.5"}
    record = LogRecord(
        time_unix_nano=START + number,
        event_name=semconv.EVENT_EVALUATION_RESULT,
        trace_id=trace_id,
        attributes=attributes(said),
    )
    request = ExportLogsServiceRequest(resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[record])])])
    return Payload(Signal.LOGS, request.SerializeToString())


@contextmanager
def analysed(*loads: Sequence[Payload], processes: int = 1) -> Iterator[tuple[Path, Analysis]]:
    with TemporaryDirectory() as folder:
        db = Path(folder, "store.duckdb")
        for payloads in loads:
            with TraceStore(db) as store:
                store.load(payloads)
        analysis = analyse(db, PRICES, processes=processes)
        try:
            yield db, analysis
        finally:
            analysis.close()


@given(traces=st.lists(TRACE, max_size=4), outcomes=OUTCOMES)
@settings(max_examples=10, deadline=None)
def test_rows_of_runs_add_up_to_the_summary_and_to_the_ledger(traces: Any, outcomes: Any) -> None:
    payloads = [payload for number, each in enumerate(traces) for payload in trace(number, *each)]
    judged = [outcome(number, *each) for number, each in enumerate(outcomes)]
    with analysed(payloads, judged) as (_, analysis):
        total, ledger = analysis.summary.total, analysis.ledger
        [row] = analysis.rows(
            f"""SELECT coalesce(sum(priced_usd), 0), coalesce(sum({SIX}), 0), coalesce(sum(model_calls), 0),
            coalesce(sum(priced_calls), 0), coalesce(sum(measured_calls), 0), coalesce(sum(input_tokens), 0),
            coalesce(sum(output_tokens), 0), count(*) FILTER (cost_usd IS NULL AND priced_calls = model_calls)
            FROM runs"""
        )
        bill = ledger.reconciliation.bill_usd
        assert row == (
            bill,
            bill,
            total.calls,
            total.priced_calls,
            total.calls_with_usage,
            total.tokens.input,
            total.tokens.output,
            0,
        )
        assert bill == ledger.total.usd == total.priced_cost_usd
        assert analysis.rows("SELECT coalesce(sum(priced_usd), 0) FROM tasks") == [(total.priced_cost_usd,)]


@given(traces=st.lists(TRACE, min_size=1, max_size=3), outcomes=OUTCOMES)
@settings(max_examples=6, deadline=None)
def test_an_analysis_says_what_its_parts_say_by_themselves(traces: Any, outcomes: Any) -> None:
    payloads = [payload for number, each in enumerate(traces) for payload in trace(number, *each)]
    payloads += [outcome(number, *each) for number, each in enumerate(outcomes)]
    ledger, detectors = CellLedger(PRICES), find_detectors().found
    with analysed(payloads) as (db, analysis), TraceStore(db, read_only=True) as store:
        for trajectory in store.trajectories():
            flags = flags_of(scan(trajectory, detectors).findings)
            ledger.add(trajectory, flags=flags, evidence=evidence_of(trajectory))
        assert analysis.ledger == ledger.summary()
        assert analysis.summary == summarize(store, PRICES)


@given(traces=st.lists(TRACE, max_size=3), outcomes=OUTCOMES, seed=st.integers(0, 999))
@settings(max_examples=6, deadline=None)
def test_the_order_in_which_spans_and_outcomes_arrive_changes_nothing(traces: Any, outcomes: Any, seed: int) -> None:
    payloads = [payload for number, each in enumerate(traces) for payload in trace(number, *each)]
    payloads += [outcome(number, *each) for number, each in enumerate(outcomes)]
    shuffled = random.Random(seed).sample(payloads, k=len(payloads))
    half = len(shuffled) // 2
    with analysed(payloads) as (_, at_once), analysed(shuffled[:half], shuffled[half:], payloads) as (_, bit_by_bit):
        assert bit_by_bit.summary == at_once.summary
        assert bit_by_bit.ledger == at_once.ledger
        for table in ("parties", "causes", "tasks"):
            assert bit_by_bit.rows(f"FROM {table} ORDER BY ALL") == at_once.rows(f"FROM {table} ORDER BY ALL")


def test_shares_of_causes_add_up_to_the_waste_of_their_run() -> None:
    same = ("tool", "get", 0, True)
    steps = [("chat", "m", (1_000, 100), False), same, ("chat", "m", (1_200, 90), False), same, same]
    with analysed(trace(0, "a", [*steps, ("chat", "m", (1_400, 10), True)])) as (_, analysis):
        [(waste, shares, causes)] = analysis.rows(
            "SELECT waste_a_usd + waste_b_usd + waste_c_usd, (SELECT sum(share_usd) FROM causes), "
            "(SELECT count(*) FROM causes) FROM runs"
        )
        assert causes
        assert shares == pytest.approx(float(waste))


def test_two_processes_say_what_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [("chat", "m", (1_000, 100), False), ("tool", "get", 0, False), ("tool", "get", 0, False)]
    payloads = [payload for number in range(12) for payload in trace(number, f"task {number // 2}", steps)]
    payloads += [outcome(number, f"task {number}", "succeeded") for number in range(4)]
    with analysed(payloads) as (db, alone):
        monkeypatch.setattr(building, "_WORTH_A_PROCESS", 1)
        together = analyse(db, PRICES, processes=2)
        assert together.summary == alone.summary
        assert together.ledger == alone.ledger
        columns = "SELECT * EXCLUDE run_id FROM runs ORDER BY trace_id"
        assert together.rows(columns) == alone.rows(columns)
        assert together.rows("SELECT run_id FROM runs ORDER BY 1") == [(number,) for number in range(12)]
        of_runs = "SELECT trace_id, cause, usd FROM causes JOIN runs USING (run_id) ORDER BY ALL"
        assert together.rows(of_runs) == alone.rows(of_runs)
        together.close()


def test_a_trace_is_read_with_the_outcomes_of_its_tasks_and_no_others() -> None:
    first, second = (number.to_bytes(16) for number in (1, 2))
    payloads = [*trace(0, "a", []), *trace(1, None, []), *trace(2, "c", [])]
    payloads += [
        outcome(1, "a", "failed"),
        outcome(2, "a", "succeeded"),
        outcome(3, "b", "failed", second),
        outcome(4, "b", "harmful"),
        outcome(5, "c", "failed"),
    ]
    with analysed(payloads) as (db, _), TraceStore(db, read_only=True) as store:
        everything = list(store.trajectories())
        for number, trace_id in enumerate((first.hex(), second.hex())):
            assert list(store.trajectories(traces=[trace_id])) == [everything[number]]
        tasks = latest_outcomes(store.outcomes(traces=[second.hex()]))
        assert {task: judged.status.value for task, judged in tasks.items()} == {"b": "harmful"}

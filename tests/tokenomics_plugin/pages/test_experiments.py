"""Experiments on the engineering page, from spans in a store."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from report_stores import PRICES, START
from tokenomics_plugin import semconv
from tokenomics_plugin.analysis import analyse
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.pages.experiments import experiments_section
from tokenomics_plugin.report.document import IntervalChart, Section
from tokenomics_plugin.store import Payload, TraceStore

PLANTED = 0.3
"""What going on adds to the probability of success."""


def attributes(values: dict[str, Any]) -> list[KeyValue]:
    return [
        KeyValue(
            key=name,
            value=AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=str(value)),
        )
        for name, value in values.items()
    ]


def section_of(path: Path, tasks: int, mode: str = "enforce") -> Section:
    """The section about tasks at which chance left a step out three times in ten."""
    rng, spans, logs = random.Random(5), ExportTraceServiceRequest(), ExportLogsServiceRequest()
    out, records = spans.resource_spans.add().scope_spans.add().spans, logs.resource_logs.add().scope_logs.add()
    for number in range(tasks):
        goes_on, task_id = rng.random() < 0.7, f"task-{number}"
        span = out.add(trace_id=rng.randbytes(16), span_id=rng.randbytes(8), name="chat", start_time_unix_nano=START)
        span.attributes.extend(attributes({semconv.TASK_ID: task_id, semconv.GEN_AI_OPERATION_NAME: "invoke_agent"}))
        decision = {
            semconv.POLICY_RULE: "explore",
            semconv.POLICY_MODE: mode,
            semconv.POLICY_ACTION: "go_on" if goes_on else "stop",
            semconv.POLICY_REASON: "chance",
            semconv.POLICY_PROPENSITY: 0.7,
            semconv.POLICY_DECISION: "reflect",
        }
        event = span.events.add(name=semconv.EVENT_POLICY_DECISION, time_unix_nano=START)
        event.attributes.extend(attributes(decision))
        status = "succeeded" if rng.random() < 0.4 + PLANTED * goes_on else "failed"
        record = records.log_records.add(time_unix_nano=START, event_name=semconv.EVENT_EVALUATION_RESULT)
        record.attributes.extend(attributes({semconv.TASK_ID: task_id, semconv.OUTCOME_STATUS: status}))
    with TraceStore(path) as store:
        store.load([Payload(Signal.TRACES, spans.SerializeToString()), Payload(Signal.LOGS, logs.SerializeToString())])
    return experiments_section(analyse(path, PRICES))


def effects(section: Section) -> IntervalChart:
    chart = section.blocks[0]
    assert isinstance(chart, IntervalChart)
    return chart


def test_a_planted_effect_is_found_from_recorded_spans(tmp_path: Path) -> None:
    (row,) = effects(section_of(tmp_path / "store.duckdb", 800)).rows
    assert row.name.text == "reflect"
    assert row.low is not None
    assert row.high is not None
    assert 0 < row.low < PLANTED < row.high


def test_few_decisions_are_counted_and_no_effect_is_claimed(tmp_path: Path) -> None:
    (row,) = effects(section_of(tmp_path / "store.duckdb", 12)).rows
    assert row.estimate is None
    assert "too few to say: 12 judged decisions" in row.figure.text


@pytest.mark.parametrize("tasks", [0, 200], ids=["nothing-recorded", "shadow-only"])
def test_what_chance_did_not_decide_is_no_experiment(tmp_path: Path, tasks: int) -> None:
    chart = effects(section_of(tmp_path / "store.duckdb", tasks, mode="shadow"))
    assert chart.rows == ()
    assert "No decision was left to chance" in chart.empty

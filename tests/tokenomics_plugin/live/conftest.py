"""A store with everything that lists and pages show, and its analysis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from report_stores import CASES, PRICES, START, stored
from tokenomics_plugin.analysis import Analysis, analyse


@pytest.fixture(scope="session")
def busy_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty tasks of two agents, some of them failed, harmful or open."""
    return stored(CASES["failures_and_pending"](), tmp_path_factory.mktemp("live") / "busy.duckdb")


@pytest.fixture(scope="session")
def busy(busy_store: Path) -> Iterator[Analysis]:
    analysis = analyse(busy_store, PRICES)
    yield analysis
    analysis.close()


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analysis]:
    analysis = analyse(stored(CASES["hostile"](), tmp_path_factory.mktemp("live") / "hostile.duckdb"), PRICES)
    yield analysis
    analysis.close()


@pytest.fixture
def one_more_run() -> bytes:
    """An export request of one more run."""
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(trace_id=b"\xee" * 16, span_id=b"\xee" * 8, name="invoke_agent late", start_time_unix_nano=START)
    )
    span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    span.attributes.add(key="tokenomics.task.id").value.string_value = "late"
    return request.SerializeToString()

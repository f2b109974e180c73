from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tokenomics_plugin import semconv
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.store import TraceStore
from tokenomics_plugin.usage import TokenUsage

LATEST = 2**63 - 2

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # protobuf holds no lone surrogates
TIMES = st.integers(0, LATEST)
COUNTS = st.none() | st.integers(-(2**63), 2**63 - 1)
IDS = st.integers(1, 2**64 - 1)


@st.composite
def records(draw: st.DrawFn) -> SpanRecord:
    """A span as reports see it; `as_span` says how it looks on the wire."""
    start, end = sorted((draw(TIMES), draw(TIMES)))
    optional = st.none() | TEXTS.filter(bool)
    counts = draw(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS))
    return SpanRecord(
        trace_id=f"{draw(st.integers(1, 2**128 - 1)):032x}",
        span_id=f"{draw(IDS):016x}",
        parent_span_id=draw(st.none() | IDS.map("{:016x}".format)),
        name=draw(TEXTS),
        service_name=draw(TEXTS),
        start_unix_nano=start,
        duration_nano=end - start,
        status=draw(st.sampled_from(["Unset", "Ok", "Error"])),
        error_type=draw(optional),
        operation=draw(optional),
        provider=draw(optional),
        request_model=draw(optional),
        response_model=draw(optional),
        agent_name=draw(optional),
        tool_name=draw(optional),
        conversation_id=draw(optional),
        task_id=draw(optional),
        task_group=draw(optional),
        usage=None if counts == (None,) * 5 else usage(*counts),
        time_to_first_chunk_s=draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    ), counts


def usage(*counts: int | None) -> TokenUsage:
    return TokenUsage.from_inclusive(
        input_tokens=counts[0],
        output_tokens=counts[1],
        cache_read_tokens=counts[2],
        cache_write_tokens=counts[3],
        reasoning_tokens=counts[4],
    )

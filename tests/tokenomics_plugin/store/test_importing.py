from __future__ import annotations

import gzip
import io
import json
import os
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint

from tokenomics_plugin.otlp_json import parse_protobuf, to_json
from tokenomics_plugin.store import LoadCounts, TraceStore, import_otlp_json, importing


def line(payload: Any) -> bytes:
    return to_json(parse_protobuf(payload.body, payload.signal)).encode()


@pytest.fixture
def lines(otlp: Any) -> list[bytes]:
    """One line of each signal."""
    point = NumberDataPoint(as_int=1)
    return [
        line(otlp.traces(otlp.span(1), otlp.span(2))),
        line(otlp.logs(otlp.log())),
        line(otlp.metrics(Metric(name="m", gauge=Gauge(data_points=[point])))),
    ]


EVERYTHING = LoadCounts(spans=2, logs=1, metric_points=1)


@pytest.mark.parametrize(
    "joined",
    [
        pytest.param(lambda lines: b"\n".join(lines) + b"\n", id="lines"),
        pytest.param(lambda lines: b"\n".join(lines), id="no-newline-at-the-end"),
        pytest.param(lambda lines: b"\r\n".join(lines) + b"\r\n", id="crlf"),
        pytest.param(lambda lines: b"\n\n \n".join(lines) + b"\n\n", id="blank-lines"),
        pytest.param(lambda lines: b"\xef\xbb\xbf" + b"\n".join(lines), id="byte-order-mark"),
        pytest.param(lambda lines: gzip.compress(b"\n".join(lines)), id="gzip"),
        pytest.param(lambda lines: b"".join(gzip.compress(line + b"\n") for line in lines), id="gzip-appended"),
    ],
)
def test_files_of_mixed_signals_are_read(store: TraceStore, lines: list[bytes], joined: Any) -> None:
    result = import_otlp_json(store, io.BytesIO(joined(lines)))

    assert result.counts == EVERYTHING
    assert result.bad_lines == ()
    assert result.summary() == "2 spans, 1 logs, 1 metric points new; 0 there already"


def test_the_same_file_twice_changes_nothing(store: TraceStore, lines: list[bytes]) -> None:
    import_otlp_json(store, io.BytesIO(b"\n".join(lines)))

    result = import_otlp_json(store, io.BytesIO(b"\n".join(lines)))

    assert result.counts == LoadCounts(duplicates=4)


def test_an_item_that_came_as_protobuf_is_known_when_it_comes_as_json(store: TraceStore, otlp: Any) -> None:
    record = otlp.log(attributes={"a": 1, "b": [True, 0.5]}, body=otlp.value({"c": b"\xff"}))
    store.load([otlp.logs(record)])

    assert import_otlp_json(store, io.BytesIO(line(otlp.logs(record)))).counts == LoadCounts(duplicates=1)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(b"{", "not JSON", id="cut-off"),
        pytest.param(b"\xff\xfe", "not JSON", id="not-utf-8"),
        pytest.param(b"[1]", "expected an object with exactly one of resourceSpans", id="no-object"),
        pytest.param(b'{"spans":[]}', "expected an object with exactly one of resourceSpans", id="other-object"),
        pytest.param(b'{"resourceSpans":{}}', "not a opentelemetry", id="wrong-type"),
        pytest.param(b'{"resourceSpans":[{"schemaUrl":"\\ud800"}]}', "not a opentelemetry", id="lone-surrogate"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_in(
    store: TraceStore, lines: list[bytes], bad: bytes, reason: str
) -> None:
    result = import_otlp_json(store, io.BytesIO(b"\n".join([lines[0], bad, *lines[1:]]) + b"\n"))

    assert result.counts == EVERYTHING
    [bad_line] = result.bad_lines
    assert bad_line.number == 2
    assert bad_line.reason.startswith(reason)
    assert result.summary().endswith("; 1 bad lines")


def test_a_last_line_that_was_torn_is_named_as_such(store: TraceStore, lines: list[bytes]) -> None:
    result = import_otlp_json(store, io.BytesIO(b"\n".join([*lines, lines[0][:100]])))

    assert result.counts == EVERYTHING
    [bad_line] = result.bad_lines
    assert bad_line.number == 4
    assert bad_line.reason.startswith("the file ends within this line: not JSON")


def test_an_item_that_is_rejected_is_named_by_its_line(store: TraceStore, otlp: Any) -> None:
    bad = json.loads(line(otlp.traces(otlp.span(1), otlp.span(2))))
    del bad["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"]

    result = import_otlp_json(store, io.BytesIO(json.dumps(bad).encode()))

    assert result.counts.spans == 1
    assert result.counts.rejected.total() == 1
    [bad_line] = result.bad_lines
    assert (bad_line.number, bad_line.reason) == (1, "1 rejected: trace_id must be 16 bytes, not all zero")


def test_a_line_too_long_for_memory_is_named_and_skipped(store: TraceStore, lines: list[bytes]) -> None:
    longest = max(map(len, lines))

    result = import_otlp_json(store, io.BytesIO(b"\n".join([b"x" * (3 * longest), *lines])), max_line_bytes=longest + 1)

    assert result.counts == EVERYTHING
    [bad_line] = result.bad_lines
    assert (bad_line.number, bad_line.reason) == (1, f"longer than {longest + 1} bytes")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-12], id="cut-off"),
        pytest.param(lambda data: data[:-8] + b"\0" * 8, id="wrong-checksum"),
    ],
)
def test_of_a_damaged_gzip_file_what_can_be_read_goes_in(store: TraceStore, otlp: Any, damage: Any) -> None:
    filler = [json.dumps({"resourceSpans": [], "filler": os.urandom(500).hex()}).encode() for _ in range(200)]
    compressed = gzip.compress(b"\n".join([line(otlp.traces(otlp.span(1))), *filler]) + b"\n")

    result = import_otlp_json(store, io.BytesIO(damage(compressed)))

    assert result.counts.spans == 1
    assert "the compressed data is damaged or cut off" in result.bad_lines[-1].reason


def test_thousands_of_bad_lines_are_counted_but_not_all_kept(
    store: TraceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_MAX_BAD_LINES", 10)

    result = import_otlp_json(store, io.BytesIO(b"?\n" * 25))

    assert len(result.bad_lines) == 10
    assert result.bad_line_count == 25


def test_a_file_is_loaded_in_several_transactions(
    store: TraceStore, otlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_BATCH_BYTES", 1)
    lines = [line(otlp.traces(otlp.span(number))) for number in range(1, 6)]

    assert import_otlp_json(store, io.BytesIO(b"\n".join(lines))).counts == LoadCounts(spans=5)


def test_a_pipe_can_be_read(store: TraceStore, lines: list[bytes]) -> None:
    source, sink = os.pipe()
    with open(source, "rb") as file:
        with open(sink, "wb") as pipe:
            pipe.write(b"\n".join(lines))

        assert import_otlp_json(store, file).counts == EVERYTHING

"""From a store to the two files, as somebody finds them who fine-tunes on them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from captured_runs import PRICE, CapturedRuns, asks, said
from tokenomics_plugin.dataset import DatasetError, DatasetExport, DatasetOptions, export_dataset
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.store import Payload, TraceStore

ALL = DatasetOptions(held_out=0)


@pytest.fixture
def runs() -> CapturedRuns:
    return CapturedRuns()


def export(runs: CapturedRuns, folder: Path, options: DatasetOptions = ALL) -> DatasetExport:
    db = runs.stored(folder / "traces.duckdb")
    return export_dataset(db, folder / "set.jsonl", PriceBook.from_toml(PRICE), options=options)


def lines(path: Path | None) -> list[Any]:
    assert path is not None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_becomes_a_line_in_the_form_that_models_are_fine_tuned_on(runs: CapturedRuns, tmp_path: Path) -> None:
    answers = (asks("id-7", {"item": "pén"}), said("It costs 3."))
    runs.succeeds("t1", *answers, results=["3"], group="prices")

    (line,) = lines(export(runs, tmp_path).train)

    call = {"id": "call_1", "type": "function", "function": {"name": "price", "arguments": '{"item": "pén"}'}}
    assert line == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What does a pen cost?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "3"},
            {"role": "assistant", "content": "It costs 3."},
        ],
        "tools": [
            {"type": "function", "function": {"name": "price", "parameters": {"type": "object", "properties": {}}}}
        ],
        "metadata": {
            "task_id": "t1",
            "group": "prices",
            "trace_id": f"{1:032x}",
            "net_value_usd": "0.008",
            "tokens": 2000,
            "net_value_usd_per_million_tokens": 4.0,
        },
    }


def test_every_task_is_counted_once_under_the_first_reason(runs: CapturedRuns, tmp_path: Path) -> None:
    good = said("3")
    runs.succeeds("kept", good)
    runs.succeeds("again", good, tokens=2_000)
    runs.succeeds("no content", good, capture=False)
    runs.succeeds("no value", good, value=None)
    runs.succeeds("no price", good, more={"gen_ai.request.model": "m-2"})
    runs.succeeds("dear", good, tokens=10_000)
    runs.succeeds("cut off", said("3 and", finish_reason="length"))
    with runs.task("failed", value=1) as task:
        runs.run(good)
        task.fail()
    with runs.task("pending"):
        runs.run(good)
    runs.run(good)

    exported = export(runs, tmp_path)

    assert exported.summary().splitlines()[0] == "10 tasks: 1 kept, 9 left out"
    assert {reason.name: count for reason, count in exported.selection.left_out.items()} == dict.fromkeys(
        [
            "UNLABELLED",
            "PENDING",
            "FAILED",
            "NO_CONTENT",
            "VALUE_UNKNOWN",
            "COST_UNKNOWN",
            "NOT_WORTH_IT",
            "NOTHING_WHOLE",
            "DUPLICATE",
        ],
        1,
    )


def test_what_was_redacted_stays_redacted(runs: CapturedRuns, tmp_path: Path) -> None:
    runs.succeeds("words", said("[name] pays 3"))
    runs.succeeds("all", said("secret"), more={"gen_ai.output.messages": "[REDACTED]"})

    exported = export(runs, tmp_path)

    assert [line["messages"][-1]["content"] for line in lines(exported.train)] == ["[name] pays 3"]
    assert "1 without content" in exported.summary()


def test_of_a_task_that_was_tried_again_the_failed_attempt_is_not_learned(runs: CapturedRuns, tmp_path: Path) -> None:
    with runs.task("t1", value=1) as task:
        runs.run(said("5"))
        task.fail()
    with runs.task("t1", value=1) as task:
        runs.run(said("3"))
        task.succeed()

    (line,) = lines(export(runs, tmp_path).train)

    assert line["messages"][-1]["content"] == "3"
    assert line["metadata"]["tokens"] == 2_000  # both attempts were paid for


def test_the_sides_share_no_task_and_together_they_are_all(runs: CapturedRuns, tmp_path: Path) -> None:
    for number in range(40):
        runs.succeeds(f"t{number}", said(str(number)), question=f"What is {number}?", group=f"g{number // 2}")

    exported = export(runs, tmp_path, DatasetOptions(held_out=0.3))

    train, held_out = (
        {line["metadata"]["group"] for line in lines(path)} for path in (exported.train, exported.held_out)
    )
    assert not train & held_out
    assert train | held_out == {f"g{number}" for number in range(20)}
    assert exported.held_out == tmp_path / "set.held-out.jsonl"
    assert re.search(r"conversations to learn: .*set\.jsonl\n\d+ held out: ", exported.summary())


def test_a_held_out_file_of_an_earlier_export_does_not_stay(runs: CapturedRuns, tmp_path: Path) -> None:
    runs.succeeds("t1", said("3"))
    (tmp_path / "set.held-out.jsonl").write_text("{}", encoding="utf-8")

    assert export(runs, tmp_path).held_out is None
    assert not (tmp_path / "set.held-out.jsonl").exists()


def test_without_content_the_error_says_how_to_capture_it(runs: CapturedRuns, tmp_path: Path) -> None:
    runs.succeeds("t1", said("3"), capture=False)

    with pytest.raises(DatasetError, match="OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY"):
        export(runs, tmp_path)
    assert not (tmp_path / "set.jsonl").exists()


@pytest.mark.parametrize(
    ("value", "share", "message"),
    [(0, 0.0, "1 not worth the cost"), (1, 0.999999, "held out: hold out a smaller share")],
    ids=["nothing worth it", "all held out"],
)
def test_an_empty_set_is_an_error_and_no_file(
    runs: CapturedRuns, tmp_path: Path, value: int, share: float, message: str
) -> None:
    runs.succeeds("t1", said("3"), value=value)

    with pytest.raises(DatasetError, match=message):
        export(runs, tmp_path, DatasetOptions(held_out=share))
    assert not (tmp_path / "set.jsonl").exists()


def test_content_on_an_event_is_read_as_well(runs: CapturedRuns, tmp_path: Path) -> None:
    runs.succeeds("t1", said("3"), capture=False)
    (call,) = (span for span in runs.exporter.get_finished_spans() if span.name == "chat m-1")
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1)
    record.event_name = "gen_ai.client.inference.operation.details"
    assert call.context is not None
    record.trace_id, record.span_id = call.context.trace_id.to_bytes(16), call.context.span_id.to_bytes(8)
    for name, message in (("input", {"role": "user"}), ("output", {"role": "assistant", "finish_reason": "stop"})):
        messages = json.dumps([message | {"parts": [{"type": "text", "content": name}]}])
        record.attributes.append(KeyValue(key=f"gen_ai.{name}.messages", value=AnyValue(string_value=messages)))
    with TraceStore(tmp_path / "traces.duckdb") as store:
        store.load([Payload(Signal.LOGS, request.SerializeToString())])

    (line,) = lines(export(runs, tmp_path).train)

    assert [message["content"] for message in line["messages"]] == ["input", "output"]

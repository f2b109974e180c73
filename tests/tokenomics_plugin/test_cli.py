"""The command line as a user calls it, in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from opentelemetry._logs import LoggerProvider
from opentelemetry.sdk._logs import LoggerProvider as SdkLoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from captured_runs import PRICE, CapturedRuns, said
from tokenomics_plugin.exporters import OtlpJsonFileLogExporter, OtlpJsonFileSpanExporter
from tokenomics_plugin.tasks import task

COMMAND = [sys.executable, "-m", "tokenomics_plugin.cli"]
PRICES = """
[[price]]
provider = "acme"
model = "m-1"
input = "1.00"
output = "2.00"
"""


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Twelve tasks of one model call each, the even ones failed, as OTLP JSON lines."""
    path = tmp_path / "telemetry.jsonl"
    traces, logs = TracerProvider(), SdkLoggerProvider()
    traces.add_span_processor(SimpleSpanProcessor(OtlpJsonFileSpanExporter(path)))
    logs.add_log_record_processor(SimpleLogRecordProcessor(OtlpJsonFileLogExporter(path)))
    for number in range(12):
        one_task(f"t{number}", succeeds=bool(number % 2), traces=traces, logs=logs)
    traces.shutdown()
    logs.shutdown()
    return path


def one_task(task_id: str, *, succeeds: bool, traces: TracerProvider, logs: LoggerProvider) -> None:
    attributes: dict[str, str | int] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "m-1",
        "gen_ai.usage.input_tokens": 1_000_000,
        "gen_ai.usage.output_tokens": 500_000,
    }
    with task(task_id, value=5, tracer_provider=traces, logger_provider=logs) as current:
        traces.get_tracer("test").start_span("chat m-1", attributes=attributes).end()
        if succeeds:
            current.succeed()
        else:
            current.fail()


def test_a_recorded_file_becomes_a_report_with_the_prices_of_ones_own(tmp_path: Path, recorded: Path) -> None:
    (tmp_path / "prices.toml").write_text(PRICES, encoding="utf-8")

    imported = run("import", recorded, cwd=tmp_path)
    reported = run("report", "--format", "json", "--prices", "prices.toml", cwd=tmp_path)

    assert (imported.returncode, imported.stderr) == (0, "")
    assert "24 spans, 12 logs" in imported.stdout
    assert (reported.returncode, reported.stderr) == (0, "")
    assert Decimal(json.loads(reported.stdout)["total"]["cost_usd"]) == 24


def test_importing_a_file_twice_counts_it_once(tmp_path: Path, recorded: Path) -> None:
    run("import", recorded, cwd=tmp_path)
    again = run("import", recorded, cwd=tmp_path)

    assert "0 spans, 0 logs, 0 metric points new; 36 there already" in again.stdout


def test_bad_lines_are_named_and_the_rest_goes_in(tmp_path: Path, recorded: Path) -> None:
    lines = recorded.read_text(encoding="utf-8").splitlines()
    recorded.write_text("\n".join(["not json", *lines, '{"resourceSpans"']), encoding="utf-8")

    imported = run("import", recorded, cwd=tmp_path)

    assert imported.returncode == 1
    assert f"{recorded}:1: not JSON" in imported.stderr
    assert f"{recorded}:{len(lines) + 2}: the file ends within this line" in imported.stderr
    assert "24 spans, 12 logs, 0 metric points new; 0 there already; 2 bad lines" in imported.stdout


def test_a_chat_log_becomes_a_report_with_the_costs_that_it_says(tmp_path: Path) -> None:
    said = {"role": "assistant", "usage": {"prompt_tokens": 9, "completion_tokens": 1, "cost": 0.25}}
    runs = [{"task_id": f"t{n}", "messages": [said, said], "outcome": {"success": n < 8}} for n in range(12)]
    lines = [*map(json.dumps, runs), json.dumps({"task_id": "t", "messages": [{"role": "bot"}]})]
    (tmp_path / "runs.jsonl").write_text("\n".join(lines), encoding="utf-8")

    imported = run("import", "--format", "chat", "runs.jsonl", cwd=tmp_path)
    report = json.loads(run("report", "--format", "json", cwd=tmp_path).stdout)

    assert imported.returncode == 1
    assert "runs.jsonl:13: messages[0].role must be one of system" in imported.stderr
    assert "runs.jsonl: 48 spans, 12 logs, 0 metric points new; 0 there already; 1 bad lines" in imported.stdout
    assert report["total"]["calls"] == 24
    assert Decimal(report["total"]["cost_usd"]) == 6
    assert [task["status"] for task in report["tasks"]].count("succeeded") == 8


def test_what_an_import_had_to_leave_unknown_is_told(tmp_path: Path) -> None:
    run_without_usage = {"task_id": "t", "messages": [{"role": "assistant"}]}
    (tmp_path / "runs.jsonl").write_text(json.dumps(run_without_usage), encoding="utf-8")

    imported = run("import", "--format", "chat", "runs.jsonl", cwd=tmp_path)

    assert (imported.returncode, imported.stderr) == (0, "")
    assert "\n  1 model calls without token counts: unknown, not 0\n" in imported.stdout


def test_a_person_sees_how_far_an_import_is(tmp_path: Path, recorded: Path) -> None:
    terminal, stderr = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "import", recorded], cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60
    )
    os.close(stderr)

    assert "24 spans, 12 logs" in done.stdout
    assert b"100%" in os.read(terminal, 65_536)
    os.close(terminal)


@pytest.mark.parametrize("form", ["text", "html"])
def test_a_report_goes_where_it_is_told(tmp_path: Path, recorded: Path, form: str) -> None:
    run("import", recorded, cwd=tmp_path)
    reported = run("report", "--format", form, "-o", "report.out", cwd=tmp_path)

    assert (reported.returncode, reported.stdout, reported.stderr) == (0, "", "")
    assert (tmp_path / "report.out").read_text(encoding="utf-8") == run("report", "--format", form, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "--db", "missing.duckdb"], "missing.duckdb"),
        (["report", "--db", "prices.toml"], "prices.toml"),
        (["report", "--prices", "bad.toml"], "bad.toml"),
        (["collect", "--host", "0.0.0.0", "--http-port", "0", "--grpc-port", "0"], "without a bearer token"),
        (["import", "telemetry.jsonl", "--db", "no/such/folder/x.duckdb"], "no/such/folder"),
        (["dataset", "export", "set.jsonl", "--db", "missing.duckdb"], "missing.duckdb"),
    ],
    ids=["no-store", "not-a-store", "bad-prices", "open-to-the-network", "no-folder", "no-store-to-export"],
)
def test_a_wrong_call_gets_one_line_and_no_traceback(
    tmp_path: Path, recorded: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "prices.toml").write_text(PRICES, encoding="utf-8")
    (tmp_path / "bad.toml").write_text("[[price]]\nmodel = 1", encoding="utf-8")

    done = run(*arguments, cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_was_worth_it_becomes_a_fine_tuning_set(tmp_path: Path) -> None:
    runs = CapturedRuns()
    for number in range(12):
        runs.succeeds(f"t{number}", said(str(number)), question=f"What is {number}?")
    runs.stored(tmp_path / "tokenomics.duckdb")

    done = run("dataset", "export", "--prices", PRICE, "--max-tasks", "10", "set.jsonl", cwd=tmp_path)

    counted, reason, learned, judged = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert counted == "12 tasks: 10 kept, 2 left out"
    assert reason == "  2 beyond the budget"
    files = {line.partition(": ")[2]: int(line.partition(" ")[0]) for line in (learned, judged)}
    assert files.keys() == {"set.jsonl", "set.held-out.jsonl"}
    assert sum(files.values()) == 10
    for name, count in files.items():
        assert len((tmp_path / name).read_text(encoding="utf-8").splitlines()) == count


def test_what_is_collected_until_an_interrupt_is_in_the_report(tmp_path: Path) -> None:
    command = [*COMMAND, "collect", "--db", "x.duckdb", "--http-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        send_one_task(dict(word.split("=", 1) for word in words[1:]))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    reported = run("report", "--db", "x.duckdb", "--format", "json", cwd=tmp_path)

    assert (words[0], process.returncode, errors) == ("listening", 0, "")
    assert [task["status"] for task in json.loads(reported.stdout)["tasks"]] == ["succeeded"]


def send_one_task(addresses: dict[str, str]) -> None:
    program = (
        "import sys, tokenomics_plugin as tp\n"
        "tp.configure(endpoint=sys.argv[1])\n"
        "with tp.task('t1') as task: task.succeed()"
    )
    subprocess.run([sys.executable, "-c", program, f"http://{addresses['http']}"], check=True, timeout=60)

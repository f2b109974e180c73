"""The examples run, and say what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tokenomics_plugin.collector import Collector, CollectorConfig
from tokenomics_plugin.store import TraceStore

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.timeout(600)  # a real model, on whatever else the machine does
def test_the_quickstart_reports_what_it_counted_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py", "3"], cwd=tmp_path, capture_output=True, text=True, timeout=580
    )

    assert done.returncode == 0, done.stderr
    assert "6 tasks, 6 traces" in done.stdout
    assert done.stdout.count("agree") == 12
    assert "Waste by cause" in done.stdout
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Later attempts, tools: 2 tool_retry." in page
    assert "shop assistant, 2-bit cache" in page
    assert "<caption>Repeats</caption>" in page
    assert "D1 exact duplicate read" in page


def test_an_untouched_program_is_traced_by_the_command_that_runs_it(tmp_path: Path) -> None:
    db, program = tmp_path / "traces.duckdb", EXAMPLES / "untouched_agent.py"
    untraced = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=True)

    with Collector(CollectorConfig(db=db, http_port=0, grpc_port=0)) as addresses:
        traced = subprocess.run(
            [Path(sys.executable).parent / "opentelemetry-instrument", sys.executable, program],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{addresses.grpc}", "OTEL_SERVICE_NAME": "shop"},
        )

    assert (traced.returncode, traced.stdout) == (0, untraced.stdout), traced.stderr
    assert untraced.stdout.count("5 of them cost $125.") == 2
    with TraceStore(db, read_only=True) as store:
        spans = list(store.spans())
    names = {span.span_id: span.name for span in spans}
    parents = sorted((span.name, names.get(span.parent_span_id or "")) for span in spans)
    one_run = [
        ("chat scripted-1", "invoke_agent shopkeeper"),
        ("chat scripted-1", "invoke_agent shopkeeper"),
        ("execute_tool price_of", "invoke_agent shopkeeper"),
        ("execute_tool stock_of", "invoke_agent shopkeeper"),
        ("invoke_agent shopkeeper", None),
        ("query stock", "execute_tool stock_of"),
    ]
    assert parents == sorted(one_run * 2, key=lambda pair: (pair[0], pair[1] or ""))
    assert len({span.trace_id for span in spans}) == 2


def test_policies_only_say_what_they_would_do_until_they_are_told_to() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "policies.py"], capture_output=True, text=True, timeout=120, check=True
    )
    shadow, enforced = (line.split()[1:] for line in done.stdout.splitlines())
    assert shadow == ["memo:answer", "memo:answer", "loop:stop", "memo:answer", "loop:stop", "memo:answer", "loop:stop"]
    assert enforced == ["memo:answer", "memo:answer", "loop:stop"]

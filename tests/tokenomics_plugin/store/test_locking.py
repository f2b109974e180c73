from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tokenomics_plugin.errors import StoreError
from tokenomics_plugin.store import TraceStore

Start = Callable[..., "subprocess.Popen[str]"]

HOLD = """
with TraceStore(sys.argv[1], read_only=sys.argv[2] == "reader") as store:
    print("open", flush=True)
    sys.stdin.readline()
"""
LOAD_ONE_AFTER_THE_OTHER = """
print("ready", flush=True)
sys.stdin.readline()
for body in map(bytes.fromhex, sys.argv[2:]):
    with TraceStore(sys.argv[1]) as store:
        store.load([Payload(Signal.TRACES, body)])
    time.sleep(0.02)
"""
LOAD_FOREVER = """
def payloads():
    for number in itertools.count(1):
        yield Payload(Signal.TRACES, span(number).SerializeToString())
        if number % 5_000 == 0:
            print(number, flush=True)
trace_store._INSERT_ROWS = 1_000
with TraceStore(sys.argv[1]) as store:
    store.load([Payload(Signal.TRACES, span(2**32).SerializeToString())])
    store.load(payloads())
"""
IMPORTS = """
import itertools, sys, time
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.store import Payload, TraceStore, trace_store

def span(number):
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, span_id=number.to_bytes(8))
    return request
"""


@pytest.fixture
def start(db: Path) -> Iterator[Start]:
    """Run a script beside the test, with the store's path as its first argument."""
    processes: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", IMPORTS + script, str(db), *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("holder", ["writer", "reader"])
def test_a_store_that_another_process_keeps_open_names_that_process(db: Path, start: Start, holder: str) -> None:
    TraceStore(db).close()
    process = start(HOLD, holder)
    assert read_line(process) == "open"

    with pytest.raises(StoreError, match=rf"PID {process.pid}\) has it open, still after 0\.1 s; wait for it"):
        TraceStore(db, lock_timeout_s=0.1)


def test_opening_waits_until_another_process_lets_go(db: Path, start: Start) -> None:
    process = start(HOLD, "writer")
    assert read_line(process) == "open"
    threading.Timer(0.3, let_go, [process]).start()

    with TraceStore(db, lock_timeout_s=30) as store:
        assert list(store.spans()) == []


def test_several_processes_may_read_at_once(db: Path, start: Start) -> None:
    TraceStore(db).close()
    assert read_line(start(HOLD, "reader")) == "open"

    with TraceStore(db, read_only=True, lock_timeout_s=0) as store:
        assert list(store.spans()) == []


def test_this_process_itself_is_named_when_it_has_the_store_open_otherwise(db: Path) -> None:
    with TraceStore(db), pytest.raises(StoreError, match=r"this process has it open, still after 0 s"):
        TraceStore(db, read_only=True, lock_timeout_s=0)


def test_a_store_can_be_read_while_another_process_loads(db: Path, start: Start, otlp: Any) -> None:
    TraceStore(db).close()
    bodies = [otlp.traces(otlp.span(number)).body.hex() for number in range(1, 6)]
    process = start(LOAD_ONE_AFTER_THE_OTHER, *bodies)
    assert read_line(process) == "ready"
    let_go(process)

    seen = []
    while process.poll() is None:
        with TraceStore(db, read_only=True) as store:
            seen.append(len(list(store.spans())))
        time.sleep(0.02)

    assert process.returncode == 0
    assert seen == sorted(seen)
    with TraceStore(db, read_only=True) as store:
        assert len(list(store.spans())) == 5


def test_processes_that_start_at_the_same_moment_make_one_store(db: Path, start: Start, otlp: Any) -> None:
    processes = [start(LOAD_ONE_AFTER_THE_OTHER, otlp.traces(otlp.span(number)).body.hex()) for number in (1, 2)]
    for process in processes:
        assert read_line(process) == "ready"
    for process in processes:
        let_go(process)
    for process in processes:
        assert process.wait() == 0

    with TraceStore(db) as store:
        assert len(list(store.spans())) == 2


def test_after_a_kill_the_store_holds_whole_loads_only(db: Path, start: Start, otlp: Any) -> None:
    process = start(LOAD_FOREVER)
    while read_line(process) != "10000":
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    with TraceStore(db, read_only=True) as store:
        assert [span.span_id for span in store.spans()] == [f"{2**32:016x}"]
    with TraceStore(db) as store:
        assert store.load([otlp.traces(otlp.span(1))]).spans == 1

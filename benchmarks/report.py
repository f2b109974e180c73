"""How long it takes from spans to a report, and how fast the report's pages answer, at 10,000 to 1,000,000 spans.

Synthetic agents of ten spans a run: five model calls that carry a growing context, four tools, some of which fail or
repeat a read; nine tasks of ten are judged. Their export requests are loaded into a store as the collector loads
them, the store is analysed and the three pages are made as its live pages make them, and then each view is asked for
several times: pages, lists that are sorted, filtered and searched, and the look into one trace.

Wall time is what is promised; on a machine that does other work it says little, so the CPU time of all processes
stands beside it, and its half, which is what two idle cores would take.

The table is for people; the last line of stdout is one JSON document with the same figures and the checks. The exit
status is 1 if a check does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from closing import Check, close
from tokenomics_plugin import semconv
from tokenomics_plugin.context_blocks import ContextBlock, ContextDelta
from tokenomics_plugin.live.analyst import Analyst
from tokenomics_plugin.live.exchange import Question, Settings
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.store import Payload, TraceStore, collect_rarely

TEMPLATES = 200
TURNS = 5
SPANS_A_RUN = 2 * TURNS
START_NS = 1_790_000_000 * 10**9
# Stand in a prebuilt request for the number of its copy: the second half of trace ids, and the end of task ids.
TRACE_PLACEHOLDER, TASK_PLACEHOLDER = b"\xa5\x5a\xa5\x5a\xa5\x5a\xa5\x5a", b"@@@@@@@@"
TIME_GOAL_S, RSS_GOAL_BYTES, VIEW_GOAL_S, GROWTH_GOAL = 120, 2 * 2**30, 1.0, 1.25
VIEWS = {
    "finance": ("finance", {}),
    "engineering": ("engineering", {}),
    "developer": ("developer", {}),
    "runs, newest": ("runs", {}),
    "runs, most waste, failed": ("runs", {"sort": "most waste", "outcome": "fail"}),
    "runs, by agent and tool": ("runs", {"agent": "agent-3", "tool": "get_order", "sort": "dearest"}),
    "runs, searched": ("runs", {"q": "task-017-0000001"}),
    "runs, last page": ("runs", {"page": "150"}),
    "findings of a cause": ("findings", {"cause": "D4", "sort": "dearest"}),
    "tasks, dearest": ("tasks", {}),
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One size of a store."""

    spans: int
    runs: int
    ingest_s: float
    ingest_cpu_s: float
    report_s: float
    report_cpu_s: float
    peak_rss_bytes: int
    views_s: dict[str, float]

    @property
    def wall_s(self) -> float:
        """From the first request to the pages."""
        return self.ingest_s + self.report_s

    @property
    def cpu_s(self) -> float:
        """The same in CPU time of all processes."""
        return self.ingest_cpu_s + self.report_cpu_s


class Memory:
    """The most that this process and its children held together."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stopping.wait(0.2):
            self.peak_bytes = max(self.peak_bytes, sum(map(_rss, [me, *me.children(recursive=True)])))


def _rss(process: psutil.Process) -> int:
    try:
        held: int = process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
    return held


def cpu_s() -> float:
    """CPU time of this process and of its children, those that run and those that have ended."""
    here = os.times()
    alive = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            alive += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return here.user + here.system + here.children_user + here.children_system + alive


def templates() -> tuple[bytes, bytes]:
    """One export request of spans and one of outcomes, with placeholders for the copy's number."""
    rng = random.Random(7)
    spans, outcomes = ExportTraceServiceRequest(), ExportLogsServiceRequest()
    out_spans = spans.resource_spans.add().scope_spans.add().spans
    out_logs = outcomes.resource_logs.add().scope_logs.add().log_records
    for number in range(TEMPLATES):
        task = f"task-{number:03}-{TASK_PLACEHOLDER.decode()}"
        for fields, attributes in agent_run(rng, number):
            span = out_spans.add(trace_id=(number + 1).to_bytes(8, "big") + TRACE_PLACEHOLDER, **fields)
            of_task = {semconv.TASK_ID: task, semconv.TASK_GROUP: f"g{number % 50}"}
            span.attributes.extend(map(key_value, {**attributes, **of_task}.items()))
        if number % 10:
            record = out_logs.add(time_unix_nano=START_NS, event_name=semconv.EVENT_EVALUATION_RESULT)
            status = "succeeded" if rng.random() < 0.6 else "failed"
            outcome = {semconv.TASK_ID: task, semconv.OUTCOME_STATUS: status, semconv.OUTCOME_VALUE: "2.0"}
            record.attributes.extend(map(key_value, outcome.items()))
    return spans.SerializeToString(), outcomes.SerializeToString()


def agent_run(rng: random.Random, number: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Spans of one run, as fields and attributes."""
    start, agent = START_NS + number * 10**12, f"agent-{number % 7}"
    root = rng.randbytes(8)
    yield (
        _span(root, b"", f"invoke_agent {agent}", start, TURNS * 10**9),
        {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_INVOKE_AGENT,
            semconv.GEN_AI_AGENT_NAME: agent,
        },
    )
    blocks = [_block(rng, "system", 4_000), _block(rng, "user", rng.randint(50, 2_000))]
    previous, before, cached = None, list[ContextBlock](), 0
    for turn in range(TURNS):
        call, at = rng.randbytes(8), start + turn * 10**9
        sent, answered = sum(block.size or 0 for block in blocks) // 4 + 120, rng.randint(20, 400)
        delta, answer = ContextDelta.between(blocks, previous=previous, before=before), _hash(rng)
        yield (
            _span(call, root, "chat gpt-4o", at, 5 * 10**8),
            {
                semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_CHAT,
                semconv.GEN_AI_PROVIDER_NAME: "openai",
                semconv.GEN_AI_REQUEST_MODEL: "gpt-4o",
                semconv.GEN_AI_RESPONSE_MODEL: "gpt-4o-2024-08-06",
                semconv.GEN_AI_USAGE_INPUT_TOKENS: sent,
                semconv.GEN_AI_USAGE_OUTPUT_TOKENS: answered,
                semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: min(cached, sent),
                semconv.RESULT_FINGERPRINT: answer,
                semconv.LOGICAL_OPERATION_ID: call.hex(),
                semconv.ATTEMPT_NUMBER: 1,
                **delta.to_attributes(),
            },
        )
        previous, before, cached = call.hex(), list(blocks), sent // 128 * 128
        if turn < TURNS - 1:
            tool, result = rng.randbytes(8), _hash(rng)
            failed = {semconv.ERROR_TYPE: "tool_error"} if rng.random() < 0.05 else {}
            yield (
                _span(tool, root, "execute_tool get_order", at + 6 * 10**8, 10**8),
                {
                    semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_EXECUTE_TOOL,
                    semconv.GEN_AI_TOOL_NAME: rng.choice(["get_user", "get_order", "update_order"]),
                    semconv.ARGUMENTS_FINGERPRINT: _hash(rng),
                    semconv.RESULT_FINGERPRINT: result,
                    semconv.LOGICAL_OPERATION_ID: tool.hex(),
                    semconv.ATTEMPT_NUMBER: 1,
                    **failed,
                },
            )
            blocks = [
                *blocks,
                ContextBlock(hash=answer, role="assistant", size=answered * 4, tokens=answered, producer=call.hex()),
                ContextBlock(hash=result, role="tool", size=rng.randint(20, 3_000), producer=tool.hex()),
            ]


def _span(span_id: bytes, parent: bytes, name: str, start: int, duration: int) -> dict[str, Any]:
    return {
        "span_id": span_id,
        "parent_span_id": parent,
        "name": name,
        "start_time_unix_nano": start,
        "end_time_unix_nano": start + duration,
    }


def _block(rng: random.Random, role: str, size: int) -> ContextBlock:
    return ContextBlock(hash=_hash(rng), role=role, size=size)


def _hash(rng: random.Random) -> str:
    return f"1f2e3d4c:{rng.getrandbits(64):016x}"


def key_value(item: tuple[str, Any]) -> KeyValue:
    """An attribute on the wire."""
    name, value = item
    wire = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    return KeyValue(key=name, value=wire)


def payloads(copies: range) -> Iterator[Payload]:
    """Export requests of so many copies of all templates."""
    spans, outcomes = templates()
    for copy in copies:
        trace, task = copy.to_bytes(8, "big"), b"%08d" % copy
        for signal, body in ((Signal.TRACES, spans), (Signal.LOGS, outcomes)):
            yield Payload(signal, body.replace(TRACE_PLACEHOLDER, trace).replace(TASK_PLACEHOLDER, task))


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), cpu_s()
    work()
    return time.perf_counter() - wall, cpu_s() - cpu


def load(db: Path, copies: int) -> None:
    """Load as the collector's loading process does: some requests in a transaction."""
    collect_rarely()
    batch = 40
    with TraceStore(db) as store:
        for first in range(0, copies, batch):
            store.load(payloads(range(first, min(copies, first + batch))))


def measure(spans: int, folder: Path) -> Measured:
    """One size."""
    copies = spans // (TEMPLATES * SPANS_A_RUN)
    db = folder / f"{spans}.duckdb"
    with Memory() as memory:
        ingest_s, ingest_cpu_s = timed(lambda: load(db, copies))
        analyst = Analyst(Settings.of(db, None))
        report_s, report_cpu_s = timed(lambda: _wait_for_pages(analyst))
        views = {name: _median_time(analyst, view, parameters) for name, (view, parameters) in VIEWS.items()}
        trace_id = (18).to_bytes(8, "big").hex() + (copies // 2).to_bytes(8, "big").hex()
        views["one trace"] = _median_time(analyst, "trace", {}, subject=trace_id)
    return Measured(
        spans=spans,
        runs=copies * TEMPLATES,
        ingest_s=ingest_s,
        ingest_cpu_s=ingest_cpu_s,
        report_s=report_s,
        report_cpu_s=report_cpu_s,
        peak_rss_bytes=memory.peak_bytes,
        views_s=views,
    )


def _wait_for_pages(analyst: Analyst) -> None:
    while analyst.answer(Question(number=0, view="finance")).status == 503:
        pass


def _median_time(analyst: Analyst, view: str, parameters: dict[str, str], *, subject: str = "") -> float:
    times = []
    for number in range(5):
        start = time.perf_counter()
        answer = analyst.answer(Question(number=number, view=view, subject=subject, parameters=parameters))
        times.append(time.perf_counter() - start)
        assert answer.status == 200, answer.body[:500]
    return statistics.median(times)


def checks(sizes: list[Measured]) -> Iterator[Check]:
    smallest, largest = sizes[0], sizes[-1]
    name = f"{largest.spans:,} spans"
    yield Check(
        name=f"seconds from spans to pages, {name}",
        value=largest.wall_s,
        goal=f"under {TIME_GOAL_S}",
        holds=largest.wall_s < TIME_GOAL_S,
    )
    yield Check(
        name=f"the same by CPU time over two cores, {name}",
        value=largest.cpu_s / 2,
        goal=f"under {TIME_GOAL_S}",
        holds=largest.cpu_s / 2 < TIME_GOAL_S,
    )
    yield Check(
        name=f"peak memory of all processes, bytes, {name}",
        value=largest.peak_rss_bytes,
        goal=f"under {RSS_GOAL_BYTES}",
        holds=largest.peak_rss_bytes < RSS_GOAL_BYTES,
    )
    growth = (largest.cpu_s / largest.spans) / (smallest.cpu_s / smallest.spans)
    yield Check(
        name=f"CPU a span at {largest.spans:,} by that at {smallest.spans:,}",
        value=growth,
        goal=f"at most {GROWTH_GOAL}",
        holds=growth <= GROWTH_GOAL,
    )
    slowest = max(largest.views_s, key=lambda view: largest.views_s[view])
    yield Check(
        name=f"seconds of the slowest view, {slowest}, {name}",
        value=largest.views_s[slowest],
        goal=f"under {VIEW_GOAL_S:g}",
        holds=largest.views_s[slowest] < VIEW_GOAL_S,
    )


def show(found: Measured) -> None:
    print(f"{found.spans:,} spans, {found.runs:,} runs, {1e6 * found.cpu_s / found.spans:.0f} us CPU a span")
    for what, wall, cpu in (
        ("loading", found.ingest_s, found.ingest_cpu_s),
        ("report", found.report_s, found.report_cpu_s),
    ):
        print(f"  {what:28}{wall:8.1f} s {cpu:8.1f} s CPU")
    print(f"  {'peak memory':28}{found.peak_rss_bytes / 2**20:8.0f} MiB")
    for view, seconds in found.views_s.items():
        print(f"  {view:28}{1000 * seconds:8.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spans", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="sizes, ascending")
    parser.add_argument("--store", type=Path, help="only make this store, of the first size, and measure nothing")
    arguments = parser.parse_args()
    if arguments.store is not None:
        load(arguments.store, arguments.spans[0] // (TEMPLATES * SPANS_A_RUN))
        return
    sizes = []
    with tempfile.TemporaryDirectory(prefix="tokenomics-bench-") as folder:
        for spans in arguments.spans:
            sizes.append(measure(spans, Path(folder)))
            show(sizes[-1])
    close(
        "report",
        packages=("duckdb", "pyarrow", "numpy"),
        figures={f"{found.spans}": asdict(found) for found in sizes},
        checks=checks(sizes),
    )


if __name__ == "__main__":
    main()

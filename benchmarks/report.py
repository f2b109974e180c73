"""How long a million spans take from requests to the pages of a report, and how much memory, on two cores.

    python benchmarks/report.py [--sizes 10000 100000 1000000]

Requests of synthetic runs are put into a store, analysed in two processes, made pages, and the pages written as text,
JSON and HTML; then the lists of the live pages are sorted, filtered and searched, and one trace is looked into. Each
size has a process of its own, whose memory, with that of its children, is looked at 20 times a second; shared pages
count once for each process, so that is rather too much than too little. Making the requests is not measured.

Wall time is what a reader waits for, but on a busy machine it measures the neighbours too: the time that processors
worked, shared out over two cores, is shown beside it, and is the least that an idle machine could need.

The last line of output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import psutil

from closing import Check, close
from synthetic_traces import RUNS_PER_REQUEST, SPANS_PER_RUN, payloads, trace_id
from tokenomics_plugin.analysis import Analysis, analyse
from tokenomics_plugin.live.listings import LISTINGS
from tokenomics_plugin.pages import FORMATS, Report, make_pages, render
from tokenomics_plugin.pages.trace import TraceLook, trace_page
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report.document_html import page_body
from tokenomics_plugin.store import TraceStore

CORES: Final = 2
GOAL_S: Final = 120.0
GOAL_BYTES: Final = 2 * 10**9
VIEW_GOAL_S: Final = 1.0
GROWTH_GOAL: Final = 1.25
"""Of the cost of a span, over a hundred times as many: what counts as flat."""
FULL_SIZE: Final = 1_000_000
REQUESTS_PER_LOAD: Final = 400
VIEW_REPEATS: Final = 3
# What a reader of the live pages asks for: view and parameters.
VIEWS: Final[Sequence[tuple[str, Mapping[str, str]]]] = (
    ("runs", {}),
    ("runs", {"sort": "most waste"}),
    ("runs", {"q": "42"}),
    ("runs", {"agent": "agent-1", "outcome": "failed"}),
    ("runs", {"cause": "D1"}),
    ("runs", {"since": "2026-10-01", "page": "100"}),
    ("tasks", {}),
    ("tasks", {"q": "task-0001"}),
    ("findings", {}),
    ("findings", {"cause": "D1"}),
)


@dataclass(kw_only=True)
class Clock:
    """Time by phase, on the wall and of all processors."""

    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), _cpu_s()
        yield
        self.wall_s[phase] = self.wall_s.get(phase, 0.0) + time.perf_counter() - wall
        self.cpu_s[phase] = self.cpu_s.get(phase, 0.0) + _cpu_s() - cpu


def _cpu_s() -> float:
    """Of this process and of the children that have ended."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


class Memory:
    """Peak memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._process = psutil.Process(pid)
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        with suppress(psutil.NoSuchProcess):
            while self._process.is_running():
                self.peak_bytes = max(self.peak_bytes, self._now())
                time.sleep(0.05)

    def _now(self) -> int:
        total = int(self._process.memory_info().rss)
        for child in self._process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                total += child.memory_info().rss
        return total


def main() -> None:
    options = parse_options()
    if options.measure:
        print(json.dumps(measure(options.measure, options.processes)))
        return
    print((__doc__ or "").partition("\n\n")[0], end="\n\n")
    figures = {}
    for size in options.sizes:
        figures[size] = measured(size, options.processes)
        show(size, figures[size])
    close(
        "report",
        packages=("duckdb", "pyarrow", "protobuf", "plotly"),
        figures={str(size): figure for size, figure in figures.items()},
        checks=make_checks(figures),
        load_average=psutil.getloadavg(),
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, FULL_SIZE], help="spans")
    parser.add_argument("--processes", type=int, default=CORES, help="processes that analyse (default: %(default)s)")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)  # what a measured process is started with
    return parser.parse_args()


def measured(size: int, processes: int) -> dict[str, Any]:
    """The figures of one size, from a process of its own."""
    command = [sys.executable, __file__, "--measure", str(size), "--processes", str(processes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        memory = Memory(process.pid)
        assert process.stdout is not None
        output = process.stdout.read()
    if process.returncode:
        sys.exit(f"measuring {size:,} spans failed with status {process.returncode}")
    return {**json.loads(output.splitlines()[-1]), "peak_bytes": memory.peak_bytes}


def measure(size: int, processes: int) -> dict[str, Any]:
    clock, prices, runs = Clock(), PriceBook(), size // SPANS_PER_RUN
    with tempfile.TemporaryDirectory(prefix="tokenomics-bench-") as folder:
        db = Path(folder, "bench.duckdb")
        spans = ingest(db, runs, clock)
        with clock.measure("analysis"):
            analysis = analyse(db, prices, processes=processes)
        with clock.measure("pages"):
            pages = make_pages(analysis, look_at=lambda trace: look_at(db, trace, analysis, prices))
        report = Report(summary=analysis.summary, pages=pages)
        written = {}
        for form in FORMATS:
            with clock.measure(f"written as {form}"):
                written[form] = len(render(report, form))
        ledger = analysis.ledger.reconciliation
        return {
            "spans": spans,
            "runs": runs,
            "wall_s": clock.wall_s,
            "cpu_s": clock.cpu_s,
            "views_s": dict(view_times(analysis, db, prices)),
            "store_bytes": db.stat().st_size,
            "report_bytes": written,
            "findings": analysis.rows("SELECT count(*) FROM causes")[0][0],
            "bill_usd": str(ledger.bill_usd),
            "is_exact": ledger.is_exact and _runs_add_up(analysis),
            "problems": [problem.message for problem in analysis.problems],
        }


def ingest(db: Path, runs: int, clock: Clock) -> int:
    """Load all requests, a few MiB at a time, as the collector does."""
    requests, spans = payloads(range(runs)), 0
    while loaded := list(islice(requests, REQUESTS_PER_LOAD)):
        with clock.measure("ingest"), TraceStore(db) as store:
            spans += store.load(loaded).spans
    return spans


def look_at(db: Path, trace: str, analysis: Analysis, prices: PriceBook) -> TraceLook | None:
    with TraceStore(db, read_only=True) as store:
        return TraceLook.read(store, trace, prices, analysis.detectors)


def _runs_add_up(analysis: Analysis) -> bool:
    """Whether the rows of runs add up to the ledger's bill and to what tasks cost."""
    runs, tasks = (analysis.rows(f"SELECT sum(priced_usd) FROM {table}")[0][0] for table in ("runs", "tasks"))
    return bool(runs == analysis.ledger.reconciliation.bill_usd == tasks)


def view_times(analysis: Analysis, db: Path, prices: PriceBook) -> Iterator[tuple[str, float]]:
    """Seconds of each view, the median of a few times."""
    for view, parameters in VIEWS:
        name = " ".join([view, *(f"{key}={value}" for key, value in parameters.items())])
        yield name, median_s(partial(show_list, analysis, view, parameters))
    trace = trace_id(RUNS_PER_REQUEST // 2).hex()
    yield "trace", median_s(partial(show_trace, analysis, db, prices, trace))


def show_list(analysis: Analysis, view: str, parameters: Mapping[str, str]) -> None:
    page, _ = LISTINGS[view].page(analysis.rows, parameters)
    LISTINGS[view].choices(analysis.rows)
    page_body(page, lambda link: link.view)


def show_trace(analysis: Analysis, db: Path, prices: PriceBook, trace: str) -> None:
    look = look_at(db, trace, analysis, prices)
    assert look is not None
    page_body(trace_page(look, detectors=analysis.detectors, chosen=None), lambda link: link.view)


def median_s(action: Callable[[], None]) -> float:
    times = []
    for _ in range(VIEW_REPEATS):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def show(size: int, figures: Mapping[str, Any]) -> None:
    print(f"{size:,} spans, {figures['runs']:,} runs; peak memory {figures['peak_bytes'] / 1e6:,.0f} MB")
    for phase, wall in figures["wall_s"].items():
        cpu = figures["cpu_s"][phase]
        print(f"  {phase:20} {wall:8.2f} s on the wall {cpu:8.2f} s of processors {cpu / size * 1e6:8.1f} us a span")
    for view, seconds in figures["views_s"].items():
        print(f"  {view:40} {seconds * 1e3:8.1f} ms")
    print(flush=True)


def make_checks(figures: Mapping[int, Mapping[str, Any]]) -> Iterator[Check]:
    smallest, largest = min(figures), max(figures)
    full, label = figures[largest], f"{largest:,} spans"
    wall, cpu = (sum(full[kind].values()) for kind in ("wall_s", "cpu_s"))
    yield _below(f"seconds from requests to the written report, {label}", wall, GOAL_S)
    yield _below(f"the same, seconds of processors over {CORES} cores, {label}", cpu / CORES, GOAL_S)
    yield _below(f"peak bytes of all processes, {label}", full["peak_bytes"], GOAL_BYTES)
    slowest = max(full["views_s"].values())
    yield _below(f"seconds of the slowest view, {label}", slowest, VIEW_GOAL_S)
    growth = _cpu_per_span(full) / _cpu_per_span(figures[smallest])
    name = f"growth of the processors' time a span, {smallest:,} to {label}"
    yield _below(name, growth, GROWTH_GOAL)
    exact = [figure["is_exact"] for figure in figures.values()]
    yield Check(name="cells, runs and tasks add up to the bill", value=exact, goal="all", holds=all(exact))


def _below(name: str, value: float, goal: float) -> Check:
    return Check(name=name, value=value, goal=f"below {goal:g}", holds=value < goal)


def _cpu_per_span(figures: Mapping[str, Any]) -> float:
    """Of what grows with the spans: writing a report of a few tasks takes as long as plotly's import."""
    phases: Sequence[str] = ("ingest", "analysis")
    return float(sum(figures["cpu_s"][phase] for phase in phases) / figures["spans"])


if __name__ == "__main__":
    main()

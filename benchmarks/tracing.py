"""What tracing costs a program, beside what other tracers of LangChain cost it: CPU time, bytes and memory.

Each tracer runs in a process of its own, a peer also in a virtual environment of its own, with the LangChain,
LangGraph and OpenTelemetry that ours runs on where they resolve. The programs are the same for all
(`tracing_program.py`), and so is the way of the spans: a batch processor hands them to an exporter that drops them
(`tracing_worker.py`). The same process runs each program without its tracer as well.

The processes take turns, one at a time and in another order every round, and so do the calls with the tracer and
without. A sample is the best of a few calls of either kind, because another process of a shared machine can only make
a call slower; what a tracer adds is their difference; a figure is the median over the samples. Time is CPU time, all
threads included. A span's share is what was added by the number of spans exported. That flatters a tracer with
many cheap spans, so runs are compared as well.

Memory is sampled while the programs run thousands of times. Its level drifts and jumps, but the steps from one
sample to the next are nearly independent, so a slope is the mean step, and Welch's interval for the difference of
two means tells whether two slopes differ.

For scale: a hosted model takes 300 ms and more to answer, which is thousands of spans.

The tables are for people; the last line of stdout is one JSON document with the same figures and the checks.
The exit status is 1 if a check does not hold.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from scipy import stats
from tqdm import tqdm

from closing import Check, close
from tracing_peers import (
    OURS,
    PEERS,
    STACK,
    Configuration,
    Load,
    Peer,
    WorkerProcess,
    our_configurations,
    peer_configurations,
    peer_python,
    untraced,
)

GOAL_MICROSECONDS_A_SPAN = 150
GOAL_RATIO = 1.25
# How straight the line of bytes over turns must be. It bends a little where the digits of numbers grow.
GOAL_R_SQUARED, GOAL_EXPONENT = 0.999, 1.05
USUAL_TURNS = 20
# What ours adds is held to limits that are near the noise of a shared machine; what peers add is far from them.
OUR_SAMPLES_A_ROUND = 3
# The least that a run can leave behind is an entry of a dict, 100 bytes, and the blocks of its key and its value.
# Half an entry is no entry; and as freed memory takes up a leak for a while, blocks are counted as well, of which
# one in ten runs is what caches still take.
GOAL_BYTES_A_RUN, GOAL_BLOCKS_A_RUN = 50, 0.1
CONFIDENCE = 0.95
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is run."""

    agents: tuple[Load, ...]
    others: tuple[Load, ...]
    leaks: tuple[Load, ...]
    """Programs that must leave nothing behind; each so often for a sample of memory."""
    samples: int
    """Samples of memory of ours; a peer's leak shows in a fifth of them."""
    warm_up: int
    """Runs before the first sample of memory: free lists and caches fill up."""
    rounds: int

    @property
    def compared(self) -> tuple[Load, Load]:
        """The agents that every setting runs: one of usual size, and the largest."""
        return next(load for load in self.agents if load.size == USUAL_TURNS), self.agents[-1]

    def loads(self, configuration: Configuration) -> list[Load]:
        """What a configuration runs."""
        loads = (*self.agents, *self.others) if configuration.is_usual else self.compared
        return [load for load in loads if configuration.can_trace(load)]


def make_plan(*, quick: bool, rounds: int | None) -> Plan:
    """The whole benchmark, or a small one that shows whether it works."""
    calls = {5: 1, 20: 1, 40: 1} if quick else {5: 5, 10: 4, 20: 3, 40: 3, 100: 2}
    leaks = {"agent": 20 if quick else 200, "cancelled": 20, "abandoned": 20}
    return Plan(
        agents=tuple(Load(program="agent", size=turns, calls=count) for turns, count in calls.items()),
        others=(Load(program="agents at once", size=5, calls=1), Load(program="graph", size=100, calls=3)),
        leaks=tuple(Load(program=program, size=1, calls=count) for program, count in leaks.items()),
        samples=10 if quick else 50,
        warm_up=200 if quick else 1_000,
        rounds=rounds or (2 if quick else 6),
    )


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the processes are, and what they say about themselves."""

    pythons: dict[str, str]
    """The interpreter of each environment."""
    packages: dict[str, str]
    """The tracer's package of each environment."""
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    """What each environment has installed, filled when a process of it starts."""

    @contextmanager
    def workers(self, configurations: Iterable[Configuration]) -> Iterator[list[WorkerProcess]]:
        """A process for each configuration, ready for requests."""
        with ExitStack() as stack:
            started = [self._start(configuration, stack) for configuration in configurations]
            for worker in started:  # which have imported side by side
                self.versions[worker.configuration.home] = worker.read()
            yield started

    def _start(self, configuration: Configuration, stack: ExitStack) -> WorkerProcess:
        home = configuration.home
        worker = WorkerProcess(configuration, python=self.pythons[home], package=self.packages[home])
        stack.callback(worker.stop)
        return worker


# CPU time and bytes


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What a configuration did with a program."""

    bytes_a_run: float
    spans_a_run: float
    cpu_s: list[float] = field(default_factory=list)
    """Of a run: each sample's best."""
    untraced_s: list[float] = field(default_factory=list)
    """The same without the tracer."""
    returns_otherwise: list[bool] = field(default_factory=list)
    """Whether the program returned something else than without the tracer, in each sample."""


Measured = dict[Load, dict[Configuration, Traced]]


def measure(workers: Sequence[WorkerProcess], plan: Plan) -> Measured:
    """Weigh what each configuration exports, which warms it up, then take the time of all, round by round."""
    turns = [(load, worker) for worker in workers for load in plan.loads(worker.configuration)]
    measured: Measured = defaultdict(dict)
    for load, worker in tqdm(turns, desc="weigh", mininterval=1):
        answer = worker.ask(load)
        measured[load][worker.configuration] = Traced(
            bytes_a_run=answer["bytes_a_run"], spans_a_run=answer["spans_a_run"]
        )
    for _ in tqdm(range(plan.rounds), desc="rounds"):
        for load, worker in in_turn(turns):
            answer = worker.ask(load, compare=True)
            traced = measured[load][worker.configuration]
            traced.cpu_s.append(min(answer["traced_s"]))
            traced.untraced_s.append(min(answer["untraced_s"]))
            traced.returns_otherwise.append(answer["returns_otherwise"])
    return measured


def in_turn(turns: Sequence[tuple[Load, WorkerProcess]]) -> Iterator[tuple[Load, WorkerProcess]]:
    """A round: one program after the other, so that what is compared runs close together; in random order."""
    loads = list(dict.fromkeys(load for load, _ in turns))
    for load in random.sample(loads, len(loads)):
        workers = [worker for some, worker in turns if some == load]
        times = [OUR_SAMPLES_A_ROUND if worker.configuration.home == OURS else 1 for worker in workers]
        for worker in random.sample(workers, sum(times), counts=times):
            yield load, worker


def cpu_figures(traced: Traced) -> Figures:
    """What a tracer took and added; what it added to a span is None where it exported none."""
    pairs = list(zip(traced.cpu_s, traced.untraced_s, strict=True))
    added_ms = [1e3 * (cpu_s - baseline_s) for cpu_s, baseline_s in pairs]
    spans = traced.spans_a_run
    return {
        "untraced_ms_a_run": 1e3 * statistics.median(traced.untraced_s),
        "cpu_ms_a_run": 1e3 * statistics.median(traced.cpu_s),
        "ratio": statistics.median(cpu_s / baseline_s for cpu_s, baseline_s in pairs),
        "ratio_quartiles": quartiles([cpu_s / baseline_s for cpu_s, baseline_s in pairs]),
        "added_ms_a_run": statistics.median(added_ms),
        "added_ms_a_run_range": [min(added_ms), max(added_ms)],
        "added_us_a_span": 1e3 * statistics.median(added_ms) / spans if spans else None,
        "added_us_a_span_quartiles": [1e3 * added / spans for added in quartiles(added_ms)] if spans else None,
        "spans_a_run": spans,
        "bytes_a_run": traced.bytes_a_run,
    }


def quartiles(values: list[float]) -> list[float]:
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return [lower, upper]


def growth(sizes: Sequence[int], weights: Sequence[float]) -> Figures:
    """A straight line through bytes over turns, and the power of the turns that bytes grow with."""
    line = statistics.linear_regression(sizes, weights)
    power = statistics.linear_regression([math.log(size) for size in sizes], [math.log(weight) for weight in weights])
    return {
        "bytes": list(weights),
        "bytes_a_turn": line.slope,
        "r_squared": statistics.correlation(sizes, weights) ** 2,
        "exponent": power.slope,
    }


# Memory


@dataclass(frozen=True, kw_only=True)
class Residue:
    """What a program that ran thousands of times left behind."""

    steps: list[float]
    """Bytes of resident memory that each sample had more than the one before, by the runs between them."""
    blocks_a_run: float
    """Python's allocated memory blocks that a run left, which is exact where resident memory is coarse."""
    open_spans: int
    open_runs: int | None


Residues = dict[str, dict[Configuration, Residue]]


def measure_residues(bench: Bench, configurations: Sequence[Configuration], plan: Plan) -> Residues:
    """What each program leaves in a fresh process of each configuration; two processes run side by side."""

    def leave(configuration: Configuration) -> list[Residue]:
        with bench.workers([configuration]) as (worker,):
            return [residue(worker, load, plan) for load in plan.leaks]

    with ThreadPoolExecutor(max_workers=2) as pool:
        left = list(tqdm(pool.map(leave, configurations), desc="memory", total=len(configurations)))
    by_program = zip(*left, strict=True)
    return {
        load.program: dict(zip(configurations, some, strict=True))
        for load, some in zip(plan.leaks, by_program, strict=True)
    }


def residue(worker: WorkerProcess, load: Load, plan: Plan) -> Residue:
    samples = plan.samples if worker.configuration.home == OURS else plan.samples // 5
    worker.ask(replace(load, calls=plan.warm_up))
    last = first = worker.ask(load)
    levels = [worker.rss_bytes()]
    for _ in range(samples):
        last = worker.ask(load)
        levels.append(worker.rss_bytes())
    return Residue(
        steps=[(later - earlier) / load.calls for earlier, later in pairwise(levels)],
        blocks_a_run=(last["blocks"] - first["blocks"]) / (samples * load.calls),
        open_spans=last["open_spans"],
        open_runs=last["open_runs"],
    )


def residue_figures(traced: Residue, baseline: Residue) -> Figures:
    difference = stats.ttest_ind(traced.steps, baseline.steps, equal_var=False).confidence_interval(CONFIDENCE)
    return {
        "rss_bytes_a_run": statistics.mean(traced.steps),
        "rss_bytes_a_run_added": statistics.mean(traced.steps) - statistics.mean(baseline.steps),
        "rss_bytes_a_run_added_interval": [float(difference.low), float(difference.high)],
        "blocks_a_run_added": traced.blocks_a_run - baseline.blocks_a_run,
        "open_spans": traced.open_spans,
        "open_runs": traced.open_runs,
    }


# Report


def all_cpu_figures(measured: Measured) -> dict[str, dict[str, Figures]]:
    return {
        load.name: {configuration.name: cpu_figures(traced) for configuration, traced in rows.items()}
        for load, rows in measured.items()
    }


def all_residue_figures(residues: Residues) -> dict[str, dict[str, Figures]]:
    return {
        program: {
            configuration.name: residue_figures(left, rows[untraced(OURS)]) for configuration, left in rows.items()
        }
        for program, rows in residues.items()
    }


def all_growth(measured: Measured, plan: Plan) -> dict[str, Figures]:
    """How the bytes of each configuration that ran agents of all sizes grow; none of one that exports none."""
    sizes = [load.size for load in plan.agents]
    weights = {
        configuration: [measured[load][configuration].bytes_a_run for load in plan.agents]
        for configuration in measured[plan.agents[0]]
    }
    return {configuration.name: growth(sizes, row) for configuration, row in weights.items() if all(row)}


def print_cpu(figures: dict[str, dict[str, Figures]]) -> None:
    for load, rows in figures.items():
        print(
            f"\n{load:30}{'untraced ms':>12}{'traced ms':>10}{'ratio':>7}{'added':>9}{'spans':>7}{'us a span':>11}"
            f"{'kB a run':>11}"
        )
        for name, row in rows.items():
            added = "-" if row["added_us_a_span"] is None else f"{row['added_us_a_span']:.0f}"
            print(
                f"{name:30}{row['untraced_ms_a_run']:12.2f}{row['cpu_ms_a_run']:10.2f}{row['ratio']:7.2f}{row['added_ms_a_run']:9.2f}"
                f"{row['spans_a_run']:7.0f}{added:>11}{row['bytes_a_run'] / 1e3:11.1f}"
            )


def print_growth(figures: dict[str, Figures]) -> None:
    print(f"\n{'bytes by turns':30}{'R squared':>10}{'exponent':>10}{'kB a turn':>11}")
    for name, row in figures.items():
        print(f"{name:30}{row['r_squared']:10.5f}{row['exponent']:10.2f}{row['bytes_a_turn'] / 1e3:11.2f}")


def print_residues(figures: dict[str, dict[str, Figures]]) -> None:
    for program, rows in figures.items():
        print(f"\n{'left by ' + program:30}{'bytes a run':>11}{'interval':>16}{'blocks':>9}{'spans':>7}{'runs':>6}")
        for name, row in rows.items():
            low, high = row["rss_bytes_a_run_added_interval"]
            open_runs = "-" if row["open_runs"] is None else row["open_runs"]
            print(
                f"{name:30}{row['rss_bytes_a_run_added']:11.0f}{f'{low:.0f} to {high:.0f}':>16}"
                f"{row['blocks_a_run_added']:9.2f}{row['open_spans']:7}{open_runs:>6}"
            )


def main() -> None:
    options = parse_options()
    print(__doc__.partition("\n\n")[0], end="\n\n")
    if options.quick:
        print("Quick: too little is run for the figures to mean much.\n")
    plan = make_plan(quick=options.quick, rounds=options.rounds)
    peers = [peer for peer in PEERS if peer.name in options.peers]
    bench = make_bench(peers)
    with bench.workers(timed_configurations(peers)) as workers:
        measured = measure(workers, plan)
    residues = measure_residues(bench, watched_configurations(peers), plan)

    figures = {
        "cpu": all_cpu_figures(measured),
        "growth": all_growth(measured, plan),
        "residues": all_residue_figures(residues),
    }
    print_cpu(figures["cpu"])
    print_growth(figures["growth"])
    print_residues(figures["residues"])
    close(
        "tracing",
        packages=STACK,
        peers={name: versions for name, versions in bench.versions.items() if name != OURS},
        options=vars(options) | {"rounds": plan.rounds},
        figures=figures,
        checks=make_checks(measured, figures, plan),
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [peer.name for peer in PEERS]
    parser.add_argument("--rounds", type=int, help="samples of CPU time of each configuration (default: 6)")
    parser.add_argument("--quick", action="store_true", help="run little, to see whether the benchmark works")
    parser.add_argument(
        "--peers", nargs="*", choices=names, default=names, metavar="PEER", help=f"of {', '.join(names)} (default: all)"
    )
    return parser.parse_args()


def make_bench(peers: Sequence[Peer]) -> Bench:
    return Bench(
        pythons={OURS: sys.executable} | {peer.name: peer_python(peer) for peer in peers},
        packages={OURS: "tokenomics-plugin"} | {peer.name: peer.package for peer in peers},
    )


def timed_configurations(peers: Sequence[Peer]) -> Iterator[Configuration]:
    yield from our_configurations()
    for peer in peers:
        yield from peer_configurations(peer)


def watched_configurations(peers: Sequence[Peer]) -> list[Configuration]:
    """Whose memory is measured: every tracer as it is meant to be used, where it can trace an agent; and none."""
    usual = (configuration for configuration in timed_configurations(peers) if configuration.is_usual)
    return [untraced(OURS), *(configuration for configuration in usual if configuration.tracer != "trace_graph")]


# Checks


def make_checks(measured: Measured, figures: Figures, plan: Plan) -> list[Check]:
    """What must be so of ours, computed from the figures alone."""
    ours = {
        load.name: [configuration.name for configuration in rows if is_promised(configuration)]
        for load, rows in measured.items()
    }
    return [
        *check_results(measured),
        *check_spans(figures["cpu"], ours),
        *check_peers(measured, figures["cpu"], plan),
        *check_ratio(figures["cpu"], ours, plan),
        *check_growth(figures["growth"], ours[plan.agents[0].name]),
        *check_residues(figures["residues"]),
    ]


def is_promised(configuration: Configuration) -> bool:
    """Whether it is one of our ways in, as it is meant to be used."""
    return configuration.home == OURS and configuration.is_usual


def check_results(measured: Measured) -> Iterator[Check]:
    differ = [
        f"{configuration.name}: {load.name}"
        for load, rows in measured.items()
        for configuration, traced in rows.items()
        if configuration.home == OURS and any(traced.returns_otherwise)
    ]
    yield Check(name="programs that return otherwise when they are traced", value=differ, goal="none", holds=not differ)


def check_spans(cpu: Figures, ours: dict[str, list[str]]) -> Iterator[Check]:
    for load, names in ours.items():
        for name in names:
            added = cpu[load][name]["added_us_a_span"]
            yield Check(
                name=f"{name}: us a span of {load}",
                value=added,
                goal=f"<= {GOAL_MICROSECONDS_A_SPAN}",
                holds=added <= GOAL_MICROSECONDS_A_SPAN,
            )


def check_peers(measured: Measured, cpu: Figures, plan: Plan) -> Iterator[Check]:
    """Ours below every peer, whichever of its settings is the cheapest."""
    for load in plan.compared:
        rows = measured[load]
        sampled = [name for name in rows if name.home != OURS and name.is_sampled]
        if not sampled:  # nobody to compare with was asked for
            return
        for figure in ("added_us_a_span", "added_ms_a_run"):
            peers = {peer.name: cpu[load.name][peer.name][figure] for peer in sampled}
            for way in filter(is_promised, rows):
                added = cpu[load.name][way.name][figure]
                yield Check(
                    name=f"{way.name}: {figure} of {load.name}",
                    value=added,
                    goal=f"< {min(peers.values())}, the least of the peers",
                    holds=all(added < peer for peer in peers.values()),
                )


def check_ratio(cpu: Figures, ours: dict[str, list[str]], plan: Plan) -> Iterator[Check]:
    load = plan.agents[-1].name
    for name in ours[load]:
        ratio = cpu[load][name]["ratio"]
        yield Check(
            name=f"{name}: CPU of {load}, traced by untraced",
            value=ratio,
            goal=f"<= {GOAL_RATIO}",
            holds=ratio <= GOAL_RATIO,
        )


def check_growth(growths: Figures, ours: Sequence[str]) -> Iterator[Check]:
    for name in ours:
        row = growths[name]
        yield Check(
            name=f"{name}: bytes by turns",
            value={figure: row[figure] for figure in ("r_squared", "exponent")},
            goal=f"linear: R squared >= {GOAL_R_SQUARED}, exponent <= {GOAL_EXPONENT}",
            holds=row["r_squared"] >= GOAL_R_SQUARED and row["exponent"] <= GOAL_EXPONENT,
        )


def check_residues(residues: Figures) -> Iterator[Check]:
    for program, rows in residues.items():
        for name, row in rows.items():
            if name.startswith(OURS):
                yield check_left_open(name, program, row)
                yield check_memory(name, program, row)


def check_left_open(name: str, program: str, row: Figures) -> Check:
    left = {figure: row[figure] for figure in ("open_spans", "open_runs")}
    return Check(name=f"{name}: left open by {program}", value=left, goal="0", holds=not any(left.values()))


def check_memory(name: str, program: str, row: Figures) -> Check:
    """Whether memory grows as without a tracer: the interval of the difference has 0 in it, or little more below."""
    interval, blocks = row["rss_bytes_a_run_added_interval"], row["blocks_a_run_added"]
    low, high = interval
    return Check(
        name=f"{name}: memory of {program}",
        value={"rss_bytes_a_run_added_interval": interval, "blocks_a_run_added": blocks},
        goal=f"interval contains 0 or ends below {GOAL_BYTES_A_RUN}; blocks < {GOAL_BLOCKS_A_RUN}",
        holds=(low <= 0 <= high or high < GOAL_BYTES_A_RUN) and blocks < GOAL_BLOCKS_A_RUN,
    )


if __name__ == "__main__":
    main()

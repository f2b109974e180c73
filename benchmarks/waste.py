"""How much planted waste the detectors find, what they take for waste that is none, and how long it takes.

    python benchmarks/waste.py [--runs 400] [--turns 100]

Synthetic runs hold waste of every kind, whose cells are known, beside decoys: the false positives that are known of
each kind. Recall is the share of planted cells that were claimed, precision the share of claimed cells that were
planted; cells count alike, whatever they cost. A kind and a decoy of it are planted equally often, so the precisions
of likely waste say which decoys get through, and nothing about how often they occur in practice: that is for an
audit. Provable waste must be exact.

The time is that of all detectors together, a span of a long conversation. It limits how many traces a report can
read, and must not grow with their length but for what is claimed, which is a block for each call that carried it.

The last line of output is one JSON document.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from closing import Check, close

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import SideEffect, Trajectory
from tokenomics_plugin.waste import Detector, Finding, StrandedRepetition, scan
from tokenomics_plugin.waste.builtin import BUILT_IN
from trajectories import DECOYS, INJECTIONS, UNDETECTABLE, Injected, Script, cells_of, clean_turn
from trajectories.chat_logs import AIRLINE, tau_bench

SPAN_LIMIT_US = 20.0
REPEATS = 7
PUBLISHED = {"tool calls": 1164, "repeats": 32, "duplicate reads (D1)": 10, "failed writes repeated (D3)": 16}
"""Of gpt-4o on tau-bench airline; the other 6 repeats come after a write."""


@dataclass(kw_only=True)
class Tally:
    """Cells of one cause and tier."""

    planted: int = 0
    found: int = 0
    claimed: int = 0
    right: int = 0

    @property
    def recall(self) -> float | None:
        return self.found / self.planted if self.planted else None

    @property
    def precision(self) -> float | None:
        return self.right / self.claimed if self.claimed else None

    def figures(self) -> dict[str, Any]:
        return {"recall": self.recall, "precision": self.precision, "planted": self.planted, "claimed": self.claimed}


@dataclass(kw_only=True)
class Accuracy:
    """What was planted and what was found, over many runs."""

    by_kind: defaultdict[tuple[str, Tier], Tally] = field(default_factory=lambda: defaultdict(Tally))
    wrong: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Decoy -> causes that took it for waste."""

    def add(self, trajectory: Trajectory, planted: Iterable[Injected], findings: Iterable[Finding]) -> None:
        planted_cells: defaultdict[tuple[str, Tier], set[tuple[str, int | None]]] = defaultdict(set)
        for waste in planted:
            planted_cells[waste.cause, waste.tier] |= waste.cells(trajectory)
        claims: defaultdict[tuple[str, Tier], list[Finding]] = defaultdict(list)
        for finding in findings:
            claims[finding.cause, finding.tier].append(finding)
        truth = frozenset().union(*planted_cells.values())
        for kind in planted_cells.keys() | claims.keys():
            claimed = cells_of(claims[kind])
            tally = self.by_kind[kind]
            tally.planted += len(planted_cells[kind])
            tally.found += len(planted_cells[kind] & claimed)
            tally.claimed += len(claimed)
            # A cell may be wasted for several causes, of which one was planted.
            tally.right += len(claimed & truth)


def detectors() -> list[Detector]:
    free = StrandedRepetition(free_roles=frozenset({"system"}))
    return [free if cls is StrandedRepetition else cls() for cls in BUILT_IN]


def planted_run(draw: random.Random) -> tuple[Trajectory, list[Injected]]:
    """A run with some kinds of waste and some decoys in it, and clean turns between them."""
    script, planted = Script(), []
    kinds = draw.sample(sorted(set(INJECTIONS) - {"D17"}), k=3)
    parts: list[Callable[[Script], Injected | None]] = [INJECTIONS[kind] for kind in kinds]
    parts += [DECOYS[kind] for kind in draw.sample(sorted(DECOYS), k=3)]
    draw.shuffle(parts)
    for write in parts:
        clean_turn(script, effect=draw.choice(list(SideEffect)))
        if (waste := write(script)) is not None:
            planted += [waste, *waste.beside]
    if draw.random() < 0.3:
        planted.append(INJECTIONS["D17"](script))
    else:
        script.model("The end", step_kind="answer")
    return script.trajectory(), planted


def measure_accuracy(runs: int) -> Accuracy:
    draw, accuracy, every = random.Random(20260101), Accuracy(), detectors()
    for _ in range(runs):
        trajectory, planted = planted_run(draw)
        accuracy.add(trajectory, planted, (one for one in scan(trajectory, every).findings if one.is_waste))
    for name, write in DECOYS.items():
        script = Script()
        write(script)
        clean_turn(script)
        for finding in scan(script.trajectory(), every).findings:
            accuracy.wrong[name].add(f"{finding.cause} ({finding.tier})")
    return accuracy


def clean_run(turns: int) -> Trajectory:
    script = Script()
    for _ in range(turns):
        clean_turn(script)
    script.model("The end", step_kind="answer")
    return script.trajectory()


def wasteful_run(turns: int) -> Trajectory:
    """Every eighth turn or so wastes something, each kind in its turn."""
    script, kinds = Script(), [write for kind, write in INJECTIONS.items() if kind != "D17"]
    while len(script.steps) < 2 * turns:
        for _ in range(8):
            clean_turn(script)
        kinds[len(script.steps) % len(kinds)](script)
    script.model("The end", step_kind="answer")
    return script.trajectory()


def clock_run(turns: int) -> Trajectory:
    """The system prompt tells the time, so that nothing of a context is as it was."""
    script = Script()
    for turn in range(turns):
        script.conversation[0] = script.block("system", f"It is {turn}.", tokens=5_000)
        clean_turn(script)
    return script.trajectory()


def timed(write: Callable[[int], Trajectory], turns: int) -> Iterator[float]:
    """Microseconds of CPU time a span, of all detectors together, several times over."""
    every = detectors()
    for _ in range(REPEATS):
        trajectory = write(turns)  # anew: what follows from a trajectory is kept
        start = time.process_time()
        scan(trajectory, every)
        yield (time.process_time() - start) / len(trajectory.steps) * 1e6


def measure_speed(turns: int) -> dict[str, dict[str, float]]:
    shapes = {
        f"{turns} turns": (clean_run, turns),
        f"{turns} turns with waste": (wasteful_run, turns),
        f"{turns} turns, changed at the front": (clock_run, turns),
        f"{4 * turns} turns": (clean_run, 4 * turns),
        f"{4 * turns} turns with waste": (wasteful_run, 4 * turns),
    }
    speed = {}
    for name, (write, length) in shapes.items():
        times = list(timed(write, length))
        speed[name] = {"median": statistics.median(times), "min": min(times), "max": max(times)}
    return speed


def count_natural() -> dict[str, int] | None:
    """What is found in public runs of an airline's agent; `None` where they are absent."""
    if not AIRLINE.exists():
        return None
    counts: defaultdict[str, int] = defaultdict(int)
    every = [cls() for cls in BUILT_IN]
    for run in tau_bench():
        counts["tool calls"] += len(run.tool_calls)
        distinct = {(call.tool, call.arguments_hash) for call in run.tool_calls}
        counts["repeats"] += len(run.tool_calls) - len(distinct)
        causes = [finding.cause for finding in scan(run, every).findings]
        counts["duplicate reads (D1)"] += causes.count("D1")
        counts["failed writes repeated (D3)"] += causes.count("D3")
    return dict(counts)


def show(accuracy: Accuracy, speed: Mapping[str, Mapping[str, float]], natural: Mapping[str, int] | None) -> None:
    print(f"{'cause':6} {'tier':4} {'recall':>7} {'precision':>9} {'planted':>8} {'claimed':>8}   (cells)")
    for (cause, tier), tally in sorted(accuracy.by_kind.items(), key=lambda item: (item[0][1], int(item[0][0][1:]))):
        rates = (f"{'' if rate is None else format(rate, '.3f'):>{width}}" for rate, width in _rates(tally))
        print(f"{cause:6} {tier:4} {' '.join(rates)} {tally.planted:8} {tally.claimed:8}")
    for name, causes in sorted(accuracy.wrong.items()):
        print(f"taken for waste: {name}, by {', '.join(sorted(causes))}")
    for name, times in speed.items():
        print(f"{name:40} {times['median']:6.1f} us a span ({times['min']:.1f} to {times['max']:.1f})")
    for name, count in (natural or {}).items():
        print(f"tau-bench airline, {name}: {count}, published {PUBLISHED[name]}")


def _rates(tally: Tally) -> tuple[tuple[float | None, int], ...]:
    return (tally.recall, 7), (tally.precision, 9)


def checks(
    accuracy: Accuracy, speed: Mapping[str, Mapping[str, float]], natural: Mapping[str, int] | None, turns: int
) -> Iterator[Check]:
    provable = [tally for (_, tier), tally in accuracy.by_kind.items() if tier is Tier.A]
    for name, rates in (
        ("recall", [tally.recall for tally in provable]),
        ("precision", [tally.precision for tally in provable]),
    ):
        lowest = min(rate for rate in rates if rate is not None)
        yield Check(name=f"lowest {name} of provable waste", value=lowest, goal="1", holds=lowest == 1)
    unexpected = sorted(set(accuracy.wrong) - UNDETECTABLE)
    yield Check(name="decoys taken for waste", value=unexpected, goal="none", holds=not unexpected)
    for name in (f"{turns} turns", f"{turns} turns with waste"):
        value = speed[name]["median"]
        yield Check(
            name=f"us a span, {name}", value=value, goal=f"at most {SPAN_LIMIT_US:g}", holds=value <= SPAN_LIMIT_US
        )
    growth = speed[f"{4 * turns} turns"]["median"] / speed[f"{turns} turns"]["median"]
    yield Check(name="growth of that over four times the length", value=growth, goal="at most 2", holds=growth <= 2)
    if natural is not None:
        yield Check(
            name="counts of tau-bench airline",
            value=natural,
            goal=f"as published: {PUBLISHED}",
            holds=natural == PUBLISHED,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=400, help="synthetic runs")
    parser.add_argument("--turns", type=int, default=100, help="turns of a long run")
    arguments = parser.parse_args()
    accuracy = measure_accuracy(arguments.runs)
    speed, natural = measure_speed(arguments.turns), count_natural()
    show(accuracy, speed, natural)
    close(
        "waste",
        packages=(),
        figures={
            "accuracy": {f"{cause} {tier}": tally.figures() for (cause, tier), tally in accuracy.by_kind.items()},
            "taken_for_waste": {name: sorted(causes) for name, causes in accuracy.wrong.items()},
            "us_a_span": speed,
            "tau_bench_airline": natural,
        },
        checks=checks(accuracy, speed, natural, arguments.turns),
        runs=arguments.runs,
    )


if __name__ == "__main__":
    main()

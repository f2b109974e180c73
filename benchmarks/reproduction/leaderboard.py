"""SWE-bench Verified by mini-swe-agent: what each model's successes cost, and what the next one does.

Every entry's per-task results are added up again and compared with what its own record publishes. An entry that
contradicts itself, or that cannot be, is flagged and left out of every average.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any

from reproduction.comparison import Figure, Section
from tokenomics_plugin.marginal import Contender, FrontierStep, TaskResult, cost_success_frontier
from tokenomics_plugin.statistics import SetShape, ratio_of_sums

__all__ = ["FILE", "Entry", "entries", "objections", "reproduce"]

FILE = "trajectories/swebench-leaderboards/dev/models.json"
_TASKS = 500
_ROUNDING_POINTS = 0.05
_OTHER_ENTRIES = "published of 38 other entries"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model on the leaderboard."""

    contender: Contender
    """Its results, task by task."""
    calls: dict[str, int]
    """Model calls of each task."""
    published_percent: float
    """Tasks resolved, as its record says."""
    published_cost: float
    """USD for all tasks, as its record says."""

    @property
    def name(self) -> str:
        """The model."""
        return self.contender.name

    @property
    def unresolved_cost(self) -> float:
        """USD spent on tasks that were not resolved."""
        return sum(result.cost for result in self.contender.results.values() if not result.is_success)


def entries(path: Path) -> list[Entry]:
    """Read the leaderboard."""
    return [_entry(record) for record in json.loads(path.read_text(encoding="utf-8"))]


def objections(entry: Entry) -> list[str]:
    """Why an entry cannot be averaged in; empty where nothing speaks against it."""
    results, tasks = entry.contender.results, len(entry.contender.results)
    percent, spend = 100 * entry.contender.successes / tasks, entry.contender.cost
    free = [task for task, result in results.items() if result.is_success and not (entry.calls[task] and result.cost)]
    broken = [task for task, result in results.items() if not (isfinite(result.cost) and result.cost >= 0)]
    found = [
        (tasks != _TASKS, f"{tasks} of {_TASKS} tasks are here: its published totals cannot be checked"),
        (not entry.contender.successes and spend > 0, f"${spend:.2f} spent and no task resolved"),
        (bool(free), f"{len(free)} tasks resolved without a call or a cost"),
        (bool(broken), f"{len(broken)} tasks with an impossible cost"),
        (
            tasks == _TASKS and abs(percent - entry.published_percent) > _ROUNDING_POINTS,
            f"publishes {entry.published_percent:g} % resolved, {entry.published_percent * _TASKS / 100:g} tasks; "
            f"its tasks say {entry.contender.successes}",
        ),
    ]
    return [sentence for holds, sentence in found if holds]


def reproduce(data: Path) -> Section:
    """Compute the published figures again."""
    everyone = entries(data / FILE)
    flagged = {entry.name: sentences for entry in everyone if (sentences := objections(entry))}
    sound = [entry for entry in everyone if entry.name not in flagged]
    common = frozenset.intersection(*(frozenset(entry.contender.results) for entry in everyone))
    return Section(
        title="SWE-bench Verified, mini-swe-agent",
        basis=f"{len(everyone)} models; USD as recorded; averages over the {len(sound)} that are not flagged",
        figures=[*_totals(everyone), *_averages(sound)],
        lines=[
            *_table(everyone, flagged),
            *_frontier(f"frontier on {_TASKS} tasks, unflagged models", [entry.contender for entry in sound]),
            *_frontier(f"frontier on the {len(common)} tasks of all models", _on(common, everyone)),
            "published frontier, DeepSeek V3.2 - MiniMax 2.5 - Opus 4.5 ($68 a further success): not in the data here",
            *(f"flagged: {name}: {'; '.join(sentences)}" for name, sentences in flagged.items()),
        ],
    )


def _entry(record: dict[str, Any]) -> Entry:
    details = record["per_instance_details"]
    return Entry(
        contender=Contender(
            name=record["name"],
            results={task: TaskResult(float(row["cost"]), bool(row["resolved"])) for task, row in details.items()},
        ),
        calls={task: int(row["api_calls"]) for task, row in details.items()},
        published_percent=float(record["resolved"]),
        published_cost=float(record["cost"]),
    )


def _totals(everyone: Sequence[Entry]) -> Iterator[Figure]:
    for entry in everyone:
        is_whole = len(entry.contender.results) == _TASKS
        note = "" if is_whole else f"{len(entry.contender.results)} tasks against {_TASKS}"
        yield Figure(
            name=f"{entry.name}: % resolved",
            ours=100 * entry.contender.successes / len(entry.contender.results),
            published=entry.published_percent,
            tolerance=_ROUNDING_POINTS,
            is_checked=not objections(entry),
            note=note or ("flagged" if objections(entry) else ""),
        )
        yield Figure(
            name=f"{entry.name}: $",
            ours=entry.contender.cost,
            published=entry.published_cost,
            tolerance=1e-6,
            is_checked=is_whole,
            note=note,
        )


def _averages(sound: Sequence[Entry]) -> Iterator[Figure]:
    shares = [100 * entry.unresolved_cost / entry.contender.cost for entry in sound]
    spend, lost = sum(entry.contender.cost for entry in sound), sum(entry.unresolved_cost for entry in sound)
    for name, ours, published in (
        ("% of all spend in unresolved tasks", 100 * lost / spend, 48.6),
        ("median over models of % in unresolved tasks", median(shares), 50.6),
        ("median over models of unresolved / resolved cost", median(map(_dearness, sound)), 1.81),
    ):
        yield Figure(name=name, ours=ours, published=published, is_checked=False, note=_OTHER_ENTRIES)


def _dearness(entry: Entry) -> float:
    """Mean cost of an unresolved task over that of a resolved one."""
    resolved = entry.contender.cost - entry.unresolved_cost
    failures = len(entry.contender.results) - entry.contender.successes
    return (entry.unresolved_cost / failures) / (resolved / entry.contender.successes)


def _table(everyone: Sequence[Entry], flagged: dict[str, list[str]]) -> Iterator[str]:
    yield f"{'model':38} {'solved':>6} {'$ a task':>8} {'$ a success [95 %]':>26} {'unresolved':>10}"
    for entry in everyone:
        tasks = len(entry.contender.results)
        ratio = ratio_of_sums((result.cost, result.is_success) for result in entry.contender.results.values())
        low, high = ratio.confidence_set.low or 0.0, ratio.confidence_set.high or 0.0
        mark = "*" if entry.name in flagged else " "
        yield (
            f"{entry.name[:37] + mark:38} {entry.contender.successes / tasks:6.1%} {entry.contender.cost / tasks:8.4f} "
            f"{ratio.estimate:8.4f} [{low:7.4f}, {high:7.4f}] {entry.unresolved_cost / entry.contender.cost:10.1%}"
        )


def _on(tasks: frozenset[str], everyone: Sequence[Entry]) -> list[Contender]:
    return [
        Contender(name=entry.name, results={task: entry.contender.results[task] for task in sorted(tasks)})
        for entry in everyone
    ]


def _frontier(title: str, contenders: Sequence[Contender]) -> Iterator[str]:
    yield f"{title}:"
    for step in cost_success_frontier(contenders):
        yield f"  {step.contender.name[:37]:38} {step.contender.successes:4} ${step.contender.cost:8.2f} {_price(step)}"


def _price(step: FrontierStep) -> str:
    if step.marginal_cost is None:
        return ""
    found = step.marginal_cost.confidence_set
    low = "" if found.low is None else f"{found.low:.2f}"
    ends = f"[{low}, {found.high:.2f}]" if found.shape is SetShape.INTERVAL else f"[{low}, no upper limit)"
    return f"${step.marginal_cost.estimate:.2f} for each further success {ends}"

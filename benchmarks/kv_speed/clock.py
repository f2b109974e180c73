"""Arms timed in turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Arm", "Taken", "Timings", "interleaved", "timed"]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one round of an arm took, in seconds."""

    cpu: float
    """Processor time of all threads together."""
    wall: float


Arm = Callable[[], Taken]
"""One round of what is timed, here or in another process."""


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Processor and wall-clock seconds of each arm's rounds."""

    cpu: dict[str, list[float]]
    """Of all threads together."""
    wall: dict[str, list[float]]

    def figures(self, name: str) -> dict[str, float]:
        """Medians of one arm, in ms."""
        return {
            "cpu_ms": round(1e3 * statistics.median(self.cpu[name]), 3),
            "wall_ms": round(1e3 * statistics.median(self.wall[name]), 3),
        }

    def ratio(self, name: str, over: str) -> dict[str, Any]:
        """How many times the processor time of `over` an arm takes, by round: its median and quartiles."""
        ratios = [slow / fast for slow, fast in zip(self.cpu[name], self.cpu[over], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        return {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}


def timed(step: Callable[[], object]) -> Arm:
    """An arm of what runs in this process."""

    def run() -> Taken:
        start, used = time.perf_counter(), time.process_time()
        step()
        return Taken(cpu=time.process_time() - used, wall=time.perf_counter() - start)

    return run


def interleaved(arms: Mapping[str, Arm], *, rounds: int, warmup: int = 2) -> Timings:
    """Run every arm once a round, first unmeasured ones."""
    taken: dict[str, list[Taken]] = {name: [] for name in arms}
    for turn in range(-warmup, rounds):
        for name, arm in arms.items():
            one = arm()
            if turn >= 0:
                taken[name].append(one)
    return Timings(
        cpu={name: [one.cpu for one in every] for name, every in taken.items()},
        wall={name: [one.wall for one in every] for name, every in taken.items()},
    )

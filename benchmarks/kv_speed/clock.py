"""Arms timed in turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Timings", "interleaved"]


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


def interleaved(arms: Mapping[str, Callable[[], Any]], *, rounds: int, warmup: int = 2) -> Timings:
    """Run every arm once a round, first unmeasured ones."""
    cpu: dict[str, list[float]] = {name: [] for name in arms}
    wall: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(-warmup, rounds):
        for name, step in arms.items():
            start, used = time.perf_counter(), time.process_time()
            step()
            used, passed = time.process_time() - used, time.perf_counter() - start
            if turn >= 0:
                cpu[name].append(used)
                wall[name].append(passed)
    return Timings(cpu=cpu, wall=wall)

"""The rules worth looking at: those that no other rule beats in both money and successes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tokenomics_plugin.simulation.evaluation import PolicyResult

__all__ = ["FrontierPoint", "truncation_frontier"]


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """A rule that is not dominated."""

    result: PolicyResult
    """What it does."""
    most_lost: int
    """Successes that it loses, unknown outcomes counted as successes."""
    saved_per_further_loss: float | None
    """What it saves beyond the point before it, for each further success lost: a success worth more than this is not
    worth the step. `None` for the first point."""


def truncation_frontier(results: Iterable[PolicyResult]) -> tuple[FrontierPoint, ...]:
    """Keep what saves more than everything that loses no more, from the fewest losses to the most."""
    points: list[FrontierPoint] = []
    for result in sorted(results, key=lambda result: (_most_lost(result), -result.saved.point)):
        last = points[-1] if points else None
        if last is not None and result.saved.point <= last.result.saved.point:
            continue
        points.append(
            FrontierPoint(result=result, most_lost=_most_lost(result), saved_per_further_loss=_slope(last, result))
        )
    return tuple(points)


def _most_lost(result: PolicyResult) -> int:
    return result.lost_successes + result.possibly_lost


def _slope(last: FrontierPoint | None, result: PolicyResult) -> float | None:
    if last is None:
        return None
    return (result.saved.point - last.result.saved.point) / (_most_lost(result) - last.most_lost)

"""Why a bill changed between two periods: more work, another mix, more tokens per task, or another price per token.

Each segment's cost is a product, tasks x share x tokens per task x price per token, and its change is split among the
factors in proportion to the logarithms of their growth (LMDI). The parts add up to the change exactly, no matter in
which order one thinks of them, and no "interaction" is left over. Where a factor is 0 in a period it has no
logarithm; there the factors are changed one after the other, averaged over all orders (Shapley), which adds up too.

Source: Ang, "The LMDI approach to decomposition analysis", Energy Policy 33(7), 2005.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial, fsum, inf, log, log1p, prod
from typing import Generic, TypeVar

__all__ = ["Bridge", "PeriodTotals", "SuccessTotals", "bridge_of_cost", "bridge_of_value", "decompose_product"]

Segment = TypeVar("Segment", bound=Hashable)
"""What the work is divided by, such as an agent's name."""


@dataclass(frozen=True, kw_only=True)
class PeriodTotals:
    """What one segment of the work spent in one period."""

    tasks: float
    """Tasks that were assigned."""
    tokens: float
    """Tokens, of whichever kind, but the same in both periods."""
    cost: float
    """Currency."""


@dataclass(frozen=True, kw_only=True)
class SuccessTotals:
    """What one segment of the work achieved in one period."""

    tasks: float
    """Tasks that were assigned."""
    successes: float
    """Tasks that succeeded."""
    value: float
    """Currency."""


@dataclass(frozen=True, kw_only=True)
class Bridge(Generic[Segment]):
    """From one period's total to the next one's."""

    before: float
    """Total of the earlier period."""
    after: float
    """Total of the later period."""
    effects: Mapping[str, float]
    """What each factor changed; the sum is `after` - `before`."""
    by_segment: Mapping[Segment, Mapping[str, float]]
    """The same, of each segment."""
    averaged: tuple[Segment, ...]
    """Segments with a zero in a period, whose effects are averages over orders."""


def bridge_of_cost(before: Mapping[Segment, PeriodTotals], after: Mapping[Segment, PeriodTotals]) -> Bridge[Segment]:
    """Split the change of a bill into volume, mix, intensity (tokens per task) and rate (price per token).

    A segment that exists in one period only has no tokens per task or price in the other: all of it is volume and mix.

    Raises:
        ValueError: If a total is negative or not finite, or cost comes without tokens, or tokens without tasks.
    """
    return _bridge(
        ("volume", "mix", "intensity", "rate"),
        {name: (row.tasks, row.tokens, row.cost) for name, row in before.items()},
        {name: (row.tasks, row.tokens, row.cost) for name, row in after.items()},
    )


def bridge_of_value(before: Mapping[Segment, SuccessTotals], after: Mapping[Segment, SuccessTotals]) -> Bridge[Segment]:
    """Split the change of realised value into volume, mix, success (rate) and worth (value per success).

    The change of net value is this bridge's minus that of the cost.

    Raises:
        ValueError: If a total is negative or not finite, or value comes without successes, or those without tasks.
    """
    return _bridge(
        ("volume", "mix", "success", "worth"),
        {name: (row.tasks, row.successes, row.value) for name, row in before.items()},
        {name: (row.tasks, row.successes, row.value) for name, row in after.items()},
    )


def decompose_product(before: Sequence[float], after: Sequence[float]) -> tuple[float, ...]:
    """The part of each factor in prod(after) - prod(before), which they add up to.

    Logarithmic where all factors are positive, otherwise Shapley's average over the orders of change.

    Raises:
        ValueError: If the periods have different numbers of factors, or a factor is negative or not finite.
    """
    if len(before) != len(after):
        raise ValueError(f"both periods need the same factors, got {len(before)} and {len(after)}")
    if not all(0 <= factor < inf for factor in (*before, *after)):
        raise ValueError(f"factors must be finite and not negative, got {before} and {after}")
    # A product of positive factors may still vanish among floats.
    if prod(before) > 0 and prod(after) > 0:
        return _logarithmic(before, after)
    return _over_all_orders(before, after)


def _bridge(
    names: tuple[str, str, str, str],
    before: Mapping[Segment, tuple[float, float, float]],
    after: Mapping[Segment, tuple[float, float, float]],
) -> Bridge[Segment]:
    volumes = [fsum(row[0] for row in period.values()) for period in (before, after)]
    by_segment: dict[Segment, dict[str, float]] = {}
    averaged = []
    nothing = (0.0, 0.0, 0.0)
    for segment in dict.fromkeys([*before, *after]):
        old, new = before.get(segment, nothing), after.get(segment, nothing)
        factors = _factors(segment, old, volumes[0]), _factors(segment, new, volumes[1])
        first, second = _completed(*factors)
        parts = decompose_product(first, second)
        by_segment[segment] = dict(zip(names, _without_residual(parts, new[2] - old[2]), strict=True))
        if min(*first, *second) == 0:
            averaged.append(segment)
    return Bridge(
        before=fsum(row[2] for row in before.values()),
        after=fsum(row[2] for row in after.values()),
        effects={name: fsum(parts[name] for parts in by_segment.values()) for name in names},
        by_segment=by_segment,
        averaged=tuple(averaged),
    )


def _factors(segment: Hashable, row: tuple[float, float, float], volume: float) -> list[float | None]:
    """Volume, share, and the two quotients; `None` where there is nothing to divide by."""
    if not all(0 <= number < inf for number in row):
        raise ValueError(f"totals must be finite and not negative, segment {segment!r} has {row}")
    tasks, middle, total = row
    if (middle and not tasks) or (total and not middle):
        raise ValueError(f"segment {segment!r} has a total without what it is divided by: {row}")
    share = tasks / volume if volume else None
    return [volume, share, middle / tasks if tasks else None, total / middle if middle else None]


def _completed(before: Iterable[float | None], after: Iterable[float | None]) -> tuple[list[float], list[float]]:
    """What does not exist in a period did not change; what exists in neither is of no account."""
    pairs = [(_first_known(old, new), _first_known(new, old)) for old, new in zip(before, after, strict=True)]
    return [old for old, _ in pairs], [new for _, new in pairs]


def _first_known(*numbers: float | None) -> float:
    return next((number for number in numbers if number is not None), 0.0)


def _without_residual(parts: Sequence[float], change: float) -> list[float]:
    # The products differ from the totals by rounding; the largest part can best carry it.
    exact = list(parts)
    largest = max(range(len(exact)), key=lambda index: abs(exact[index]))
    exact[largest] += change - fsum(exact)
    return exact


def _logarithmic(before: Sequence[float], after: Sequence[float]) -> tuple[float, ...]:
    old, new = prod(before), prod(after)
    weight = _logarithmic_mean(new, old)
    return tuple(weight * _growth(first, second) for first, second in zip(before, after, strict=True))


def _logarithmic_mean(a: float, b: float) -> float:
    """(a - b) / (ln a - ln b), and a where they are equal."""
    return a if a == b else (a - b) / _growth(b, a)


def _growth(first: float, second: float) -> float:
    """Difference of logarithms, without cancellation where there is little of it."""
    if first / 2 < second < 2 * first:
        return log1p((second - first) / first)
    return log(second) - log(first)


def _over_all_orders(before: Sequence[float], after: Sequence[float]) -> tuple[float, ...]:
    parts = [0.0] * len(before)
    for order in permutations(range(len(before))):
        factors = list(before)
        for index in order:
            earlier = prod(factors)
            factors[index] = after[index]
            parts[index] += prod(factors) - earlier
    return tuple(part / factorial(len(before)) for part in parts)

"""How much of the money is waste, from an audit of a few spans of each kind.

Detectors flag; an audit says how often they are right, and how much they miss. Each stratum is what one detector
flags, or what none does; some of its spans are drawn and judged, and the share of waste among them, times the
stratum's cost, is its calibrated waste. Detectors' shares may then be added up and printed as money.

Sources: Hansen and Hurwitz, Annals of Mathematical Statistics 14(4), 1943, for draws in proportion to cost; Cochran,
Sampling Techniques, 3rd ed., 6.4, for the ratio estimator of equal draws; the limits of strata are combined as by Zou
and Donner, Statistics in Medicine 27(10), 2008, which holds where a share is 0 or 1 and a standard error would be 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import fsum, inf, sqrt

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.statistics.bounds import Range
from tokenomics_plugin.statistics.clusters import Column, as_column
from tokenomics_plugin.statistics.proportion import wilson

__all__ = ["AuditedStratum", "Calibrated", "Draw", "Judged", "calibrate", "draw_spans"]


class Draw(StrEnum):
    """How the spans of a stratum were drawn."""

    BY_COST = "by_cost"
    """With replacement, in proportion to cost: each currency unit is as likely as any other."""
    EQUAL = "equal"
    """Without replacement, each span as likely as any other."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One audited span."""

    cost: float
    """What it cost."""
    waste: float
    """The share of it that was waste: 0 or 1, or between for a span that is partly so."""

    def __post_init__(self) -> None:
        if not 0 <= self.cost < inf or not 0 <= self.waste <= 1:
            raise ValueError(f"needs a finite cost of at least 0 and waste from 0 to 1, got {self}")


@dataclass(frozen=True, kw_only=True)
class AuditedStratum:
    """Spans that one detector flags, or that none does, and those of them that were judged."""

    name: str
    """The detector, or what to call the rest."""
    flagged: bool
    """Whether a detector flags them; what is found elsewhere was missed."""
    cost: float
    """Of all its spans."""
    spans: int
    """How many there are."""
    judged: Sequence[Judged]
    """Those drawn; a span drawn twice is in it twice."""
    draw: Draw = Draw.BY_COST
    """How they were drawn."""

    def __post_init__(self) -> None:
        if not 0 <= self.cost < inf:
            raise ValueError(f"stratum {self.name!r} needs a finite cost of at least 0, got {self.cost}")
        if not self.judged:
            raise ValueError(f"stratum {self.name!r} has no judged span: its waste is unknown, not 0")
        if self.draw is Draw.EQUAL and len(self.judged) > self.spans:
            raise ValueError(f"stratum {self.name!r} has {self.spans} spans, {len(self.judged)} cannot be drawn")

    @property
    def waste_share(self) -> float:
        """Estimated share of the stratum's cost that is waste: a detector's precision, in money."""
        weights = self._weights
        return min(
            1.0, fsum(weight * span.waste for weight, span in zip(weights, self.judged, strict=True)) / fsum(weights)
        )

    @property
    def standard_error(self) -> float:
        """Of `waste_share`; 0 when all judged spans agree, which the interval does not believe."""
        return sqrt(self._variance)

    def waste_share_interval(self, *, confidence: float = 0.95) -> Range:
        """Wilson's interval on as many judgements of equal weight as would tell as much; a point if all were judged."""
        if self._unseen == 0:
            return Range(low=self.waste_share, high=self.waste_share)
        return wilson(self.waste_share * self._effective, self._effective, confidence=confidence)

    @property
    def _weights(self) -> list[float]:
        """Draws by cost have counted it already."""
        costs = [span.cost for span in self.judged]
        return costs if self.draw is Draw.EQUAL and any(costs) else [1.0] * len(costs)

    @property
    def _unseen(self) -> float:
        """Share of spans that could still surprise: draws with replacement never see them all."""
        return 1 - len(self.judged) / self.spans if self.draw is Draw.EQUAL else 1.0

    @property
    def _variance(self) -> float:
        share, weights, size = self.waste_share, self._weights, len(self.judged)
        squares = fsum((weight * (span.waste - share)) ** 2 for weight, span in zip(weights, self.judged, strict=True))
        correction = size / (size - 1) if size > 1 else 1.0
        return self._unseen * correction * squares / fsum(weights) ** 2

    @property
    def _effective(self) -> float:
        share, weights = self.waste_share, self._weights
        by_weight = fsum(weights) ** 2 / fsum(weight**2 for weight in weights)
        if self._variance == 0:
            return by_weight
        by_spread = share * (1 - share) / self._variance
        # Where a few dear spans carry the weight, those drawn by chance understate the spread of those that were not.
        return min(by_spread, by_weight) if self.draw is Draw.EQUAL else by_spread


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Waste in money, over all strata."""

    waste: float
    """Horvitz-Thompson estimate: the sum of cost times waste share over strata."""
    standard_error: float
    """Of `waste`."""
    interval: Range
    """From the strata's Wilson intervals."""
    cost: float
    """Of all strata."""
    recall: float | None
    """Share of the waste that lies in flagged strata; `None` when there is no waste, or the rest was not audited."""


def calibrate(strata: Iterable[AuditedStratum], *, confidence: float = 0.95) -> Calibrated:
    """Add up the strata's waste.

    Raises:
        ValueError: If there is no stratum.
    """
    audited = list(strata)
    if not audited:
        raise ValueError("an audit needs at least one stratum")
    waste = fsum(stratum.cost * stratum.waste_share for stratum in audited)
    intervals = [stratum.waste_share_interval(confidence=confidence) for stratum in audited]
    below = [
        stratum.cost * (stratum.waste_share - (limit.low or 0.0))
        for stratum, limit in zip(audited, intervals, strict=True)
    ]
    above = [
        stratum.cost * ((limit.high or 0.0) - stratum.waste_share)
        for stratum, limit in zip(audited, intervals, strict=True)
    ]
    return Calibrated(
        waste=waste,
        standard_error=_length(stratum.cost * stratum.standard_error for stratum in audited),
        interval=Range(low=max(0.0, waste - _length(below)), high=waste + _length(above)),
        cost=fsum(stratum.cost for stratum in audited),
        recall=_recall(audited, waste),
    )


def draw_spans(costs: Column, size: int, *, seed: int) -> NDArray[np.intp]:
    """Indices of `size` spans drawn with replacement in proportion to cost, for an audit of `Draw.BY_COST`.

    Raises:
        ValueError: If no span costs anything, one costs less than nothing, or `size` is not positive.
    """
    column = as_column("costs", costs)
    if size < 1 or not len(column) or column.min() < 0 or column.sum() == 0:
        raise ValueError(f"needs a positive size and costs that are not negative and not all 0, got size={size}")
    return np.random.default_rng(seed).choice(len(column), size=size, p=column / column.sum())


def _recall(audited: Sequence[AuditedStratum], waste: float) -> float | None:
    if waste == 0 or all(stratum.flagged for stratum in audited):
        return None
    return fsum(stratum.cost * stratum.waste_share for stratum in audited if stratum.flagged) / waste


def _length(parts: Iterable[float]) -> float:
    return sqrt(fsum(part**2 for part in parts))

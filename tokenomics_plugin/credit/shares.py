"""Credit estimated from draws: what each component adds to outcome, to cost and to net value, with intervals.

One set of draws serves all of them, because credit is linear: each draw holds what every player added to the
outcome and to the cost of the same runs, and their correlation is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tokenomics_plugin.credit.games import FloatArray
from tokenomics_plugin.statistics import Mean, Ratio, cluster_mean, ratio_of_sums

__all__ = ["Credit", "Outcomes"]


class Outcomes(NamedTuple):
    """How runs ended, in their order."""

    values: FloatArray
    """Outcome of each: 1 for a success and 0 for a failure, or a score."""
    costs: FloatArray
    """Money that each cost."""

    def net(self, value_of_success: float) -> FloatArray:
        """Money that each run was worth after its cost."""
        return np.asarray(value_of_success * self.values - self.costs, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Credit:
    """Independent draws whose mean is each player's credit."""

    players: tuple[str, ...]
    """The components."""
    values: FloatArray
    """What each player added to the outcome, summed over each draw, (draws, players)."""
    costs: FloatArray
    """What each added to the cost in money, likewise."""
    sizes: FloatArray
    """How many runs, or orders, each draw sums over."""

    def of_value(self, *, confidence: float = 0.95) -> dict[str, Mean]:
        """Credit for the outcome."""
        return self._means(self.values, confidence)

    def of_cost(self, *, confidence: float = 0.95) -> dict[str, Mean]:
        """Share of the cost in money; negative for a component that saves more than it costs."""
        return self._means(self.costs, confidence)

    def of_net(self, value_of_success: float, *, confidence: float = 0.95) -> dict[str, Mean]:
        """Credit for net value in money, when one unit of outcome is worth so much."""
        return self._means(value_of_success * self.values - self.costs, confidence)

    def value_per_dollar(self, value_of_success: float = 1.0, *, confidence: float = 0.95) -> dict[str, Ratio | None]:
        """Value that each player adds per unit of money that it adds to the cost, with Fieller's set.

        An average, and no reason to drop anything: see `leave_one_out_net`.

        Args:
            value_of_success: Money that one unit of outcome is worth; 1 gives outcomes per unit of money.
            confidence: Nominal coverage.

        Returns:
            The ratio of each player; `None` for one that adds nothing to the cost: then a ratio ranks nothing.
        """
        return {
            player: ratio_of_sums(
                zip((value_of_success * values).tolist(), costs.tolist(), strict=True), confidence=confidence
            )
            if costs.sum() > 0
            else None
            for player, values, costs in zip(self.players, self.values.T, self.costs.T, strict=True)
        }

    def _means(self, sums: FloatArray, confidence: float) -> dict[str, Mean]:
        sizes = self.sizes.tolist()
        return {
            player: cluster_mean(zip(column.tolist(), sizes, strict=True), confidence=confidence)
            for player, column in zip(self.players, sums.T, strict=True)
        }

"""Shapley values from production, where each run's components were drawn at random and the odds were logged.

No replay and no model of the outcome: every run, weighted by the inverse of the probability of its own coalition,
serves every component and both games at once. Unbiased whatever the odds are, as long as each coalition can come up.

Most traffic should run with nearly everything on. Then few effective runs speak about small coalitions, and the
Shapley value, which weighs all sizes alike, is known poorly; what the last player in adds, and pairs, is known well.
`CoalitionDraws.effective_runs` says how much is left of the runs.

Derivation: the Shapley value is a sum over coalitions S of worth(S) times w(|S| - 1) for a player in S and -w(|S|)
for one outside, with w(s) = s! (d - s - 1)! / d!; a mean over runs of the same, each divided by the probability of
its coalition, has that expectation (Horvitz and Thompson, JASA 47, 1952).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.credit.clusters import Clusters
from tokenomics_plugin.credit.exact import shapley_coefficients
from tokenomics_plugin.credit.games import FloatArray, GameError, check_players
from tokenomics_plugin.credit.replays import BoolArray
from tokenomics_plugin.credit.shares import Credit, Outcomes

__all__ = ["CoalitionDraws", "draw_each_alone", "draw_sizes_alike", "one_pass_shapley"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CoalitionDraws:
    """What was switched on in each run, and how likely that was."""

    players: tuple[str, ...]
    """The components."""
    on: BoolArray
    """Whether each was on, (runs, players)."""
    propensities: FloatArray
    """Probability of each run's whole coalition, as it was when it was drawn."""
    clusters: Sequence[object] | NDArray[np.generic] | None = None
    """Task of each run, where tasks are run repeatedly; `None` when each run is a task of its own."""

    def __post_init__(self) -> None:
        check_players(self.players)
        if self.on.ndim != 2 or self.on.shape[1] != len(self.players):
            raise GameError(f"on must be (runs, {len(self.players)} players), got {self.on.shape}")
        if self.propensities.shape != self.on.shape[:1]:
            raise GameError(f"each of {len(self.on)} runs needs a propensity, got {self.propensities.shape}")
        if not np.all((self.propensities > 0) & (self.propensities <= 1)):
            raise GameError(
                "the probability of a coalition that came up must be above 0 and at most 1: log it at the draw"
            )

    @property
    def effective_runs(self) -> float:
        """How many equally likely runs would tell as much: (sum of 1/p)**2 / sum of 1/p**2 (Kish, 1965)."""
        weights = 1 / self.propensities
        return float(weights.sum() ** 2 / (weights**2).sum())


def draw_each_alone(players: Sequence[str], *, probability: float, runs: int, seed: int) -> CoalitionDraws:
    """Switch each player on by a coin of its own.

    Raises:
        GameError: If the probability is not strictly between 0 and 1: then some coalitions could not come up.
    """
    if not 0 < probability < 1:
        raise GameError(f"probability must be strictly between 0 and 1, got {probability}")
    on = np.random.default_rng(seed).random((runs, len(players))) < probability
    size = on.sum(axis=1)
    propensities = probability**size * (1 - probability) ** (len(players) - size)
    return CoalitionDraws(players=tuple(players), on=on, propensities=propensities)


def draw_sizes_alike(players: Sequence[str], *, runs: int, seed: int) -> CoalitionDraws:
    """Draw how many are on, each number as likely as the next, then who: what the Shapley value weighs, evenly."""
    count, random = len(players), np.random.default_rng(seed)
    size = random.integers(0, count + 1, size=runs)
    on = random.random((runs, count)).argsort(axis=1).argsort(axis=1) < size[:, np.newaxis]
    of_size = np.array([1 / ((count + 1) * comb(count, number)) for number in range(count + 1)])
    return CoalitionDraws(players=tuple(players), on=on, propensities=of_size[size])


def one_pass_shapley(draws: CoalitionDraws, outcomes: Outcomes) -> Credit:
    """Estimate the Shapley values of outcome and cost from randomised runs.

    Outcomes are taken relative to the mean of the other clusters, which cuts the variance and, unlike the mean of
    all runs, adds no bias.

    Raises:
        GameError: If there is not one outcome and one cost for each run.
        ValueError: If there are fewer than two clusters.
    """
    runs, players = draws.on.shape
    for name, figures in outcomes._asdict().items():
        if np.shape(figures) != (runs,):
            raise GameError(f"each of {runs} runs needs one of {name}, got {np.shape(figures)}")
    clusters = Clusters.of(draws.clusters, runs=runs)
    inside, outside = shapley_coefficients(draws.on.sum(axis=1), players)
    weights = np.where(draws.on, inside[:, np.newaxis], outside[:, np.newaxis]) / draws.propensities[:, np.newaxis]

    def terms(figures: FloatArray) -> FloatArray:
        others = (figures.sum() - clusters.sums(figures)) / (runs - clusters.sizes)
        return clusters.sums((figures - others[clusters.index])[:, np.newaxis] * weights)

    return Credit(
        players=draws.players,
        values=terms(np.asarray(outcomes.values, dtype=np.float64)),
        costs=terms(np.asarray(outcomes.costs, dtype=np.float64)),
        sizes=clusters.sizes,
    )

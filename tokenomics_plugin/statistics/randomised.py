"""What a decision brings that was left to chance: to go on or to stop, retry or not, reflect or not.

At a small share of decisions a coin with a known, logged probability overrules the agent. The difference between the
two arms is then caused by the decision and not by the difficulty that made the agent decide. Augmented inverse
probability weighting uses the logged probabilities, which makes it unbiased, and a regression on what was known
before the decision, which makes it precise; a wrong regression costs precision, not truth.

Sources: Robins, Rotnitzky and Zhao, JASA 89, 1994; cross-fitting: Chernozhukov et al., arXiv 1608.00060;
micro-randomised trials: Klasnja et al., Health Psychology 34, 2015.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.statistics.clusters import Column, Floats, as_column, cluster_numbers, cluster_sums
from tokenomics_plugin.statistics.mean import Mean, cluster_mean
from tokenomics_plugin.statistics.ratio import Ratio, ratio_of_sums

__all__ = ["RandomisedDecisions"]

_FOLDS = 5


class RandomisedDecisions:
    """Decisions that a coin with a logged probability took part in; columns are in the order of the decisions."""

    def __init__(
        self,
        *,
        went_on: Sequence[bool] | NDArray[np.bool_],
        probabilities: Column,
        known_before: Sequence[Sequence[float]] | Floats | None = None,
        clusters: Sequence[Hashable] | None = None,
        seed: int = 0,
    ) -> None:
        """Check, and split the clusters for cross-fitting.

        Args:
            went_on: Whether the run went on, or did whatever the decision was about.
            probabilities: Probability with which it would, as logged; strictly between 0 and 1.
            known_before: Shape (decisions, covariates): what was known before the decision, such as errors so far and
                money spent. Nothing that the decision could have changed.
            clusters: The cluster of each decision: decisions of one task belong together.
            seed: Of the split.

        Raises:
            ValueError: If columns differ in length, a probability is 0 or 1, or an arm is empty.
        """
        self._probabilities = as_column("probabilities", probabilities)
        size = len(self._probabilities)
        self._went_on = np.asarray(went_on, dtype=bool)
        self._clusters = clusters
        self._known = _covariates(known_before, size)
        if len(self._went_on) != size:
            raise ValueError(f"needs one decision per probability, got {len(self._went_on)} for {size}")
        if not ((self._probabilities > 0) & (self._probabilities < 1)).all():
            raise ValueError("probabilities must be strictly between 0 and 1: what never varied teaches nothing")
        if self._went_on.all() or not self._went_on.any():
            raise ValueError("needs decisions of both kinds, all were the same")
        self._folds = _folds(cluster_numbers(clusters, size=size), seed)

    def effect(self, outcomes: Column, *, confidence: float = 0.95) -> Mean:
        """Mean difference of an outcome between going on and stopping, over these decisions.

        Args:
            outcomes: Such as success, cost of the rest of the run, or value times success minus cost.
            confidence: Nominal coverage of the interval, Student's over clusters.

        Raises:
            ValueError: If there is not one finite outcome per decision, or there are fewer than two clusters.
        """
        differences = self._differences("outcomes", outcomes)
        totals = cluster_sums(np.stack([differences, np.ones_like(differences)], axis=1), self._clusters)
        return cluster_mean(totals, confidence=confidence)

    def marginal_value(self, outcomes: Column, costs: Column, *, value: float, confidence: float = 0.95) -> Mean:
        """Net value of going on, per decision: value times its effect on the outcome, minus that on cost."""
        size = len(self._probabilities)
        worth = value * as_column("outcomes", outcomes, size=size) - as_column("costs", costs, size=size)
        return self.effect(worth, confidence=confidence)

    def cost_per_additional_success(self, outcomes: Column, costs: Column, *, confidence: float = 0.95) -> Ratio:
        """Effect on cost over effect on the outcome: the value of a success above which going on pays; Fieller's set.

        Raises:
            ValueError: As `effect`, or if the effect on the outcome is exactly 0.
        """
        above, below = self._differences("costs", costs), self._differences("outcomes", outcomes)
        return ratio_of_sums(cluster_sums(np.stack([above, below], axis=1), self._clusters), confidence=confidence)

    def _differences(self, name: str, outcomes: Column) -> Floats:
        """An unbiased guess of each decision's own difference; their mean is the estimate."""
        column = as_column(name, outcomes, size=len(self._probabilities))
        on, stop = (self._predictions(column, arm) for arm in (self._went_on, ~self._went_on))
        chance = self._probabilities
        corrected_on = on + self._went_on / chance * (column - on)
        corrected_stop = stop + ~self._went_on / (1 - chance) * (column - stop)
        difference: Floats = corrected_on - corrected_stop
        return difference

    def _predictions(self, outcomes: Floats, arm: NDArray[np.bool_]) -> Floats:
        """Outcome expected in an arm, by least squares on the arm's decisions in other folds."""
        predicted = np.empty_like(outcomes)
        for fold in np.unique(self._folds):
            inside = self._folds == fold
            train = arm & ~inside
            if train.sum() > self._known.shape[1]:
                weights = np.linalg.lstsq(self._known[train], outcomes[train], rcond=None)[0]
                predicted[inside] = self._known[inside] @ weights
            else:
                predicted[inside] = outcomes[train].mean() if train.any() else 0.0
        return predicted


def _covariates(known_before: Sequence[Sequence[float]] | Floats | None, size: int) -> Floats:
    """Shape (decisions, 1 + covariates), the first of which is constant; others are centred and scaled."""
    if known_before is None:
        return np.ones((size, 1))
    known = np.asarray(known_before, dtype=np.float64)
    if known.ndim != 2 or len(known) != size or not np.isfinite(known).all():
        raise ValueError(f"known_before must be finite, of shape ({size}, covariates), got shape {known.shape}")
    spread = known.std(axis=0)
    return np.hstack([np.ones((size, 1)), (known - known.mean(axis=0)) / np.where(spread > 0, spread, 1.0)])


def _folds(numbers: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """The fold of each decision: whole clusters, at random."""
    clusters = int(numbers.max()) + 1
    folds = np.random.default_rng(seed).permutation(clusters) % min(_FOLDS, clusters)
    return folds[numbers]

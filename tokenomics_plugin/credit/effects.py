"""What one switch does to a run: from logged chance an effect, from anything else an association.

Agents reflect, retry and verify when a task looks hard. So runs that reflected end worse than those that did not,
though reflection helped each of them; covariates that only roughly know the difficulty take away a part of that and
leave the rest. No regression can tell how much: what comes from logs where nobody drew lots is an `Association`, by
type and in print. Where a share of decisions was overridden by chance and the odds were logged, the effect is
identified, whatever the agent knew that the log does not.

Sources: augmented inverse probability weighting: Robins, Rotnitzky and Zhao, JASA 89, 1994, here with known odds and
predictions from other folds (Chernozhukov et al., Econometrics Journal 21, 2018); robustness value: Cinelli and
Hazlett, J. Royal Statistical Society B 82(1), 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.credit.clusters import Clusters
from tokenomics_plugin.credit.games import FloatArray
from tokenomics_plugin.credit.replays import BoolArray
from tokenomics_plugin.statistics import Range, cluster_mean
from tokenomics_plugin.statistics.quantiles import t_quantile

__all__ = ["Association", "RandomisedEffect", "adjusted_association", "randomised_effect"]

Labels = Sequence[object] | NDArray[np.generic]
_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class RandomisedEffect:
    """Mean difference that a switch makes, identified by logged chance."""

    estimate: float
    """Outcome with it on minus outcome with it off, averaged over the runs at hand."""
    interval: Range
    """Confidence interval, over clusters."""
    clusters: int
    """Independent draws behind it."""
    effective_runs: float
    """How many runs decided by a fair coin would tell as much."""
    basis: Literal["randomised"] = field(default="randomised", init=False)
    """What it rests on."""


@dataclass(frozen=True, kw_only=True)
class Association:
    """Difference between runs in which something was on and runs in which it was off. Not what switching it does."""

    estimate: float
    """Outcome with it on minus outcome with it off, at equal covariates."""
    interval: Range
    """Confidence interval, over clusters: of the association, so it may well not hold the effect."""
    clusters: int
    """Independent draws behind it."""
    robustness: float
    """Share of the remaining variance, of the switch and of the outcome, that something hidden would have to explain
    to bring the estimate to 0: near 0 a trifle undoes it, near 1 nothing does."""
    basis: Literal["association"] = field(default="association", init=False)
    """What it rests on."""

    def __str__(self) -> str:
        return f"association {self.estimate:+.4g} [{self.interval.low:+.4g}, {self.interval.high:+.4g}]"


def randomised_effect(
    outcomes: FloatArray,
    *,
    on: BoolArray,
    propensities: FloatArray,
    covariates: FloatArray | None = None,
    clusters: Labels | None = None,
    confidence: float = 0.95,
) -> RandomisedEffect:
    """Estimate what a switch does from runs whose odds of having it on were logged.

    Give net value as the outcomes to learn what the switch is worth in money. Where a decision comes up only in some
    runs, such as a retry after a failure, give those runs: the effect is then that among the runs that reach it.

    Args:
        outcomes: Outcome, cost or net value of each run.
        on: Whether it was on in each.
        propensities: Probability of its being on, as it was when the decision was taken.
        covariates: What was known of each run before the decision, (runs, covariates); only makes it more precise.
        clusters: Task of each run; `None` when each run is a task of its own.
        confidence: Nominal coverage.

    Raises:
        ValueError: If lengths differ, a propensity is not strictly between 0 and 1, a fifth of the clusters holds
            all runs that were on or all that were off, or there are fewer than two clusters.
    """
    _check_lengths(len(outcomes), on=on, propensities=propensities, covariates=covariates)
    if not np.all((propensities > 0) & (propensities < 1)):
        raise ValueError("propensities must be strictly between 0 and 1: leave out runs in which nothing was drawn")
    groups = Clusters.of(clusters, runs=len(outcomes))
    if_on, if_off = _predictions(outcomes, on, _design(covariates, len(outcomes)), groups.index % _FOLDS)
    residuals = np.where(on, (outcomes - if_on) / propensities, (if_off - outcomes) / (1 - propensities))
    terms = if_on - if_off + residuals
    mean = cluster_mean(zip(groups.sums(terms).tolist(), groups.sizes.tolist(), strict=True), confidence=confidence)
    weights = 1 / np.where(on, propensities, 1 - propensities)
    return RandomisedEffect(
        estimate=mean.estimate,
        interval=mean.interval,
        clusters=mean.clusters,
        effective_runs=float(weights.sum() ** 2 / (weights**2).sum()),
    )


def adjusted_association(
    outcomes: FloatArray,
    *,
    on: BoolArray,
    covariates: FloatArray | None = None,
    clusters: Labels | None = None,
    within_clusters: bool = False,
    confidence: float = 0.95,
) -> Association:
    """Compare runs with something on and off at equal covariates, by least squares; without covariates, plainly.

    Args:
        outcomes: Outcome, cost or net value of each run.
        on: Whether it was on in each.
        covariates: What was known of each run before, (runs, covariates). Never what the run produced.
        clusters: Task of each run; `None` when each run is a task of its own.
        within_clusters: Compare runs of the same task only, so that nothing that a task's runs share is mistaken
            for the switch.
        confidence: Nominal coverage.

    Raises:
        ValueError: If lengths differ, it was on in all runs or in none (of any task, when comparing within them),
            there are fewer than two clusters, or no more runs than coefficients.
    """
    _check_lengths(len(outcomes), on=on, covariates=covariates)
    groups = Clusters.of(clusters, runs=len(outcomes))
    design = np.column_stack([on.astype(np.float64), _design(covariates, len(outcomes))])
    if within_clusters:
        design, outcomes = _within(design, groups), _within(outcomes[:, np.newaxis], groups)[:, 0]
    others = design[:, 1:]
    # Frisch, Waugh and Lovell: what of the switch the covariates do not tell is all that its coefficient rests on.
    switch = design[:, 0] - others @ np.linalg.lstsq(others, design[:, 0], rcond=None)[0]
    spread = float(switch @ switch)
    if spread <= 1e-9 * len(switch):
        raise ValueError("nothing to compare: it was on in all runs or in none, or the covariates tell which")
    if len(outcomes) <= design.shape[1]:
        raise ValueError(f"{design.shape[1]} coefficients need more runs than that, got {len(outcomes)}")
    estimate = float(switch @ outcomes) / spread
    rest = outcomes - design[:, 0] * estimate
    residuals = rest - others @ np.linalg.lstsq(others, rest, rcond=None)[0]
    scores = groups.sums(switch * residuals)
    small_sample = groups.count / (groups.count - 1) * (len(outcomes) - 1) / (len(outcomes) - design.shape[1])
    error = float(np.sqrt(small_sample * (scores @ scores))) / spread
    reach = t_quantile(confidence, degrees_of_freedom=groups.count - 1) * error
    return Association(
        estimate=estimate,
        interval=Range(low=estimate - reach, high=estimate + reach),
        clusters=groups.count,
        robustness=_robustness(estimate**2 * spread, float(residuals @ residuals)),
    )


def _robustness(explained: float, unexplained: float) -> float:
    """Robustness value (sqrt(f**4 + 4 f**2) - f**2) / 2, where f**2 is what is explained over what is not."""
    if explained == 0:
        return 0.0
    # The same without a difference of nearly equal numbers, and without a quotient that may have no denominator.
    return 2 * explained / (float(np.sqrt(explained**2 + 4 * explained * unexplained)) + explained)


def _check_lengths(runs: int, **of_runs: FloatArray | BoolArray | None) -> None:
    for name, figures in of_runs.items():
        if figures is not None and len(figures) != runs:
            raise ValueError(f"{name} must have one entry for each of {runs} runs, got {len(figures)}")


def _design(covariates: FloatArray | None, runs: int) -> FloatArray:
    """A column of ones, and the covariates."""
    ones = np.ones((runs, 1))
    return ones if covariates is None else np.column_stack([ones, covariates])


def _within(figures: FloatArray, groups: Clusters) -> FloatArray:
    means = groups.sums(figures) / groups.sizes[:, np.newaxis]
    return np.asarray(figures - means[groups.index], dtype=np.float64)


def _predictions(
    outcomes: FloatArray, on: BoolArray, design: FloatArray, folds: NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Outcome of each run if on and if off, by least squares over the other folds, so that no run predicts itself."""
    predicted = np.empty((2, len(outcomes)))
    for fold in np.unique(folds):
        for row, arm in enumerate((on, ~on)):
            learn = arm & (folds != fold)
            if not learn.any():
                state = "off" if row else "on"
                raise ValueError(f"runs that were {state} are needed in at least two fifths of the clusters: log more")
            coefficients = np.linalg.lstsq(design[learn], outcomes[learn], rcond=None)[0]
            predicted[row, folds == fold] = design[folds == fold] @ coefficients
    return predicted[0], predicted[1]

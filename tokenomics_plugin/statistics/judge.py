"""What people would say of all tasks, from a judge's scores of all and people's labels of some.

A judge, such as a language model, is cheap and biased. Prediction-powered inference corrects its bias by the tasks
that people labelled too, and weighs it by how much it tells: a useless judge leaves the people's own estimate, an
excellent one is worth as many labels. The people's tasks must be a random sample of all.

Sources: Angelopoulos et al., "Prediction-powered inference", Science 382, 2023, and PPI++, arXiv 2311.01453, whose
weight lambda = Cov(label, score) / ((1 + n/N) Var(score)) applies to n labelled and N unlabelled tasks.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.statistics.bounds import Range
from tokenomics_plugin.statistics.clusters import Column, Floats, as_column, cluster_sums
from tokenomics_plugin.statistics.fieller import Moments, fieller_set
from tokenomics_plugin.statistics.mean import Mean
from tokenomics_plugin.statistics.quantiles import t_quantile
from tokenomics_plugin.statistics.ratio import Ratio

__all__ = ["MIN_HUMAN_LABELS", "JudgedSample", "JudgedValue"]

MIN_HUMAN_LABELS = 50
"""Human labels below which a judge counts as uncalibrated."""


@dataclass(frozen=True, kw_only=True)
class JudgedValue:
    """What the tasks are worth by the people's standard."""

    mean: Mean
    """Per task; its clusters are those that people labelled."""
    judge_only: float
    """Mean of the judge's scores over all tasks: what one would say without people."""
    weight: float
    """How much the judge counts, lambda; 0 when its scores tell nothing."""
    labels: int
    """Tasks that people labelled."""
    caveat: str | None
    """"uncalibrated judge", and why; `None` when there are labels enough."""


class JudgedSample:
    """Tasks that a judge scored, some of which people labelled as well; columns are in the order of the tasks."""

    def __init__(
        self,
        *,
        scores: Column,
        labels: Sequence[float | None] | NDArray[np.generic],
        clusters: Sequence[Hashable] | None = None,
    ) -> None:
        """Check and fit.

        Args:
            scores: The judge's, one per task.
            labels: The people's, on the scale that is to be estimated; `None` or NaN where there is none.
            clusters: The cluster of each task, where tasks are alike.

        Raises:
            ValueError: If columns differ in length, a number is infinite, or labels come from fewer than two clusters.
        """
        self._scores = as_column("scores", scores)
        self._labels = np.array([np.nan if label is None else label for label in labels], dtype=np.float64)
        self._clusters = clusters
        if len(self._labels) != len(self._scores):
            raise ValueError(f"needs one label or None per score, got {len(self._labels)} for {len(self._scores)}")
        if np.isinf(self._labels).any():
            raise ValueError("labels must be finite, or None where there is none")
        self._is_labelled = ~np.isnan(self._labels)
        self._labelled_clusters = len(
            np.unique(self._cluster_totals(self._is_labelled.astype(np.float64)).nonzero()[0])
        )
        if self._labelled_clusters < 2:
            raise ValueError(f"needs labels from at least two clusters, got {self._labelled_clusters}")
        self._weight = _weight(self._scores, self._labels, self._is_labelled)

    def value(self, *, confidence: float = 0.95) -> JudgedValue:
        """Mean label over all tasks, with an interval that is clustered and Student's."""
        estimate, influence = self._estimate()
        degrees_of_freedom = self._labelled_clusters - 1
        reach = (
            t_quantile(confidence, degrees_of_freedom=degrees_of_freedom)
            * _covariance(self._cluster_totals(influence))[0, 0] ** 0.5
        )
        labels = int(self._is_labelled.sum())
        return JudgedValue(
            mean=Mean(
                estimate=estimate,
                interval=Range(low=float(estimate - reach), high=float(estimate + reach)),
                clusters=self._labelled_clusters,
            ),
            judge_only=float(self._scores.mean()),
            weight=self._weight,
            labels=labels,
            caveat=_caveat(labels),
        )

    def value_per_cost(self, costs: Column, *, confidence: float = 0.95) -> Ratio:
        """Mean label over mean cost, all tasks; Fieller's set.

        Raises:
            ValueError: If there is not one finite cost per task, or they sum to 0.
        """
        value, value_influence = self._estimate()
        cost, cost_influence = self._mean_cost(costs)
        return self._ratio((value, value_influence), (cost, cost_influence), confidence)

    def cost_per_value(self, costs: Column, *, confidence: float = 0.95) -> Ratio:
        """Mean cost over mean label, all tasks, such as cost per success; Fieller's set.

        Raises:
            ValueError: If there is not one finite cost per task, or the mean label is 0.
        """
        return self._ratio(self._mean_cost(costs), self._estimate(), confidence)

    def _estimate(self) -> tuple[float, Floats]:
        """Mean label, and each task's influence on it."""
        labelled = self._is_labelled
        weighed = self._weight * self._scores
        residuals = self._labels[labelled] - weighed[labelled]
        influence = np.zeros_like(weighed)
        influence[labelled] = (residuals - residuals.mean()) / len(residuals)
        if labelled.all():
            return float(residuals.mean()), influence
        rest = weighed[~labelled]
        influence[~labelled] = (rest - rest.mean()) / len(rest)
        return float(residuals.mean() + rest.mean()), influence

    def _mean_cost(self, costs: Column) -> tuple[float, Floats]:
        column = as_column("costs", costs, size=len(self._scores))
        return float(column.mean()), (column - column.mean()) / len(column)

    def _ratio(self, above: tuple[float, Floats], below: tuple[float, Floats], confidence: float) -> Ratio:
        if below[0] == 0:
            raise ValueError("the mean below the line is 0: there is no ratio")
        covariance = _covariance(self._cluster_totals(above[1], below[1]))
        moments = Moments(
            mean_a=above[0],
            mean_b=below[0],
            var_a=float(covariance[0, 0]),
            var_b=float(covariance[1, 1]),
            cov_ab=float(covariance[0, 1]),
        )
        t = t_quantile(confidence, degrees_of_freedom=self._labelled_clusters - 1)
        return Ratio(
            estimate=above[0] / below[0],
            confidence_set=fieller_set(moments, t),
            clusters=self._labelled_clusters,
        )

    def _cluster_totals(self, *columns: Floats) -> Floats:
        return cluster_sums(np.stack(columns, axis=1), self._clusters)


def _weight(scores: Floats, labels: Floats, is_labelled: NDArray[np.bool_]) -> float:
    """The weight of the judge that makes the estimate most precise; its scores of unlabelled tasks are counted once."""
    unlabelled = len(scores) - int(is_labelled.sum())
    variance = float(scores.var())
    if not unlabelled or not variance:
        return 0.0
    covariance = float(np.cov(labels[is_labelled], scores[is_labelled])[0, 1])
    return covariance / ((1 + int(is_labelled.sum()) / unlabelled) * variance)


def _covariance(influences: Floats) -> Floats:
    """Covariances of estimates, from each cluster's influence on them: shape (clusters, estimates)."""
    found: Floats = influences.T @ influences * len(influences) / (len(influences) - 1)
    return found


def _caveat(labels: int) -> str | None:
    if labels >= MIN_HUMAN_LABELS:
        return None
    return f"uncalibrated judge: {labels} human labels, fewer than {MIN_HUMAN_LABELS}"

"""How many tasks a comparison needs, before it is made.

The variance of log(cost per success) comes from three things alone: how unequal costs are, how rare success is, and
how the two go together. One run-in of a few dozen tasks gives all three.

Source: delta method on log(mean cost / success rate), with Kish's design effect for clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, sqrt

from tokenomics_plugin.statistics.quantiles import check_confidence, normal_quantile

__all__ = ["Spread", "design_effect"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How tasks vary."""

    success_rate: float
    """Share of tasks that succeed."""
    cost_variation: float
    """Coefficient of variation of a task's cost: standard deviation over mean."""
    correlation: float = 0.0
    """Of cost and success over tasks; negative when failures are dearer."""

    def __post_init__(self) -> None:
        if not 0 < self.success_rate < 1 or self.cost_variation < 0 or not -1 <= self.correlation <= 1:
            raise ValueError(
                "needs a success rate strictly between 0 and 1, a cost variation of at least 0 and a correlation from "
                f"-1 to 1, got {self}"
            )

    @property
    def variance_of_log(self) -> float:
        """tau**2: the variance of log(cost per success), times the number of tasks."""
        odds_against = (1 - self.success_rate) / self.success_rate
        shared = 2 * self.correlation * self.cost_variation * sqrt(odds_against)
        return self.cost_variation**2 + odds_against - shared

    def tasks_to_detect(
        self, change: float, *, power: float = 0.8, confidence: float = 0.95, paired: float = 0.0, effect: float = 1.0
    ) -> int:
        """Tasks in each of two arms to detect a relative change of cost per success.

        Args:
            change: Such as -0.2 for a fifth less; above -1.
            power: Probability of detecting it.
            confidence: Of the two-sided test.
            paired: Correlation between the arms when both run the same tasks: it saves that share of them.
            effect: Design effect of clusters, see `design_effect`.

        Raises:
            ValueError: If an argument is out of range.
        """
        if change <= -1 or change == 0:
            raise ValueError(f"change must be above -1 and not 0, such as -0.2 for a fifth less, got {change}")
        if not -1 <= paired < 1 or effect < 1:
            raise ValueError(f"needs -1 <= paired < 1 and effect >= 1, got paired={paired} and effect={effect}")
        quantiles = normal_quantile(confidence) + _one_sided(power)
        return ceil(2 * quantiles**2 * self.variance_of_log / log(1 + change) ** 2 * (1 - paired) * effect)

    def tasks_for_precision(self, width: float, *, confidence: float = 0.95, effect: float = 1.0) -> int:
        """Tasks until the interval of cost per success reaches from 1 / (1 + width) to 1 + width times its estimate.

        Raises:
            ValueError: If `width` is not positive, or `effect` below 1.
        """
        if width <= 0 or effect < 1:
            raise ValueError(f"needs a positive width and effect >= 1, got width={width} and effect={effect}")
        return ceil((normal_quantile(confidence) / log(1 + width)) ** 2 * self.variance_of_log * effect)


def design_effect(*, tasks_per_cluster: float, correlation: float) -> float:
    """How many times more tasks are needed when tasks of a cluster are alike: 1 + (m - 1) ICC.

    Raises:
        ValueError: If a cluster has less than one task, or the correlation is not between 0 and 1.
    """
    if tasks_per_cluster < 1 or not 0 <= correlation <= 1:
        raise ValueError(
            "needs at least one task per cluster and a correlation from 0 to 1, got "
            f"tasks_per_cluster={tasks_per_cluster} and correlation={correlation}"
        )
    return 1 + (tasks_per_cluster - 1) * correlation


def _one_sided(probability: float) -> float:
    """The z with P(Z <= z) = `probability`."""
    check_confidence(probability)
    if probability == 0.5:
        return 0.0
    reach = normal_quantile(abs(2 * probability - 1))
    return reach if probability > 0.5 else -reach

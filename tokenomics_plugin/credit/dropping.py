"""Whether to drop a component: what it adds to all the others, in money, and whether that is surely negative.

The last one in decides, not an average over coalitions that nobody will run: after dropping, the rest stays on.
A component may save money, when the rest works harder without it, so both runs are compared whole.

Two components that replace each other look worthless one by one, and dropping both loses what either gave: compare
all with all but both, or look at `interactions` first, before dropping a second.

The same comparison tells what one step of a run did: run on from the same prefix, some times with the step and some
times with it changed. Both must be run again: what was observed is one draw, and was picked for how it ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.credit.clusters import Clusters
from tokenomics_plugin.credit.games import FloatArray
from tokenomics_plugin.credit.shares import Outcomes
from tokenomics_plugin.statistics import MIN_CLUSTERS, Mean, Range
from tokenomics_plugin.statistics.quantiles import t_quantile

__all__ = ["Arm", "LeaveOneOutNet", "Verdict", "leave_one_out_net"]


class Verdict(StrEnum):
    """What the interval of a component's last-in net value says."""

    DROP = "drop"
    """All of it is below 0."""
    KEEP = "keep"
    """All of it is above 0."""
    UNDECIDED = "undecided"
    """It holds 0, or rests on too few tasks: run more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """Runs of one setting, chosen before they began: by chance, or by replaying the same tasks."""

    outcomes: Outcomes
    """How each run ended."""
    clusters: Sequence[object] | NDArray[np.generic]
    """Task of each run. A task in both arms is compared with itself, which makes the interval narrower."""

    def __post_init__(self) -> None:
        sizes = {len(self.outcomes.values), len(self.outcomes.costs), len(self.clusters)}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(f"an arm needs one value, cost and cluster for each run, and a run; got {sorted(sizes)}")


@dataclass(frozen=True, kw_only=True)
class LeaveOneOutNet:
    """What a component adds to all the others."""

    value: Mean
    """To the outcome of a run."""
    cost: Mean
    """To its cost in money; negative where it saves."""
    net: Mean
    """To its net value in money."""
    verdict: Verdict
    """What that says."""


def leave_one_out_net(
    all_on: Arm, all_but_one: Arm, *, value_of_success: float, confidence: float = 0.95
) -> LeaveOneOutNet:
    """Compare runs with everything on to runs without one component.

    The standard error is over tasks, across both arms; Student's t has the degrees of freedom of the smaller arm,
    which never claims too much. One comparison: where many components are tested at once, ask for more confidence.

    Args:
        all_on: Runs with every component.
        all_but_one: Runs with every component but this one, or but a pair.
        value_of_success: Money that one unit of outcome is worth.
        confidence: Nominal coverage of the two-sided interval.

    Raises:
        ValueError: If an arm has fewer than two tasks.
    """

    def difference(of_arm: FloatArray, of_other: FloatArray) -> Mean:
        return _difference(of_arm, of_other, all_on.clusters, all_but_one.clusters, confidence)

    net = difference(all_on.outcomes.net(value_of_success), all_but_one.outcomes.net(value_of_success))
    return LeaveOneOutNet(
        value=difference(all_on.outcomes.values, all_but_one.outcomes.values),
        cost=difference(all_on.outcomes.costs, all_but_one.outcomes.costs),
        net=net,
        verdict=_verdict(net),
    )


def _verdict(net: Mean) -> Verdict:
    if net.clusters < MIN_CLUSTERS or 0 in net.interval:
        return Verdict.UNDECIDED
    return Verdict.KEEP if net.estimate > 0 else Verdict.DROP


def _difference(
    first: FloatArray,
    second: FloatArray,
    first_labels: Sequence[object] | NDArray[np.generic],
    second_labels: Sequence[object] | NDArray[np.generic],
    confidence: float,
) -> Mean:
    """Mean of the first minus mean of the second; its clusters are those of the smaller arm."""
    labels = np.concatenate([np.asarray(first_labels), np.asarray(second_labels)])
    groups = Clusters.of(labels, runs=len(labels))
    fewest = min(len(np.unique(np.asarray(first_labels))), len(np.unique(np.asarray(second_labels))))
    if fewest < 2:
        raise ValueError(f"an interval needs at least two tasks in each arm, got {fewest}")
    # How far each run draws the difference away from its mean, summed over the runs of a task.
    pulls = np.concatenate([(first - first.mean()) / len(first), -(second - second.mean()) / len(second)])
    of_tasks = groups.sums(pulls)
    error = float(np.sqrt(fewest / (fewest - 1) * (of_tasks @ of_tasks)))
    reach = t_quantile(confidence, degrees_of_freedom=fewest - 1) * error
    estimate = float(first.mean() - second.mean())
    return Mean(estimate=estimate, interval=Range(low=estimate - reach, high=estimate + reach), clusters=fewest)

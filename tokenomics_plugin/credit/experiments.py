"""Whether an experiment is worth its money, before it is run: what it may lose, and what knowing more would gain.

An experiment only gains something where its result changes what is done. So a component that is clearly good is not
worth testing, and neither is one whose runs are few: what it can save is the saving if the decision changes, times
the chance of that, times the runs that follow, and that must exceed what the experiment costs.

Source: expected value of sample information for a normal mean: Raiffa and Schlaifer, Applied Statistical Decision
Theory, 1961, chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, pi, sqrt

from scipy import special

from tokenomics_plugin.statistics import Mean
from tokenomics_plugin.statistics.quantiles import t_quantile

__all__ = ["ExperimentWorth", "experiment_worth", "regret_bound"]


@dataclass(frozen=True, kw_only=True)
class ExperimentWorth:
    """What an experiment is expected to bring."""

    gain: float
    """Money that the better decision is expected to be worth over all runs that follow."""
    chance_of_change: float
    """Probability that the result turns the decision that would be taken without it."""
    cost: float
    """Money that the experiment takes."""

    @property
    def ratio(self) -> float:
        """Gain per unit of cost; run the experiment when it is above 1."""
        return self.gain / self.cost


def experiment_worth(
    so_far: Mean, *, tasks: int, cost: float, runs_that_follow: int, confidence: float = 0.95
) -> ExperimentWorth:
    """Expect what further tasks would change.

    Args:
        so_far: What is known of the net value in money that a change adds to a run, such as from a pilot. Without
            more, the change is made if its estimate is above 0.
        tasks: Independent tasks of the experiment, each as noisy as those behind `so_far`.
        cost: Money that it takes, runs and losses to worse settings together.
        runs_that_follow: Runs to which the decision then applies.
        confidence: Nominal coverage of the interval of `so_far`.

    Raises:
        ValueError: If there are no tasks, or the cost is not positive.
    """
    if tasks < 1 or cost <= 0:
        raise ValueError(f"an experiment has tasks and costs money, got tasks={tasks} and cost={cost}")
    if so_far.interval.low is None:
        raise ValueError("so_far must have an interval with two ends")
    reach = t_quantile(confidence, degrees_of_freedom=so_far.clusters - 1)
    error = (so_far.estimate - so_far.interval.low) / reach
    # How far the estimate is expected to move: all of its error after endless tasks, none after no task.
    shift = error * sqrt(tasks / (tasks + so_far.clusters))
    if shift == 0:
        return ExperimentWorth(gain=0.0, chance_of_change=0.0, cost=cost)
    distance = abs(so_far.estimate) / shift
    chance = float(special.ndtr(-distance))
    gain = shift * (exp(-(distance**2) / 2) / sqrt(2 * pi) - distance * chance)
    return ExperimentWorth(gain=gain * runs_that_follow, chance_of_change=chance, cost=cost)


def regret_bound(*, explored_share: float, decisions: int, worst_loss: float) -> float:
    """Most money that an exploration is expected to lose: print it before the exploration starts.

    Args:
        explored_share: Share of decisions that chance takes.
        decisions: How many decisions, such as of a day.
        worst_loss: Money that one wrong decision loses at most, such as the value of a success and the dearest retry.

    Raises:
        ValueError: If the share is not between 0 and 1, or another figure is negative.
    """
    if not 0 <= explored_share <= 1 or decisions < 0 or worst_loss < 0:
        raise ValueError(
            "explored_share must be between 0 and 1, decisions and worst_loss not negative; got"
            f" {explored_share}, {decisions} and {worst_loss}"
        )
    return explored_share * decisions * worst_loss

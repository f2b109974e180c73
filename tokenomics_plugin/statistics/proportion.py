"""How often something happens, with the interval that stays inside [0, 1] and holds for small counts.

Wilson's score interval, for independent tasks; where tasks come in clusters, the same interval on the
effective number of tasks, which is smaller when the tasks of a cluster end alike.

Sources: Wilson, JASA 22, 1927. Effective size: Korn and Graubard, Survey Methodology 24(2), 1998, whose
degrees-of-freedom factor is used too; Franco et al., J. Survey Statistics and Methodology 7(3), 2019, compare
the choices. No normal approximation below a few hundred tasks: Bowyer et al., arXiv 2503.01747.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum, sqrt

import numpy as np

from tokenomics_plugin.statistics.bounds import Range
from tokenomics_plugin.statistics.clusters import Floats
from tokenomics_plugin.statistics.quantiles import exact_limits, normal_quantile, t_quantile

__all__ = ["clopper_pearson", "clustered_wilson", "effective_wilson", "rule_of_three", "wilson"]


def wilson(successes: float, trials: float, *, confidence: float = 0.95) -> Range:
    """Wilson's score interval of a proportion; counts may be fractional, as effective sizes are.

    Raises:
        ValueError: If there is no trial, or `successes` is not between 0 and `trials`.
    """
    if trials <= 0:
        raise ValueError(f"trials must be positive, got {trials}")
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be between 0 and trials, got successes={successes} and trials={trials}")
    z2 = normal_quantile(confidence) ** 2
    share = successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half_width = sqrt(z2 * (share * (1 - share) + z2 / (4 * trials)) / trials) / (1 + z2 / trials)
    # The limits are exactly 0 and 1 there; floats miss them by a rounding error.
    low = 0.0 if successes == 0 else max(0.0, centre - half_width)
    high = 1.0 if successes == trials else min(1.0, centre + half_width)
    return Range(low=low, high=high)


def clustered_wilson(clusters: Iterable[tuple[int, int]], *, confidence: float = 0.95) -> Range:
    """Wilson's interval when tasks of one cluster may end alike.

    Clusters of one task each give the plain interval.

    Args:
        clusters: (successes, trials) of each cluster.
        confidence: Nominal coverage.

    Raises:
        ValueError: If there is no cluster, or a cluster breaks the rule of `wilson`.
    """
    counts = list(clusters)
    for successes, trials in counts:
        if trials < 1 or not 0 <= successes <= trials:
            raise ValueError(f"a cluster needs 0 <= successes <= trials and a trial, got ({successes}, {trials})")
    if not counts:
        raise ValueError("an interval needs at least one cluster")
    totals, sizes = np.asarray(counts, dtype=np.float64).T
    return effective_wilson(totals, sizes, most=float(sizes.sum()), confidence=confidence)


def rule_of_three(trials: int) -> float:
    """Upper 95 % limit of the rate of something that never happened in `trials`: 3 / trials, at most 1.

    Source: Hanley and Lippman-Hand, JAMA 249(13), 1983.

    Raises:
        ValueError: If there is no trial.
    """
    if trials < 1:
        raise ValueError(f"trials must be positive, got {trials}")
    return min(1.0, 3 / trials)


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> Range:
    """Exact interval of a proportion: covers at least as often as it says, for any counts.

    Source: Clopper and Pearson, Biometrika 26(4), 1934.

    Raises:
        ValueError: If there is no trial, or `successes` is not between 0 and `trials`.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"needs 0 <= successes <= trials and a trial, got successes={successes} and trials={trials}")
    low, high = exact_limits(successes, trials, confidence=confidence)
    return Range(low=low, high=high)


def effective_wilson(totals: Floats, sizes: Floats, *, most: float, confidence: float) -> Range:
    """Wilson's interval of sum(totals) / sum(sizes) on as many independent tasks as would tell as much.

    Args:
        totals: Sum, over the tasks of each cluster, of a number between 0 and 1.
        sizes: Tasks of each cluster.
        most: Independent trials that the clusters can count for at most.
        confidence: Nominal coverage.
    """
    share = min(1.0, fsum(totals.tolist()) / fsum(sizes.tolist()))
    size = _effective_size(totals, sizes, share, most, confidence)
    return wilson(share * size, size, confidence=confidence)


def _effective_size(totals: Floats, sizes: Floats, share: float, most: float, confidence: float) -> float:
    if len(totals) == most:
        return most
    weight = fsum(sizes.tolist()) ** 2
    # As if the tasks of a cluster always ended alike: the least that they can tell.
    least = weight / fsum((sizes**2).tolist())
    if share in (0, 1) or len(totals) == 1:
        return least
    degrees_of_freedom = len(totals) - 1
    variance = fsum(((totals - share * sizes) ** 2).tolist()) / weight * len(totals) / degrees_of_freedom
    penalty = (normal_quantile(confidence) / t_quantile(confidence, degrees_of_freedom=degrees_of_freedom)) ** 2
    if variance == 0:
        return most * penalty
    return min(most, share * (1 - share) / variance) * penalty

"""A ratio as it would be with a fixed mix of tasks, so that an easier mix does not pass for a better agent.

Tasks are grouped into strata by what was known before they ran (template, customer, input length). Each stratum's
means per task are weighted by the same fixed mix for every agent and period. A stratum of the mix that an agent never
met has no mean, and is not made up: there is then no standardised ratio, only the share of the mix that is supported.

Source: Cochran, Sampling Techniques, 3rd ed., 6.11 (combined ratio estimator), with Fieller's set.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from math import fsum
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.statistics.clusters import Floats
from tokenomics_plugin.statistics.fieller import Moments, fieller_set
from tokenomics_plugin.statistics.quantiles import t_quantile
from tokenomics_plugin.statistics.ratio import Ratio

__all__ = ["Standardised", "standardised_ratio"]

Stratum = TypeVar("Stratum", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Standardised(Generic[Stratum]):
    """A ratio with a fixed mix of strata."""

    ratio: Ratio | None
    """With Fieller's set; `None` when a stratum of the mix is not supported."""
    raw: float
    """Ratio of the plain sums, with the mix as it happened."""
    support: float
    """Share of the mix for which there are two clusters or more: fewer have no spread to judge by."""
    unsupported: tuple[Stratum, ...]
    """The strata of the mix that have fewer."""


def standardised_ratio(
    strata: Mapping[Stratum, list[tuple[float, float, float]] | NDArray[np.generic]],
    mix: Mapping[Stratum, float],
    *,
    confidence: float = 0.95,
) -> Standardised[Stratum]:
    """Estimate sum_s w_s mean_s(a) / sum_s w_s mean_s(b), means per task.

    Args:
        strata: (a, b, tasks) of each cluster in each stratum, such as (cost, successes, tasks). A cluster lies in one
            stratum.
        mix: Weight of each stratum, the same for all that is compared; strata without a weight count nothing.
        confidence: Nominal coverage of Fieller's set, with Satterthwaite's degrees of freedom.

    Raises:
        ValueError: If no weight is positive or one is negative, a number is not finite, a cluster has no task, or the
            denominators sum to 0.
    """
    total = fsum(mix.values())
    if total <= 0 or min(mix.values()) < 0:
        raise ValueError(f"the mix needs weights that are not negative and not all 0, got {dict(mix)}")
    weights = {stratum: weight / total for stratum, weight in mix.items() if weight > 0}
    columns = {stratum: _columns(rows) for stratum, rows in strata.items() if len(rows)}
    unsupported = tuple(stratum for stratum in weights if len(columns.get(stratum, ())) < 2)
    raw = np.sum([rows.sum(axis=0) for rows in columns.values()], axis=0) if columns else np.zeros(3)
    if raw[1] == 0:
        raise ValueError("the denominators sum to 0: there is no ratio")
    return Standardised(
        ratio=None if unsupported else _combined([(weights[name], columns[name]) for name in weights], confidence),
        raw=float(raw[0] / raw[1]),
        support=1 - fsum(weights[stratum] for stratum in unsupported),
        unsupported=unsupported,
    )


def _columns(rows: list[tuple[float, float, float]] | NDArray[np.generic]) -> Floats:
    columns = np.asarray(rows, dtype=np.float64)
    if columns.shape != (len(rows), 3) or not np.isfinite(columns).all() or not (columns[:, 2] > 0).all():
        raise ValueError("clusters must each be (a, b, tasks), finite, with at least one task")
    return columns


def _combined(strata: list[tuple[float, Floats]], confidence: float) -> Ratio:
    means, covariances, freedoms = zip(*(_stratum(weight, rows) for weight, rows in strata), strict=True)
    mean, covariance = np.sum(means, axis=0), np.sum(covariances, axis=0)
    if mean[1] == 0:
        raise ValueError("the denominators of the mix sum to 0: there is no ratio")
    moments = Moments(
        mean_a=float(mean[0]),
        mean_b=float(mean[1]),
        var_a=float(covariance[0, 0]),
        var_b=float(covariance[1, 1]),
        cov_ab=float(covariance[0, 1]),
    )
    # Satterthwaite, Biometrics Bulletin 2(6), 1946, for the spread of a - R b at the estimate.
    direction = np.array([1.0, -mean[0] / mean[1]])
    spreads = [float(direction @ part @ direction) for part in covariances]
    below = fsum(spread**2 / freedom for spread, freedom in zip(spreads, freedoms, strict=True))
    freedom = fsum(spreads) ** 2 / below if below > 0 else sum(freedoms)
    t = t_quantile(confidence, degrees_of_freedom=max(1.0, freedom))
    return Ratio(
        estimate=float(mean[0] / mean[1]),
        confidence_set=fieller_set(moments, t),
        clusters=sum(len(rows) for _, rows in strata),
    )


def _stratum(weight: float, rows: Floats) -> tuple[Floats, Floats, int]:
    """Weighted means per task, their covariance between clusters, and its degrees of freedom."""
    sums, tasks, size = rows[:, :2], rows[:, 2], len(rows)
    means = sums.sum(axis=0) / tasks.sum()
    residuals = (sums - means * tasks[:, None]) * (weight / tasks.sum())
    return weight * means, residuals.T @ residuals * size / (size - 1), size - 1

"""Intervals for a ratio of sums that are computed on its logarithm: always positive, always two ends.

They stand beside Fieller's set, which stays the default: the delta interval is a quick approximation that is a
little narrow below twenty clusters, the studentised bootstrap adapts to skewed costs and gives plots a finite band
where Fieller's set has no end.

Sources: Cochran, Sampling Techniques, 3rd ed., 6.4 (linearised ratio); Hall, The Bootstrap and Edgeworth Expansion,
1992, 1.3 (percentile-t).
"""

from __future__ import annotations

from math import exp

import numpy as np

from tokenomics_plugin.statistics.bounds import Range
from tokenomics_plugin.statistics.clusters import Floats, Pairs, as_pairs
from tokenomics_plugin.statistics.quantiles import check_confidence, t_quantile

__all__ = ["bootstrap_t_interval", "log_delta_interval"]

_CELLS_AT_ONCE = 2**18
"""Weights held in memory while resampling: two megabytes."""
_LARGEST_POWER = 700.0
"""Ends above exp(700) are no ends: a float overflows at exp(710)."""


def log_delta_interval(clusters: Pairs, *, confidence: float = 0.95) -> Range:
    """Interval of sum(a) / sum(b) with se(log R) = sqrt(G/(G-1) sum (a - R b)**2) / (R sum(b)).

    Raises:
        ValueError: If there are fewer than two clusters, or a sum is not positive.
    """
    pairs = _positive(as_pairs(clusters))
    estimate, error = _point(pairs)
    reach = t_quantile(confidence, degrees_of_freedom=len(pairs) - 1) * error
    return Range(low=exp(estimate - reach), high=_exp(estimate + reach))


def bootstrap_t_interval(clusters: Pairs, *, confidence: float = 0.95, resamples: int = 999, seed: int = 0) -> Range:
    """Interval of sum(a) / sum(b) by resampling whole clusters and studentising the log of the ratio.

    Resamples whose denominators sum to 0 have no ratio and are left out; where five clusters succeed, that is
    fewer than one in a hundred.

    Args:
        clusters: (a, b) of each cluster.
        confidence: Nominal coverage.
        resamples: Draws of all clusters with replacement; costs are proportional to draws times clusters.
        seed: Of the draws, so that a report can be repeated.

    Returns:
        The interval; without an upper end where the resamples show none.

    Raises:
        ValueError: If there are fewer than two clusters, a sum is not positive, or `resamples` is below 100.
    """
    if resamples < 100:
        raise ValueError(f"tail quantiles need at least 100 resamples, got {resamples}")
    outside = (1 - check_confidence(confidence)) / 2
    pairs = _positive(as_pairs(clusters))
    estimate, error = _point(pairs)
    if error == 0:
        return Range(low=exp(estimate), high=exp(estimate))
    sums = _resampled(_features(pairs), resamples, np.random.default_rng(seed))
    logs, errors = _log_ratio(sums[sums[:, 1] > 0], len(pairs))
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = np.where(logs == estimate, 0.0, (logs - estimate) / errors)
    low, high = _tails(studentised, outside)
    return Range(low=exp(estimate - high * error), high=_exp(estimate - low * error))


def _tails(studentised: Floats, outside: float) -> tuple[float, float]:
    # Order statistics themselves: between infinite ones there is nothing to interpolate.
    ordered = np.sort(studentised)
    cut = max(0, int((len(ordered) + 1) * outside) - 1)
    return float(ordered[cut]), float(ordered[-1 - cut])


def _exp(power: float) -> float | None:
    return None if power > _LARGEST_POWER else exp(power)


def _positive(pairs: Floats) -> Floats:
    sums = pairs.sum(axis=0)
    if not (sums > 0).all():
        raise ValueError(f"a logarithm needs positive sums, got {sums[0]} over {sums[1]}: use ratio_of_sums")
    return pairs


def _features(pairs: Floats) -> Floats:
    """Shape (features, clusters), so that each feature is contiguous for the product with many weights."""
    a, b = pairs.T
    return np.stack([a, b, a * a, a * b, b * b])


def _point(pairs: Floats) -> tuple[float, float]:
    estimate, error = _log_ratio(_features(pairs).sum(axis=1), len(pairs))
    return float(estimate), float(error)


def _resampled(features: Floats, resamples: int, random: np.random.Generator) -> Floats:
    """Sums of the features over clusters drawn with replacement: shape (resamples, features)."""
    size = features.shape[1]
    rows = max(1, _CELLS_AT_ONCE // size)
    parts = []
    for begin in range(0, resamples, rows):
        height = min(rows, resamples - begin)
        drawn = random.integers(0, size, (height, size)) + size * np.arange(height)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=height * size).reshape(height, size)
        parts.append(counts.astype(np.float64) @ features.T)
    return np.concatenate(parts)


def _log_ratio(sums: Floats, clusters: int) -> tuple[Floats, Floats]:
    """Log of the ratio and its standard error, from sums of a, b, a**2, a b, b**2 (last axis)."""
    a, b, aa, ab, bb = np.moveaxis(sums, -1, 0)
    ratio = a / b
    # A sum of squares, below 0 only by rounding.
    squares = np.maximum(0.0, aa - 2 * ratio * ab + ratio**2 * bb)
    return np.log(ratio), np.sqrt(clusters / (clusters - 1) * squares) / a

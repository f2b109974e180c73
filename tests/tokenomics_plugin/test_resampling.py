from __future__ import annotations

import numpy as np
import pytest

from tokenomics_plugin.resampling import ClusterBootstrap, cluster_codes, quotient
from tokenomics_plugin.statistics import cluster_mean


def draw(cluster_of: list[int], **settings: float) -> ClusterBootstrap:
    return ClusterBootstrap.draw(np.array(cluster_of), **settings)  # type: ignore[arg-type]


def test_clusters_are_numbered_as_they_first_occur() -> None:
    assert cluster_codes(["b", "a", "b"]).tolist() == [0, 1, 0]


def test_every_resample_holds_as_many_clusters_as_the_data() -> None:
    bootstrap = draw([0, 0, 1, 2], resamples=20)
    assert (bootstrap.weights.sum(axis=1) == 3).all()


def test_rows_of_one_cluster_are_drawn_together() -> None:
    totals = draw([0, 0, 1], resamples=50).totals(np.array([[1.0, 0], [0, 1], [5, 5]]))
    assert (totals[:, 0] == totals[:, 1]).all()


def test_the_same_seed_gives_the_same_draws() -> None:
    rows = np.arange(9.0)
    assert (draw([*range(9)], seed=3).totals(rows) == draw([*range(9)], seed=3).totals(rows)).all()


@pytest.mark.parametrize("clusters", [300, 6000], ids=["each kept apart", "dealt into groups"])
def test_the_interval_agrees_with_students(clusters: int) -> None:
    values = np.random.default_rng(1).lognormal(size=clusters)
    bootstrap = draw([*range(clusters)], resamples=4000)
    found = bootstrap.interval(bootstrap.totals(values)[:, 0] / clusters)
    expected = cluster_mean((value, 1) for value in values.tolist()).interval
    # 4,000 draws leave the ends uncertain by about 3 % of the half-width, skewness moves them some more.
    width = (expected.high or 0) - (expected.low or 0)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.1 * width)


def test_an_end_that_is_infinite_is_no_limit() -> None:
    found = draw([0, 1]).interval(np.array([1.0] * 50 + [np.inf] * 50))
    assert found.low == 1.0
    assert found.high is None


def test_what_is_undefined_in_a_resample_sets_no_upper_limit() -> None:
    assert draw([0, 1]).interval(np.array([np.nan] * 10 + [1.0] * 90)).high is None


def test_dividing_by_zero_is_infinite_or_unknown() -> None:
    found = quotient([1.0, 0.0], [0.0, 0.0])
    assert np.isinf(found[0])
    assert np.isnan(found[1])


def test_nothing_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="no row"):
        draw([])


def test_confidence_must_be_a_probability() -> None:
    with pytest.raises(ValueError, match="strictly between"):
        draw([0, 1], confidence=95)

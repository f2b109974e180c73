from __future__ import annotations

import pytest

from tokenomics_plugin.statistics import SampleSize


@pytest.mark.parametrize(
    ("clusters", "successes", "failures", "reason"),
    [
        (9, 5, 5, "needs at least 10 independent tasks or groups, there are 9"),
        (40, 4, 36, "needs at least 5 successes, there are 4"),
        (40, 39, 1, "needs at least 5 failures, there is 1"),
        (10, 5, 5, None),
    ],
    ids=["clusters", "successes", "failures", "enough"],
)
def test_too_little_for_a_ratio_says_what_is_missing(
    clusters: int, successes: int, failures: int, reason: str | None
) -> None:
    assert SampleSize(clusters=clusters, successes=successes, failures=failures).too_small_for_a_ratio == reason


def test_a_rate_needs_clusters_but_no_failures() -> None:
    assert SampleSize(clusters=10, successes=10, failures=0).too_small_for_a_mean is None
    assert SampleSize(clusters=9, successes=9, failures=0).too_small_for_a_mean is not None


@pytest.mark.parametrize(
    ("clusters", "successes", "low"),
    [(29, 20, True), (30, 9, True), (30, 10, False)],
    ids=["few clusters", "few successes", "ample"],
)
def test_little_data_lowers_confidence(clusters: int, successes: int, low: bool) -> None:
    caveat = SampleSize(clusters=clusters, successes=successes, failures=20).caveat
    assert (caveat is not None) == low

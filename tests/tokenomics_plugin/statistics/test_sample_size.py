from __future__ import annotations

from math import inf

import pytest

from tokenomics_plugin.statistics import Badge, ConfidenceSet, Range, SampleSize, SetShape, relative_half_width


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


def size(clusters: int = 40, successes: int = 20, failures: int = 20, unlabelled: int = 0) -> SampleSize:
    return SampleSize(clusters=clusters, successes=successes, failures=failures, unlabelled=unlabelled)


@pytest.mark.parametrize(
    ("sample", "half_width", "badge"),
    [
        (size(), 0.2, None),
        (size(clusters=9), 0.2, Badge.COUNTS_ONLY),
        (size(successes=4), 0.2, Badge.COUNTS_ONLY),
        (size(failures=4), 0.2, Badge.COUNTS_ONLY),
        (size(unlabelled=11), 0.2, Badge.BOUNDS_ONLY),
        (size(unlabelled=10), 0.2, None),
        (size(clusters=29), 0.2, Badge.LOW_CONFIDENCE),
        (size(successes=9), 0.2, Badge.LOW_CONFIDENCE),
        (size(), 0.51, Badge.GREYED),
        (size(clusters=29), inf, Badge.GREYED),
    ],
    ids=lambda value: value.value if isinstance(value, Badge) else None,
)
def test_a_figure_wears_the_gravest_of_its_badges(sample: SampleSize, half_width: float, badge: Badge | None) -> None:
    assert sample.badge(half_width=half_width) is badge


def test_a_rate_needs_no_failures() -> None:
    assert size(failures=0).badge(half_width=0.1) is Badge.COUNTS_ONLY
    assert size(failures=0).badge(half_width=0.1, is_ratio=False) is None


def test_missing_outcomes_are_counted_in_words() -> None:
    assert size(unlabelled=11).too_many_missing == "11 of 51 tasks have no final outcome, more than 20%"
    assert size(clusters=0, successes=0, failures=0).too_many_missing is None


@pytest.mark.parametrize(
    ("estimate", "limits", "expected"),
    [
        (10, Range(low=8, high=14), 0.3),
        (-10, Range(low=-14, high=-8), 0.3),
        (10, Range(low=8, high=None), inf),
        (0, Range(low=-1, high=1), inf),
        (10, ConfidenceSet(shape=SetShape.INTERVAL, low=8, high=14), 0.3),
        (10, ConfidenceSet(shape=SetShape.DISJOINT, low=8, high=-14), inf),
        (10, ConfidenceSet(shape=SetShape.EVERYTHING), inf),
    ],
    ids=["interval", "negative", "open", "zero", "set", "disjoint", "everything"],
)
def test_half_widths_are_relative(estimate: float, limits: Range | ConfidenceSet, expected: float) -> None:
    assert relative_half_width(estimate, limits) == pytest.approx(expected)

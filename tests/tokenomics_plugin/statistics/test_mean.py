from __future__ import annotations

from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tokenomics_plugin.statistics import cluster_mean

values = st.lists(st.floats(-1000, 1000), min_size=2, max_size=50)


@given(values)
def test_clusters_of_one_task_give_students_interval(sample: list[float]) -> None:
    found = cluster_mean((value, 1) for value in sample)
    reach = stats.t.ppf(0.975, len(sample) - 1) * stats.sem(sample)
    assert found.estimate == pytest.approx(mean(sample), abs=1e-9)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (mean(sample) - reach, mean(sample) + reach), abs=1e-6
    )


def test_the_mean_is_per_task_and_not_per_cluster() -> None:
    assert cluster_mean([(10, 1), (0, 9)]).estimate == 1.0


def test_copies_of_the_same_tasks_add_no_certainty() -> None:
    once = cluster_mean([(1, 1), (2, 1), (6, 1)])
    twice = cluster_mean([(2, 2), (4, 2), (12, 2)])
    assert (twice.interval.low, twice.interval.high) == pytest.approx((once.interval.low, once.interval.high))


def test_known_interval_of_unequal_clusters() -> None:
    # mean 7/4; residuals 1.25, -1.75, 0.5 with squares 4.875; se = sqrt(3/2 * 4.875) / 4 = 0.676041.
    found = cluster_mean([(3, 1), (0, 1), (4, 2)])
    reach = 4.302653 * 0.676041
    assert found.estimate == 1.75
    assert (found.interval.low, found.interval.high) == pytest.approx((1.75 - reach, 1.75 + reach), abs=1e-5)


@pytest.mark.parametrize(
    ("clusters", "rule"), [([(1, 1)], "two clusters"), ([(1, 0), (1, 0)], "hold tasks")], ids=["one", "empty"]
)
def test_what_has_no_mean_is_refused(clusters: list[tuple[float, float]], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        cluster_mean(clusters)

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from tokenomics_plugin.statistics import cluster_mean, ratio_of_sums
from tokenomics_plugin.statistics.clusters import as_column, as_pairs, cluster_sums


def test_tasks_of_a_cluster_are_added_up_in_order_of_appearance() -> None:
    columns = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    assert cluster_sums(columns, ["b", None, "b"]).tolist() == [[5, 50], [2, 20]]


def test_without_clusters_each_task_is_its_own() -> None:
    columns = np.array([[1.0], [2.0]])
    assert cluster_sums(columns, None) is columns


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]], ids=["too few", "too many"])
def test_each_task_needs_a_cluster(names: list[str]) -> None:
    with pytest.raises(ValueError, match="each of the 2 tasks"):
        cluster_sums(np.ones((2, 1)), names)


@pytest.mark.parametrize("number", [nan, inf, -inf, None], ids=str)
def test_an_unknown_number_is_refused_and_not_carried_along(number: float | None) -> None:
    with pytest.raises(ValueError, match="finite"):
        as_column("costs", [1.0, number])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="finite"):
        ratio_of_sums([(1, 1), (number, 1), (2, 1)])  # type: ignore[list-item]


def test_a_mean_of_an_unknown_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        cluster_mean([(1, 1), (nan, 1), (2, 1)])


def test_a_column_is_one_number_per_task() -> None:
    with pytest.raises(ValueError, match="costs must be one number per task, 3 of them"):
        as_column("costs", [1.0, 2.0], size=3)


@pytest.mark.parametrize("rows", [np.ones(3), np.ones((3, 3))], ids=["one column", "three"])
def test_a_cluster_has_two_totals(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two totals per cluster"):
        as_pairs(rows)


def test_an_array_of_totals_is_taken_as_it_is() -> None:
    pairs = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert as_pairs(pairs) is pairs
    assert ratio_of_sums(pairs) == ratio_of_sums([(1, 2), (3, 4)])

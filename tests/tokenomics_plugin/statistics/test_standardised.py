from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.statistics import SetShape, ratio_of_sums, standardised_ratio

clusters = st.lists(st.tuples(st.floats(0.1, 100), st.integers(1, 5)), min_size=3, max_size=20)


def tasks(cost: float, successes: int, count: int) -> list[tuple[float, float, float]]:
    """So many tasks of a stratum, each a cluster, the first of which succeed."""
    return [(cost, float(index < successes), 1.0) for index in range(count)]


def test_an_easier_mix_does_not_pass_for_a_better_agent() -> None:
    mix = {"easy": 0.5, "hard": 0.5}
    # The second agent is dearer per success in each stratum, and got four times as many easy tasks.
    first = standardised_ratio({"easy": tasks(1, 18, 20), "hard": tasks(3, 40, 80)}, mix)
    second = standardised_ratio({"easy": tasks(1.1, 72, 80), "hard": tasks(3.3, 10, 20)}, mix)
    assert first.ratio is not None
    assert second.ratio is not None
    assert second.raw < first.raw, "as the bills say"
    assert second.ratio.estimate > first.ratio.estimate, "task for task"
    assert first.ratio.estimate == pytest.approx((0.5 * 1 + 0.5 * 3) / (0.5 * 0.9 + 0.5 * 0.5))


@given(clusters)
def test_one_stratum_is_the_plain_ratio(pairs: list[tuple[float, int]]) -> None:
    found = standardised_ratio({"all": [(cost, successes, 1) for cost, successes in pairs]}, {"all": 3.0}).ratio
    plain = ratio_of_sums(pairs)
    assert found is not None
    assert found.estimate == pytest.approx(plain.estimate)
    if plain.confidence_set.shape is SetShape.INTERVAL:
        assert found.confidence_set.low == pytest.approx(plain.confidence_set.low, rel=1e-4)
        assert found.confidence_set.high == pytest.approx(plain.confidence_set.high, rel=1e-4)


def test_a_stratum_that_was_never_met_is_not_made_up() -> None:
    found = standardised_ratio({"easy": tasks(1, 5, 10), "odd": tasks(1, 1, 1)}, {"easy": 2, "hard": 1, "odd": 1})
    assert found.ratio is None
    assert found.support == pytest.approx(0.5)
    assert found.unsupported == ("hard", "odd")
    assert found.raw == pytest.approx(11 / 6)


def test_strata_outside_the_mix_count_nothing() -> None:
    found = standardised_ratio({"easy": tasks(1, 5, 10), "odd": tasks(9, 1, 5)}, {"easy": 1, "odd": 0}).ratio
    assert found is not None
    assert (found.estimate, found.clusters) == (2.0, 10)


def test_a_cluster_of_many_tasks_is_one_draw() -> None:
    rows = tasks(1, 7, 20)
    once = standardised_ratio({"all": rows}, {"all": 1}).ratio
    twice = standardised_ratio({"all": [(2 * a, 2 * b, 2 * n) for a, b, n in rows]}, {"all": 1}).ratio
    assert once is not None
    assert twice is not None
    assert twice.confidence_set.low == pytest.approx(once.confidence_set.low)


def test_nominal_coverage_holds(slack: Callable[[int], float]) -> None:
    random, replications, covered = np.random.default_rng(7), 500, 0
    mix, rates, counts = {"easy": 0.3, "hard": 0.7}, {"easy": 0.8, "hard": 0.4}, {"easy": 60, "hard": 25}
    # Costs are lognormal with mean exp(0.18), three times as much for hard tasks.
    truth = np.exp(0.18) * (0.3 * 1 + 0.7 * 3) / (0.3 * 0.8 + 0.7 * 0.4)
    for _ in range(replications):
        strata = {
            name: np.stack(
                [
                    random.lognormal(0, 0.6, counts[name]) * (3 if name == "hard" else 1),
                    random.random(counts[name]) < rates[name],
                    np.ones(counts[name]),
                ],
                axis=1,
            )
            for name in mix
        }
        found = standardised_ratio(strata, mix).ratio
        covered += found is not None and truth in found.confidence_set
    assert covered / replications == pytest.approx(0.95, abs=slack(replications))


@pytest.mark.parametrize(
    ("strata", "mix", "rule"),
    [
        ({"a": tasks(1, 1, 3)}, {"a": 0.0}, "not all 0"),
        ({"a": tasks(1, 1, 3)}, {"a": 1.0, "b": -1.0}, "not negative"),
        ({"a": tasks(1, 0, 3)}, {"a": 1.0}, "no ratio"),
        ({"a": tasks(1, 0, 3), "b": tasks(1, 1, 3)}, {"a": 1.0}, "of the mix sum to 0"),
        ({}, {"a": 1.0}, "no ratio"),
        ({"a": [(1.0, 1.0, 0.0)]}, {"a": 1.0}, "at least one task"),
        ({"a": [(float("nan"), 1.0, 1.0)]}, {"a": 1.0}, "finite"),
    ],
    ids=["no weight", "negative", "no success", "none in the mix", "no data", "no task", "unknown"],
)
def test_what_has_no_ratio_is_refused(
    strata: dict[str, list[tuple[float, float, float]]], mix: dict[str, float], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        standardised_ratio(strata, mix)

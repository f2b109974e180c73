from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import fsum, nan, prod

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tokenomics_plugin.statistics import (
    PeriodTotals,
    SuccessTotals,
    bridge_of_cost,
    bridge_of_value,
    decompose_product,
)

totals = st.builds(
    lambda tasks, per_task, rate: PeriodTotals(tasks=tasks, tokens=tasks * per_task, cost=tasks * per_task * rate),
    st.integers(0, 1000),
    st.integers(0, 500),
    st.floats(0, 20),
)
periods = st.dictionaries(st.sampled_from("abcd"), totals, max_size=4)


def period(tasks: float, tokens_per_task: float, rate: float) -> PeriodTotals:
    return PeriodTotals(tasks=tasks, tokens=tasks * tokens_per_task, cost=tasks * tokens_per_task * rate)


def test_published_bridge() -> None:
    found = bridge_of_cost(
        {"short": period(700, 20, 2), "long": period(300, 80, 2)},
        {"short": period(750, 25, 1.5), "long": period(750, 70, 1.8)},
    )
    assert (found.before, found.after) == (76_000, 122_625)
    assert found.effects == pytest.approx(
        {"volume": 39211.47, "mix": 25623.36, "intensity": -2904.30, "rate": -15305.53}, abs=5e-3
    )
    assert fsum(found.effects.values()) == pytest.approx(46_625, abs=1e-9)
    assert found.averaged == ()


@given(periods, periods)
def test_nothing_is_left_over(before: dict[str, PeriodTotals], after: dict[str, PeriodTotals]) -> None:
    found = bridge_of_cost(before, after)
    largest = max([abs(found.before), abs(found.after), 1])
    assert fsum(found.effects.values()) == pytest.approx(found.after - found.before, abs=1e-9 * largest)
    for segment, effects in found.by_segment.items():
        change = (after[segment].cost if segment in after else 0) - (before[segment].cost if segment in before else 0)
        assert fsum(effects.values()) == pytest.approx(change, abs=1e-9 * largest)


@given(periods, periods)
def test_going_back_undoes_it(before: dict[str, PeriodTotals], after: dict[str, PeriodTotals]) -> None:
    there, back = bridge_of_cost(before, after), bridge_of_cost(after, before)
    largest = max([abs(there.before), abs(there.after), 1])
    assert there.effects == pytest.approx({name: -part for name, part in back.effects.items()}, abs=1e-8 * largest)


def test_only_what_changed_has_an_effect() -> None:
    before = {"a": period(100, 10, 1), "b": period(50, 30, 2)}
    for name, after in {
        "volume": {"a": period(200, 10, 1), "b": period(100, 30, 2)},
        "mix": {"a": period(50, 10, 1), "b": period(100, 30, 2)},
        "intensity": {"a": period(100, 20, 1), "b": period(50, 30, 2)},
        "rate": {"a": period(100, 10, 1.5), "b": period(50, 30, 2)},
    }.items():
        effects = bridge_of_cost(before, after).effects
        assert {other for other, part in effects.items() if abs(part) > 1e-9} == {name}


def test_a_new_segment_is_volume_and_mix() -> None:
    found = bridge_of_cost({"old": period(10, 1, 1)}, {"old": period(10, 1, 1), "new": period(10, 5, 1)})
    assert found.averaged == ("new",)
    assert found.effects["intensity"] == found.effects["rate"] == 0
    assert found.effects["volume"] + found.effects["mix"] == pytest.approx(50)


def test_the_first_period_may_be_empty() -> None:
    found = bridge_of_cost({}, {"new": period(10, 5, 1)})
    assert found.effects == pytest.approx({"volume": 50, "mix": 0, "intensity": 0, "rate": 0})
    assert bridge_of_cost({}, {}).effects == {"volume": 0, "mix": 0, "intensity": 0, "rate": 0}


def test_a_price_that_falls_to_nothing_is_an_effect_of_rate() -> None:
    found = bridge_of_cost({"a": period(10, 5, 2)}, {"a": period(10, 5, 0)})
    assert found.effects == pytest.approx({"volume": 0, "mix": 0, "intensity": 0, "rate": -100})


def test_a_bridge_of_value_counts_successes() -> None:
    found = bridge_of_value(
        {"a": SuccessTotals(tasks=100, successes=40, value=200)},
        {"a": SuccessTotals(tasks=100, successes=60, value=300)},
    )
    assert found.effects == pytest.approx({"volume": 0, "mix": 0, "success": 100, "worth": 0})


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), min_size=1, max_size=5),
    st.permutations(range(5)),
)
def test_order_of_factors_does_not_matter(pairs: list[tuple[float, float]], order: list[int]) -> None:
    chosen = [index for index in order if index < len(pairs)]
    straight = decompose_product(*zip(*pairs, strict=True))
    shuffled = decompose_product(*zip(*(pairs[index] for index in chosen), strict=True))
    assert [straight[index] for index in chosen] == pytest.approx(shuffled)
    before, after = (prod(side) for side in zip(*pairs, strict=True))
    assert fsum(straight) == pytest.approx(after - before, abs=1e-9 * max(before, after))


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=2, max_size=4))
def test_with_a_zero_the_effects_are_shapley_values(pairs: list[tuple[float, float]]) -> None:
    before, after = (list(side) for side in zip(*pairs, strict=True))
    assume(min(*before, *after) == 0)

    def added(order: Sequence[int], index: int) -> float:
        earlier = order[: order.index(index)]
        others = [after[i] if i in earlier else before[i] for i in range(len(pairs)) if i != index]
        return float(prod(others) * (after[index] - before[index]))

    orders = list(permutations(range(len(pairs))))
    expected = [fsum(added(order, index) for order in orders) / len(orders) for index in range(len(pairs))]
    assert decompose_product(before, after) == pytest.approx(expected, abs=1e-9)


def test_factors_that_hardly_change_have_no_rounding_noise() -> None:
    parts = decompose_product([3.0, 5.0], [3.0 * (1 + 1e-9), 5.0 * (1 + 1e-9)])
    assert parts == pytest.approx([1.5e-8, 1.5e-8], rel=1e-5)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (PeriodTotals(tasks=-1, tokens=1, cost=1), "not negative"),
        (PeriodTotals(tasks=1, tokens=nan, cost=1), "finite"),
        (PeriodTotals(tasks=1, tokens=0, cost=1), "without what it is divided by"),
        (PeriodTotals(tasks=0, tokens=1, cost=1), "without what it is divided by"),
    ],
    ids=["negative", "unknown", "no tokens", "no tasks"],
)
def test_totals_that_do_not_fit_together_are_refused(row: PeriodTotals, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        bridge_of_cost({"a": row}, {})


def test_factors_must_correspond() -> None:
    with pytest.raises(ValueError, match="same factors"):
        decompose_product([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="not negative"):
        decompose_product([-1.0], [1.0])

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tokenomics_plugin.statistics import Flips, Range

counts = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 200))


def flips(found: tuple[int, int, int]) -> Flips:
    repaired, broken, same = found
    return Flips(repaired=repaired, broken=broken, tasks=repaired + broken + same)


@given(counts)
def test_the_test_is_that_of_a_fair_coin(found: tuple[int, int, int]) -> None:
    repaired, broken, _ = found
    expected = stats.binomtest(repaired, repaired + broken).pvalue if repaired + broken else 1.0
    assert flips(found).p_value == pytest.approx(expected)


def test_both_ends_solve_the_score_equation() -> None:
    # With nothing flipping back it is a quadratic: for one flip in 44 pairs, (1 - 44 d)**2 = z**2 44 d (1 - d) above
    # 1/44, and (1 + 44 d)**2 = z**2 (1 + 43 d - 44 d**2) for a loss of d.
    found = Flips(repaired=1, broken=0, tasks=44).net_share_interval()
    z2 = 1.959964**2
    assert found.high is not None
    assert (1 - 44 * found.high) ** 2 == pytest.approx(z2 * 44 * found.high * (1 - found.high), rel=1e-5)
    assert found.low is not None
    assert (1 - 44 * found.low) ** 2 == pytest.approx(z2 * (1 - 43 * found.low - 44 * found.low**2), rel=1e-5)


@given(counts)
def test_the_net_share_is_inside_its_interval(found: tuple[int, int, int]) -> None:
    step = flips(found)
    interval = step.net_share_interval()
    assert interval.low is not None
    assert interval.high is not None
    assert -1 <= interval.low <= step.net_share <= interval.high <= 1


@given(counts)
def test_undoing_the_step_mirrors_the_interval(found: tuple[int, int, int]) -> None:
    repaired, broken, same = found
    step, undone = flips(found).net_share_interval(), flips((broken, repaired, same)).net_share_interval()
    assert step.low == pytest.approx(-(undone.high or 0), abs=1e-9)


def test_many_tasks_give_the_normal_interval() -> None:
    found = Flips(repaired=9000, broken=3000, tasks=100_000).net_share_interval()
    error = np.sqrt((0.12 - 0.06**2) / 100_000)
    assert (found.low, found.high) == pytest.approx((0.06 - 1.96 * error, 0.06 + 1.96 * error), abs=1e-5)


def test_a_step_that_repaired_everything_may_go_on_to() -> None:
    found = Flips(repaired=12, broken=0, tasks=12).net_share_interval()
    assert found.high == 1
    # (12 - 12 d)**2 = z**2 12 (1 - d**2) below 1.
    assert found.low == pytest.approx((12 - 1.959964**2) / (12 + 1.959964**2), rel=1e-5)


def test_repairs_among_flips_have_an_exact_interval() -> None:
    found = Flips(repaired=9, broken=1, tasks=100).repaired_among_flips()
    reference = stats.binomtest(9, 10).proportion_ci(0.95, method="exact")
    assert isinstance(found, Range)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))


def test_a_step_that_changed_nothing_says_nothing_about_its_direction() -> None:
    step = Flips(repaired=0, broken=0, tasks=30)
    assert (step.net_share, step.p_value, step.repaired_among_flips()) == (0.0, 1.0, None)
    interval = step.net_share_interval()
    # It may still gain or lose z**2 / (n + z**2) of the tasks.
    assert (interval.low, interval.high) == pytest.approx((-0.1135, 0.1135), abs=1e-4)


@pytest.mark.parametrize(
    ("repaired", "broken", "tasks"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)], ids=["negative", "too many", "no task"]
)
def test_impossible_flips_are_refused(repaired: int, broken: int, tasks: int) -> None:
    with pytest.raises(ValueError, match="repaired \\+ broken <= tasks"):
        Flips(repaired=repaired, broken=broken, tasks=tasks)


def test_nominal_coverage_holds_with_few_flips(slack: Callable[[int], float]) -> None:
    random, replications = np.random.default_rng(3), 2000
    covered = 0
    for repaired, broken, _ in random.multinomial(80, [0.08, 0.04, 0.88], size=replications).tolist():
        covered += 0.04 in Flips(repaired=repaired, broken=broken, tasks=80).net_share_interval()
    assert covered / replications == pytest.approx(0.95, abs=slack(replications))

from __future__ import annotations

import pytest
from scipy import stats

from tokenomics_plugin.marginal import Draft, DraftedTask, Flips, revision_value, trailing_spend


def drafted(name: str, *scores: bool | None, spend: float = 1.0) -> DraftedTask:
    return DraftedTask(task_id=name, drafts=tuple(Draft(is_correct=score, spend=spend) for score in scores))


MENDED, BROKEN, RIGHT, WRONG = (False, True), (True, False), (True, True), (False, False)


def many(*, mended: int, broken: int, right: int, wrong: int) -> list[DraftedTask]:
    kinds = [*[MENDED] * mended, *[BROKEN] * broken, *[RIGHT] * right, *[WRONG] * wrong]
    return [drafted(str(number), *scores) for number, scores in enumerate(kinds)]


def test_the_value_is_that_of_net_flips_less_the_spend() -> None:
    found = revision_value(many(mended=3, broken=1, right=4, wrong=2), value=10.0)
    assert found.flips == Flips(mended=3, broken=1, kept_right=4, kept_wrong=2)
    assert found.marginal_value is not None
    assert found.marginal_value.estimate == pytest.approx(10 * 2 / 10 - 1)


def test_it_breaks_even_where_net_flips_pay_for_the_spend() -> None:
    found = revision_value(many(mended=3, broken=1, right=4, wrong=2), value=10.0)
    assert found.break_even_value == 5.0


def test_no_value_of_an_answer_pays_for_a_revision_that_mends_no_more_than_it_breaks() -> None:
    assert revision_value(many(mended=2, broken=2, right=0, wrong=0), value=1e9).break_even_value is None


def test_breaking_a_right_draft_is_spend_of_negative_value() -> None:
    found = revision_value(many(mended=3, broken=2, right=4, wrong=1), value=1.0)
    assert (found.breaking_spend, found.idle_spend, found.spend) == (2.0, 4.0, 10.0)


def test_unscored_drafts_widen_bounds_and_are_no_failures() -> None:
    tasks = [*many(mended=2, broken=0, right=0, wrong=0), drafted("u", None, True), drafted("v", True, None)]
    found = revision_value(tasks, value=4.0)
    assert found.unscored == 2
    assert found.marginal_value is not None
    assert found.marginal_value.estimate == pytest.approx(3.0)
    # u gains 0 or 1, v loses 0 or 1.
    assert (found.bounds.low, found.bounds.high) == pytest.approx((4 * (2 - 1) / 4 - 1, 4 * (2 + 1) / 4 - 1))


def test_one_revision_of_several_can_be_priced() -> None:
    tasks = [drafted("a", False, True, False), drafted("b", False, False)]
    assert revision_value(tasks, value=1.0, revision=2).flips.scored == 1


def test_a_task_without_a_revision_prices_nothing() -> None:
    with pytest.raises(ValueError, match="no revision"):
        revision_value([drafted("a", True)], value=1.0)


@pytest.mark.parametrize(("mended", "broken"), [(7, 2), (0, 3), (5, 0), (4, 4)])
def test_the_interval_and_test_of_flips_are_exact(mended: int, broken: int) -> None:
    flips = Flips(mended=mended, broken=broken, kept_right=0, kept_wrong=0)
    oracle = stats.binomtest(mended, mended + broken)
    interval = oracle.proportion_ci(method="exact")
    assert (flips.mended_share().low, flips.mended_share().high) == pytest.approx((interval.low, interval.high))
    assert flips.p_value == pytest.approx(oracle.pvalue)


def test_no_flip_is_no_evidence() -> None:
    flips = Flips(mended=0, broken=0, kept_right=5, kept_wrong=5)
    assert (flips.mended_share().low, flips.mended_share().high) == (0.0, 1.0)
    assert flips.p_value == 1.0


def test_spend_after_the_first_right_draft_is_told_apart() -> None:
    found = trailing_spend([drafted("a", False, True, True, True), drafted("b", False, False)])
    assert (found.after_correct, found.spend) == (2.0, 6.0)
    assert found.outcome_efficiency == pytest.approx((0.5 + 0) / 2)


def test_tasks_with_an_unscored_draft_are_counted_apart() -> None:
    found = trailing_spend([drafted("a", True, None)])
    assert (found.tasks, found.unscored_tasks, found.outcome_efficiency) == (0, 1, None)


def test_a_negative_spend_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Draft(is_correct=True, spend=-1.0)

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf, sqrt

import numpy as np
import pytest

from tokenomics_plugin.statistics import AuditedStratum, Draw, Judged, Range, calibrate, draw_spans, wilson


def stratum(
    waste: Sequence[float], *, cost: float = 100, flagged: bool = True, name: str = "duplicate"
) -> AuditedStratum:
    judged = [Judged(cost=1, waste=share) for share in waste]
    return AuditedStratum(name=name, flagged=flagged, cost=cost, spans=1000, judged=judged)


def test_waste_is_cost_times_precision_over_strata() -> None:
    flagged, rest = stratum([1] * 9 + [0], cost=40), stratum([1] + [0] * 19, cost=200, flagged=False)
    found = calibrate([flagged, rest])
    assert found.waste == pytest.approx(0.9 * 40 + 0.05 * 200)
    assert found.cost == 240
    assert found.recall == pytest.approx(36 / 46)
    error = sqrt(40**2 * 0.9 * 0.1 / 9 + 200**2 * 0.05 * 0.95 / 19)
    assert found.standard_error == pytest.approx(error)


def test_precision_of_a_detector_has_wilsons_interval() -> None:
    found, expected = stratum([1] * 24 + [0] * 6).waste_share_interval(), wilson(24, 30)
    # The spread is estimated: 29 degrees of freedom count as 29 spans.
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.005)
    assert ((found.high or 0) - (found.low or 0)) / 2 < 0.18, "thirty spans tell it to within 18 points"


def test_spans_that_all_agree_leave_doubt() -> None:
    found = calibrate([stratum([0] * 30)])
    assert (found.waste, found.standard_error) == (0, 0)
    assert (found.interval.low, found.interval.high) == pytest.approx((0, 100 * (wilson(0, 30).high or 0)))
    assert found.recall is None


def test_recall_is_unknown_while_the_rest_was_not_audited() -> None:
    assert calibrate([stratum([1, 0])]).recall is None


def test_equal_draws_weigh_spans_by_what_they_cost() -> None:
    judged = [Judged(cost=9, waste=1), Judged(cost=1, waste=0)]
    shares = {
        draw: AuditedStratum(name="x", flagged=True, cost=50, spans=10, judged=judged, draw=draw).waste_share
        for draw in Draw
    }
    assert shares == {Draw.BY_COST: 0.5, Draw.EQUAL: 0.9}


def test_a_census_leaves_no_doubt() -> None:
    judged = [Judged(cost=3, waste=1), Judged(cost=1, waste=0)]
    found = AuditedStratum(name="x", flagged=True, cost=4, spans=2, judged=judged, draw=Draw.EQUAL)
    assert found.waste_share_interval() == Range(low=0.75, high=0.75)
    assert found.standard_error == 0


def test_a_span_may_be_waste_in_part() -> None:
    assert stratum([0.5, 0.5, 0.25, 0.75]).waste_share == 0.5


def test_draws_follow_cost() -> None:
    drawn = Counter(draw_spans([1.0, 0.0, 3.0], 4000, seed=1).tolist())
    assert drawn[1] == 0
    assert drawn[2] / 4000 == pytest.approx(0.75, abs=0.03)
    assert draw_spans([1.0, 3.0], 5, seed=2).tolist() == draw_spans([1.0, 3.0], 5, seed=2).tolist()


@pytest.mark.parametrize("draw", Draw)
def test_nominal_coverage_holds(slack: Callable[[int], float], draw: Draw) -> None:
    random = np.random.default_rng(41)
    costs = {name: random.lognormal(0, 0.8, 2000) for name in ("precise", "poor", "rest")}
    shares = {"precise": 0.9, "poor": 0.4, "rest": 0.05}
    waste = {name: random.random(2000) < share for name, share in shares.items()}
    truth = float(sum((costs[name] * waste[name]).sum() for name in shares))
    replications, covered, estimates = 500, 0, []
    for sample in range(replications):
        strata: list[AuditedStratum] = []
        for name, cost in costs.items():
            seed = 10 * sample + len(strata)
            drawn = draw_spans(cost, 40, seed=seed) if draw is Draw.BY_COST else random.choice(2000, 40, replace=False)
            judged = [Judged(cost=float(cost[index]), waste=float(waste[name][index])) for index in drawn]
            strata.append(
                AuditedStratum(
                    name=name, flagged=name != "rest", cost=float(cost.sum()), spans=2000, judged=judged, draw=draw
                )
            )
        found = calibrate(strata)
        estimates.append(found.waste)
        covered += truth in found.interval
    # Equal draws count for less than their number, to be safe from dear spans: they may cover more.
    assert 0.95 - slack(replications) <= covered / replications
    assert draw is Draw.EQUAL or covered / replications <= 0.95 + slack(replications)
    assert np.mean(estimates) == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"cost": inf}, "finite cost"),
        ({"judged": []}, "unknown, not 0"),
        ({"spans": 1, "draw": Draw.EQUAL}, "2 cannot be drawn"),
    ],
    ids=["cost", "nothing judged", "too many"],
)
def test_impossible_strata_are_refused(changes: dict[str, object], rule: str) -> None:
    judged = [Judged(cost=1, waste=1), Judged(cost=1, waste=0)]
    fields: dict[str, object] = {"name": "x", "flagged": True, "cost": 1.0, "spans": 10, "judged": judged} | changes
    with pytest.raises(ValueError, match=rule):
        AuditedStratum(**fields)  # type: ignore[arg-type]


def test_impossible_audits_are_refused() -> None:
    with pytest.raises(ValueError, match="waste from 0 to 1"):
        Judged(cost=1, waste=2)
    with pytest.raises(ValueError, match="at least one stratum"):
        calibrate([])
    for costs, size in (([0.0], 1), ([1.0], 0), ([-1.0, 2.0], 1), ([], 1)):
        with pytest.raises(ValueError, match="positive size and costs"):
            draw_spans(costs, size, seed=0)

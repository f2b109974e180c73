import random
from decimal import Decimal
from statistics import fmean

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.statistics import wilson
from tokenomics_plugin.waste import BlockRange, Finding
from tokenomics_plugin.waste.audit import AuditStratum, audit_strata, calibrated_waste, find_audit_sample


def claim(cause: str, tier: Tier, *spans: str) -> Finding:
    return Finding(cause=cause, tier=tier, spans=spans)


COSTS = {"a": Decimal(1), "b": Decimal(2), "c": Decimal(3), "d": Decimal(4)}


def test_each_span_is_in_one_stratum_that_of_the_strongest_evidence_against_it() -> None:
    findings = [claim("D4", Tier.B, "a", "b"), claim("D1", Tier.A, "b"), claim("D5", Tier.A, "b")]

    assert audit_strata(COSTS, findings) == {"D4": ["a"], "D1": ["b"], None: ["c", "d"]}


def test_a_call_of_which_a_block_is_claimed_is_claimed() -> None:
    finding = Finding(cause="D4", tier=Tier.B, blocks=(BlockRange(call="a", start=0, stop=1),))

    assert audit_strata({"a": Decimal(1)}, [finding]) == {"D4": ["a"]}


def test_spend_that_is_only_shown_is_unclaimed() -> None:
    shown = Finding(cause="D20", tier=Tier.C, spans=("a",), is_waste=False)

    assert audit_strata({"a": Decimal(1)}, [shown]) == {None: ["a"]}


def test_a_sample_is_drawn_from_each_stratum_and_the_same_seed_draws_the_same() -> None:
    findings = [claim("D1", Tier.A, "a")]

    sample = find_audit_sample(COSTS, findings, per_stratum=50, seed=1)

    assert {cause: set(spans) for cause, spans in sample.items()} == {"D1": {"a"}, None: {"b", "c", "d"}}
    assert all(len(spans) == 50 for spans in sample.values())
    assert sample == find_audit_sample(COSTS, findings, per_stratum=50, seed=1)
    assert sample != find_audit_sample(COSTS, findings, per_stratum=50, seed=2)


def test_spans_are_drawn_in_proportion_to_their_cost() -> None:
    sample = find_audit_sample(COSTS, [], per_stratum=10_000, seed=1)[None]

    # Four standard errors of a share of 0.4 among 10,000.
    assert sample.count("d") / 10_000 == pytest.approx(0.4, abs=0.02)


def test_what_costs_nothing_is_not_audited() -> None:
    assert find_audit_sample({"a": Decimal(0)}, [], per_stratum=5, seed=1) == {}


def test_waste_is_cost_times_audited_precision_and_recall_is_what_was_claimed_of_it() -> None:
    strata = {
        "D1": AuditStratum(usd=Decimal(100), verdicts=[True] * 9 + [False]),
        None: AuditStratum(usd=Decimal(900), verdicts=[True] + [False] * 89),
    }

    waste = calibrated_waste(strata)

    assert waste.usd == pytest.approx(100)
    assert waste.recall == pytest.approx(0.9)
    assert 100 in waste.range_usd


def test_one_stratum_has_wilson_s_interval() -> None:
    waste = calibrated_waste({"D1": AuditStratum(usd=Decimal(10), verdicts=[True] * 30)})

    low = wilson(30, 30).low
    assert low is not None
    assert (waste.range_usd.low, waste.range_usd.high) == pytest.approx((10 * low, 10))


def test_a_stratum_that_nobody_judged_may_be_wasted_from_nothing_to_all() -> None:
    waste = calibrated_waste({"D4": AuditStratum(usd=Decimal(10))})

    assert (waste.usd, waste.range_usd.low, waste.range_usd.high, waste.recall) == (None, 0, 10, None)


def test_the_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    draw = random.Random(7)
    costs = {f"{n}": Decimal(str(round(draw.lognormvariate(0, 1), 3))) for n in range(300)}
    wasted = {span for span in costs if draw.random() < (0.8 if int(span) < 100 else 0.1)}
    findings = [claim("D1", Tier.A, *(span for span in costs if int(span) < 100))]
    truth = float(sum(costs[span] for span in wasted))
    strata = audit_strata(costs, findings)

    def covers(seed: int) -> bool:
        sample = find_audit_sample(costs, findings, per_stratum=30, seed=seed)
        audited = {
            cause: AuditStratum(
                usd=sum((costs[span] for span in strata[cause]), Decimal(0)),
                verdicts=[span in wasted for span in spans],
            )
            for cause, spans in sample.items()
        }
        return truth in calibrated_waste(audited).range_usd

    # Two standard errors of 0.95 among 400 are 0.022.
    assert fmean(map(covers, range(400))) >= 0.925

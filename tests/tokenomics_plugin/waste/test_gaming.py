"""Ways to make waste look smaller than it is, and what stands in their way: one test each."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from tokenomics_plugin.cells import CellLedger, Tier
from tokenomics_plugin.outcome import OutcomeStatus
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.trajectory import ModelCall, SideEffect, Trajectory
from tokenomics_plugin.usage import TokenUsage
from tokenomics_plugin.waste import Finding, flags_of, scan
from tokenomics_plugin.waste.audit import find_audit_sample
from tokenomics_plugin.waste.builtin import BUILT_IN
from trajectories import Script, cells_of, clean_turn

_DETECTORS = [cls() for cls in BUILT_IN]
_PRICES = PriceBook([Price(provider="*", model="*", input=Decimal(4), cache_read=Decimal(1), output=Decimal(20))])


def found(script: Script, status: OutcomeStatus | None = None) -> tuple[Finding, ...]:
    return scan(script.trajectory(status), _DETECTORS).findings


def bill(trajectory: Trajectory) -> Decimal:
    ledger = CellLedger(_PRICES)
    ledger.add(trajectory, flags=flags_of(scan(trajectory, _DETECTORS).findings))
    return ledger.summary().reconciliation.cells_usd


def twice(second: str = "order 7", **said: Any) -> Script:
    script = Script()
    script.turn("get", "order 7", "shipped", **said)
    script.turn("get", second, "shipped", **said)
    script.model("It was shipped.", step_kind="answer")
    return script


def test_a_paraphrased_duplicate_dodges_the_detector_and_neither_the_bill_nor_the_audit() -> None:
    honest, dodging = twice(), twice(second="order no. 7")
    assert [finding.cause for finding in found(honest)] == ["D1"]
    assert found(dodging) == ()

    assert bill(dodging.trajectory()) == bill(honest.trajectory())
    costs = {call.span_id: Decimal(1) for call in dodging.trajectory().model_calls}
    sample = find_audit_sample(costs, found(dodging), per_stratum=30, seed=1)
    assert set(sample[None]) == set(costs)


def test_declaring_a_read_as_a_write_dodges_the_detector_and_not_the_bill() -> None:
    honest, dodging = twice(), twice(effect=SideEffect.WRITE)
    assert found(dodging) == ()

    assert bill(dodging.trajectory()) == bill(honest.trajectory())


def test_padding_a_run_with_work_leaves_what_is_claimed_as_it_is() -> None:
    plain, padded = twice(), twice()
    for _ in range(5):
        clean_turn(padded)

    # A share of waste can be watered down, and so the claim itself is what is reported beside the bill.
    assert {span for finding in found(padded) for span in finding.spans} == {
        span for finding in found(plain) for span in finding.spans
    }
    assert cells_of(found(plain)) <= cells_of(found(padded))


def test_calling_an_error_transient_moves_it_to_another_tier_and_not_out_of_sight() -> None:
    def failing(error_type: str) -> Script:
        script = Script()
        for _ in range(2):
            script.turn("book", "seat 1", "Error", error_type=error_type)
        return script

    frank, excused = found(failing("ValidationError")), found(failing("RateLimitError"))

    assert [finding.tier for finding in frank] == [Tier.A]
    assert [finding.tier for finding in excused] == [Tier.C]
    assert cells_of(frank) == cells_of(excused)


def test_swallowing_an_error_makes_a_repeated_read_a_duplicate_read() -> None:
    script = Script()
    for _ in range(2):
        script.turn("get", "order 7", "Error: not found")

    assert [finding.cause for finding in found(script)] == ["D1"]


def test_reading_side_by_side_is_reading_twice() -> None:
    script = Script()
    script.model("Order 7, and order 7.")
    script.tool("get", "order 7", "shipped", waits=False)
    again = script.tool("get", "order 7", "shipped", waits=False)

    assert [finding.spans for finding in found(script)] == [(again.span_id,)]


def test_more_cached_tokens_do_not_make_the_same_calls_less_wasted() -> None:
    fresh, laundered = twice(), twice()
    for call in laundered.trajectory().model_calls:
        laundered.revise(call, usage=_all_cached(call))

    assert cells_of(finding for finding in found(laundered) if finding.cause == "D1") == cells_of(
        finding for finding in found(fresh) if finding.cause == "D1"
    )


def test_failing_fast_saves_spend_and_not_waste() -> None:
    long, short = Script(), Script()
    for script, turns in ((long, 8), (short, 2)):
        for _ in range(turns):
            clean_turn(script)

    spent = [found(script, OutcomeStatus.FAILED) for script in (long, short)]

    assert [[finding.is_waste for finding in findings] for findings in spent] == [[False], [False]]


def test_withholding_an_outcome_makes_a_failure_unlabelled_and_not_a_success() -> None:
    script = twice()
    ledger = CellLedger(_PRICES)
    ledger.add(script.trajectory())

    assert {group.outcome.value for group in ledger.summary().groups} == {"unlabelled"}
    assert "D20" not in {finding.cause for finding in found(script)}


def test_a_success_that_was_reverted_is_a_failed_run() -> None:
    script = twice()
    succeeded, reverted = script.trajectory(OutcomeStatus.SUCCEEDED), script.trajectory(OutcomeStatus.FAILED)

    assert "D20" not in {finding.cause for finding in scan(succeeded, _DETECTORS).findings}
    assert "D20" in {finding.cause for finding in scan(reverted, _DETECTORS).findings}


def test_renaming_an_agent_changes_nothing() -> None:
    script = twice()
    trajectory = script.trajectory()
    steps = tuple(replace(step, agent="renamed") for step in trajectory.steps)

    renamed = scan(replace(trajectory, steps=steps), _DETECTORS).findings

    assert cells_of(renamed) == cells_of(found(script))


def test_splitting_a_run_hides_what_its_halves_repeat_and_not_what_they_cost() -> None:
    trajectory = twice().trajectory()
    halves = [replace(trajectory, steps=trajectory.steps[:2]), replace(trajectory, steps=trajectory.steps[2:])]

    # What repeats across traces is no finding: their state in between is unknown.
    assert [scan(half, _DETECTORS).findings for half in halves] == [(), ()]
    assert sum(map(bill, halves)) == bill(trajectory)


def _all_cached(call: ModelCall) -> TokenUsage:
    assert call.usage is not None
    tokens = call.usage.input_tokens
    return TokenUsage.from_inclusive(input_tokens=tokens, output_tokens=200, cache_read_tokens=tokens)

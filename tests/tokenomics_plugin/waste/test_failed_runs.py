from decimal import Decimal

import pytest

from tokenomics_plugin.cells import CellLedger
from tokenomics_plugin.outcome import OutcomeStatus
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.waste import flags_of, scan
from tokenomics_plugin.waste.builtin import BUILT_IN
from tokenomics_plugin.waste.failed_runs import FailedRunParts, failed_run_parts, first_warning, phase_flags
from trajectories import Script, clean_turn

# Output only, so that each call's cost is its 200 tokens of output: a cent.
_PRICES = PriceBook([Price(provider="*", model="*", input=Decimal(0), cache_read=Decimal(0), output=Decimal(50))])
_CENT = Decimal("0.01")


def parts(
    script: Script, *, decisive_error: str | None = None, status: OutcomeStatus = OutcomeStatus.FAILED
) -> FailedRunParts:
    trajectory = script.trajectory(status)
    findings = scan(trajectory, [cls() for cls in BUILT_IN]).findings
    ledger = CellLedger(_PRICES)
    ledger.add(trajectory, flags=flags_of(findings) | phase_flags(trajectory, findings, decisive_error=decisive_error))
    return failed_run_parts(ledger.summary())


def test_a_failed_run_without_a_sign_of_trouble_is_the_cost_of_trying() -> None:
    script = Script()
    for _ in range(3):
        clean_turn(script)

    spent = parts(script)

    assert spent.trying.usd == spent.total.usd == 3 * _CENT


def test_what_comes_after_a_failed_call_comes_after_a_warning() -> None:
    script = Script()
    clean_turn(script)
    clean_turn(script, fails=True)
    clean_turn(script)
    clean_turn(script)

    spent = parts(script)

    assert (spent.trying.usd, spent.after_warning.usd) == (2 * _CENT, 2 * _CENT)


def test_waste_counts_as_waste_wherever_it_is() -> None:
    script = Script()
    for _ in range(2):
        script.turn("get", "order 7", "shipped")
    clean_turn(script)

    spent = parts(script)

    assert (spent.trying.usd, spent.structural.usd, spent.after_warning.usd) == (_CENT, _CENT, _CENT)


def test_a_decisive_error_counts_for_more_than_a_warning() -> None:
    script = Script()
    clean_turn(script, fails=True)
    decisive = clean_turn(script)
    clean_turn(script)

    spent = parts(script, decisive_error=decisive.span_id)

    assert (spent.trying.usd, spent.after_warning.usd, spent.after_decisive_error.usd) == (_CENT, _CENT, _CENT)


def test_what_a_policy_may_excuse_is_not_structural() -> None:
    script = Script()
    for _ in range(2):
        script.turn("get", "order 7", "busy", error_type="RateLimitError")

    spent = parts(script)

    assert (spent.structural.usd, spent.trying.usd, spent.after_warning.usd) == (Decimal(0), _CENT, _CENT)


def test_successful_runs_are_not_counted() -> None:
    script = Script()
    clean_turn(script)

    assert parts(script, status=OutcomeStatus.SUCCEEDED).total.usd == 0


def test_a_decisive_error_must_be_a_step_of_the_run() -> None:
    script = Script()
    clean_turn(script)

    with pytest.raises(ValueError, match="must be a step of trace"):
        parts(script, decisive_error="0" * 16)


def test_the_first_repetition_is_a_warning_too() -> None:
    script = Script()
    script.turn("get", "order 7", "shipped")
    _, again = script.turn("get", "order 7", "shipped")
    trajectory = script.trajectory()

    assert first_warning(trajectory, scan(trajectory, [cls() for cls in BUILT_IN]).findings) == again.ended_unix_nano
    assert first_warning(trajectory, []) is None

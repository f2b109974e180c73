from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tokenomics_plugin.cells import (
    NO_FLAGS,
    Amount,
    Cause,
    CellLedger,
    CellRef,
    CellSummary,
    Flags,
    Label,
    MissedCache,
    Part,
    RunOutcome,
    Tier,
    TokenClass,
    cells_of,
)
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.trajectory import Step, Trajectory

MILLION = Decimal(10**6)
LATE = frozenset({Cause("D12", Tier.A)})
LOOP = frozenset({Cause("D5", Tier.B)})


def folded(
    prices: PriceBook, *steps: Step, flags: Flags = NO_FLAGS, evidence: frozenset[str] = frozenset()
) -> CellSummary:
    ledger = CellLedger(prices)
    ledger.add(Trajectory(trace_id="t", steps=steps), flags=flags, evidence=evidence)
    return ledger.summary()


def tokens(summary: CellSummary) -> dict[Label, int]:
    return {label: amount.tokens for label, amount in summary.by(lambda group: group.label).items()}


def turns(make: Any, *, step_kind: str | None = None) -> list[Step]:
    """Two calls: the second carries a request, instructions, an answer that it needs and a result that it does not."""
    context = [make.block("i", "system", tokens=40), make.block("u", tokens=10)]
    more = [
        make.block("a", "assistant", tokens=5, producer="s0"),
        make.block("r", "tool", tokens=100, producer="t0"),
    ]
    return [
        make.call("s0", context, counts=(53, 0, 0, 5, 0), answer="a", step_kind=step_kind),
        make.call("s1", [*context, *more], counts=(158, 0, 0, 7, 0), step_kind=step_kind),
        make.call("s2", [*context, *more], counts=(158, 0, 0, 9, 0), step_kind=step_kind),
    ]


def test_without_a_slice_first_sendings_and_instructions_are_overhead_and_the_rest_is_unknown(
    make: Any, prices: PriceBook
) -> None:
    first_sent, instructions_again, templates = 50 + 105, 2 * 40, 3 * 3
    assert tokens(folded(prices, *turns(make))) == {
        Label.OVERHEAD: first_sent + instructions_again + templates,
        Label.UNKNOWN: 2 * 10 + 105 + 5 + 7 + 9,
    }


def test_a_carried_block_is_productive_where_both_it_and_the_call_are_in_the_slice(
    make: Any, prices: PriceBook
) -> None:
    summary = folded(prices, *turns(make), evidence=frozenset({"s0", "s2"}))
    in_s0, in_s2 = 10 + 5, 10 + 5 + 9
    assert tokens(summary)[Label.PRODUCTIVE] == in_s0 + in_s2
    assert tokens(summary)[Label.UNKNOWN] == 10 + 7 + 100


def test_a_cost_that_the_log_states_is_split_as_the_list_would_split_its_own(make: Any) -> None:
    call = make.call("s", [make.block("u", tokens=100)], counts=(100, 0, 0, 50, 0), model="gpt-4o")
    call = replace(call, provider="openai", reported_cost_usd=Decimal("0.03"))
    cells = cells_of(Trajectory(trace_id="t", steps=(call,)), PriceBook())

    # The list says 2.50 and 10 USD per million tokens, so twice as much for the output.
    assert {cell.token_class: cell.usd for cell in cells if cell.tokens} == {
        TokenClass.IN_FRESH: Decimal("0.01"),
        TokenClass.OUT_VISIBLE: Decimal("0.02"),
    }


def test_planning_and_verifying_are_overhead(make: Any, prices: PriceBook) -> None:
    assert set(tokens(folded(prices, *turns(make, step_kind="verify")))) == {Label.OVERHEAD}


def test_a_flagged_block_is_waste_in_that_call_only(make: Any, prices: PriceBook) -> None:
    summary = folded(prices, *turns(make), flags=Flags(cells={CellRef("s2", 3): LOOP}))
    assert summary.causes == {(LOOP, RunOutcome.UNLABELLED): Amount(tokens=100, usd=300 / MILLION)}


def test_a_flagged_call_is_waste_as_a_whole(make: Any, prices: PriceBook) -> None:
    summary = folded(prices, *turns(make), flags=Flags(cells={CellRef("s2", Part.CALL): LOOP}))
    assert summary.causes == {(LOOP, RunOutcome.UNLABELLED): Amount(tokens=167, usd=(3 * 158 + 10 * 9) / MILLION)}


@pytest.mark.parametrize("place", [0, 3, Part.TEMPLATE, Part.OUTPUT], ids=str)
def test_a_place_of_a_flagged_call_has_the_causes_of_both(make: Any, prices: PriceBook, place: int | Part) -> None:
    flags = Flags(cells={CellRef("s2", Part.CALL): LOOP, CellRef("s2", place): LATE})
    causes = folded(prices, *turns(make), flags=flags).causes
    assert {causes for causes, _ in causes} == {LOOP, LOOP | LATE}
    assert sum(amount.tokens for amount in causes.values()) == 167


def test_flags_of_places_that_a_call_does_not_have_change_nothing(make: Any, prices: PriceBook) -> None:
    flags = Flags(cells={CellRef("s2", 99): LOOP, CellRef("nobody", 0): LOOP})
    assert folded(prices, *turns(make), flags=flags).groups == folded(prices, *turns(make)).groups


def test_a_missed_cache_wastes_the_difference_of_the_prices_and_no_tokens(make: Any, prices: PriceBook) -> None:
    context = [make.block("i", "system", tokens=40), make.block("u", tokens=10)]
    call = make.call("s0", context, counts=(30, 8, 12, 0, 0))
    flags = Flags(missed_caches={"s0": MissedCache(28, LATE)})
    waste = Amount(tokens=0, usd=(8 * (4 - 1) + 20 * (3 - 1)) / MILLION)
    assert folded(prices, call, flags=flags).causes == {(LATE, RunOutcome.UNLABELLED): waste}


def test_what_two_causes_flag_is_counted_once_and_shared(make: Any, prices: PriceBook) -> None:
    flags = Flags(cells={CellRef("s2", 3): LOOP}) | Flags(cells={CellRef("s2", 3): LATE})
    summary = folded(prices, *turns(make), flags=flags)
    waste = summary.by(lambda group: (group.label, group.tier))[Label.WASTE, Tier.A]
    assert waste.usd == 300 / MILLION
    assert {cause: share.share * 10**6 for cause, share in summary.shares().items()} == {"D12": 150, "D5": 150}


def test_money_without_tokens_has_a_cell_of_its_own(make: Any, prices: PriceBook) -> None:
    summary = folded(prices, make.call("s0", None, counts=None, model="hourly", seconds=1))
    assert summary.by(lambda group: group.label) == {Label.UNKNOWN: Amount(tokens=0, usd=Decimal("0.001"))}
    assert summary.reconciliation.is_exact
    assert summary.reconciliation.measured_calls == 0


def test_machine_time_is_shared_by_tokens_to_the_last_attodollar(make: Any, prices: PriceBook) -> None:
    context = [make.block("a", tokens=1), make.block("b", tokens=1)]
    summary = folded(prices, make.call("s0", context, counts=(2, 0, 0, 5, 0), model="hourly", seconds=1))
    assert summary.total == Amount(tokens=7, usd=Decimal("0.001"))
    assert summary.reconciliation.is_exact


def test_calls_without_a_price_count_their_tokens_only(make: Any, prices: PriceBook) -> None:
    summary = folded(prices, make.call("s0", None, counts=(3, 0, 0, 4, 0), model="unlisted"))
    assert summary.total == Amount(tokens=7, usd=Decimal(0))
    assert (summary.reconciliation.calls, summary.reconciliation.priced_calls) == (1, 0)


@pytest.mark.parametrize("label", Label)
@pytest.mark.parametrize("outcome", RunOutcome)
def test_the_matrix_has_every_label_and_outcome(
    make: Any, prices: PriceBook, label: Label, outcome: RunOutcome
) -> None:
    matrix = folded(prices, *turns(make)).matrix
    assert len(matrix) == 24
    assert (matrix[label, outcome].tokens > 0) == (
        outcome is RunOutcome.UNLABELLED and label in (Label.OVERHEAD, Label.UNKNOWN)
    )

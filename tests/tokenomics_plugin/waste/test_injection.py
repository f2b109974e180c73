"""Waste of each kind is written into clean runs, with its exact cells; what is provable must be found to the cell."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenomics_plugin.cells import CellLedger, Label, Tier, cells_of
from tokenomics_plugin.outcome import OutcomeStatus
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.trajectory import SideEffect, Trajectory
from tokenomics_plugin.waste import Finding, StrandedRepetition, flags_of, scan
from tokenomics_plugin.waste.builtin import BUILT_IN
from trajectories import DECOYS, INJECTIONS, UNDETECTABLE, Injected, Script, clean_turn
from trajectories import cells_of as claimed

_DETECTORS = [
    StrandedRepetition(free_roles=frozenset({"system"})) if cls is StrandedRepetition else cls() for cls in BUILT_IN
]
_PROVABLE = ["D1", "D2", "D3", "D5", "D9", "D11", "D12", "D14", "D15", "D16", "D18", "D19"]
_TURNS = st.lists(st.tuples(st.sampled_from(SideEffect), st.booleans()), max_size=6)


def write_turns(script: Script, turns: Sequence[tuple[SideEffect, bool]]) -> None:
    for effect, fails in turns:
        clean_turn(script, effect=effect, fails=fails)


def with_waste(
    kind: str, before: Sequence[tuple[SideEffect, bool]], after: Sequence[tuple[SideEffect, bool]]
) -> tuple[Trajectory, Injected]:
    script = Script()
    write_turns(script, before)
    injected = INJECTIONS[kind](script)
    write_turns(script, after)
    if kind != "D17":
        script.model("The end", step_kind="answer")
    return script.trajectory(), injected


def found(trajectory: Trajectory) -> tuple[Finding, ...]:
    result = scan(trajectory, _DETECTORS)
    assert result.problems == ()
    return result.findings


@given(turns=_TURNS)
@settings(max_examples=40, deadline=None)
def test_a_clean_run_has_no_waste(turns: Sequence[tuple[SideEffect, bool]]) -> None:
    script = Script()
    write_turns(script, turns)
    script.model("The end", step_kind="answer")

    assert found(script.trajectory()) == ()


@pytest.mark.parametrize("kind", _PROVABLE)
@given(before=_TURNS, after=_TURNS)
@settings(max_examples=15, deadline=None)
def test_provable_waste_is_found_to_the_cell(
    kind: str, before: Sequence[tuple[SideEffect, bool]], after: Sequence[tuple[SideEffect, bool]]
) -> None:
    trajectory, injected = with_waste(kind, before, after)

    findings = found(trajectory)

    mine = claimed(finding for finding in findings if finding.cause == injected.cause and finding.tier is Tier.A)
    everybodys = claimed(finding for finding in findings if finding.tier is Tier.A)
    assert mine == injected.cells(trajectory)
    assert everybodys == mine


@given(before=_TURNS)
@settings(max_examples=15, deadline=None)
def test_work_after_the_answer_is_found_to_the_cell(before: Sequence[tuple[SideEffect, bool]]) -> None:
    trajectory, injected = with_waste("D17", before, [])

    assert claimed(found(trajectory)) == injected.cells(trajectory)


@pytest.mark.parametrize("kind", sorted(set(INJECTIONS) - set(_PROVABLE) - {"D17"}))
@given(before=_TURNS, after=_TURNS)
@settings(max_examples=15, deadline=None)
def test_waste_that_is_only_likely_is_found_and_never_called_provable(
    kind: str, before: Sequence[tuple[SideEffect, bool]], after: Sequence[tuple[SideEffect, bool]]
) -> None:
    trajectory, injected = with_waste(kind, before, after)

    findings = found(trajectory)

    assert all(finding.tier is not Tier.A for finding in findings)
    mine = claimed(finding for finding in findings if finding.cause == injected.cause)
    assert mine == injected.cells(trajectory)


@given(kinds=st.lists(st.sampled_from(_PROVABLE), min_size=2, max_size=4), turns=_TURNS)
@settings(max_examples=30, deadline=None)
def test_waste_of_several_kinds_is_found_side_by_side(
    kinds: Sequence[str], turns: Sequence[tuple[SideEffect, bool]]
) -> None:
    script = Script()
    injected = []
    for kind in kinds:
        injected.append(INJECTIONS[kind](script))
        write_turns(script, turns[:2])
    script.model("The end", step_kind="answer")
    trajectory = script.trajectory()

    findings = [finding for finding in found(trajectory) if finding.tier is Tier.A]

    assert claimed(findings) == frozenset().union(*(waste.cells(trajectory) for waste in injected))


_PRICES = PriceBook(
    [
        Price(
            provider="anthropic",
            model="claude-*",
            input=Decimal(4),
            cache_write=Decimal(5),
            cache_read=Decimal(1),
            output=Decimal(20),
        )
    ]
)


@pytest.mark.parametrize(
    ("kind", "usd"),
    [
        pytest.param("D2", Decimal("0.0092"), id="a whole call: 5,200 tokens read from the cache, 200 of output"),
        pytest.param("D12", Decimal("0.0156"), id="a price gap: 5,200 tokens at 3 dollars more a million"),
        pytest.param("D19", Decimal("0.0040"), id="an output: 200 tokens"),
    ],
)
def test_the_cell_ledger_moves_the_exact_money_to_waste(kind: str, usd: Decimal) -> None:
    script = Script()
    INJECTIONS[kind](script)
    trajectory = script.trajectory()

    flags = flags_of(found(trajectory))

    cells = list(cells_of(trajectory, _PRICES, flags=flags))
    assert sum(cell.usd or 0 for cell in cells if cell.label is Label.WASTE) == usd


@pytest.mark.parametrize("kind", sorted(INJECTIONS))
def test_whatever_is_found_the_cells_add_up_to_the_bill(kind: str) -> None:
    trajectory, _ = with_waste(kind, [(SideEffect.READ, False)], [(SideEffect.READ, False)] if kind != "D17" else [])
    flagged, plain = CellLedger(_PRICES), CellLedger(_PRICES)

    flagged.add(trajectory, flags=flags_of(found(trajectory)))
    plain.add(trajectory)

    with_flags, without = flagged.summary(), plain.summary()
    assert with_flags.reconciliation.cells_usd == without.reconciliation.cells_usd == with_flags.reconciliation.bill_usd
    waste = sum((amount.usd for amount in with_flags.causes.values()), Decimal(0))
    assert waste > 0
    assert without.causes == {}


def test_failed_run_spend_flags_no_cell() -> None:
    script = Script()
    write_turns(script, [(SideEffect.READ, False)])

    findings = found(script.trajectory(OutcomeStatus.FAILED))

    assert [finding.cause for finding in findings] == ["D20"]
    assert flags_of(findings).cells == {}


@pytest.mark.parametrize("kind", sorted(set(DECOYS) - UNDETECTABLE))
@given(before=_TURNS, after=_TURNS)
@settings(max_examples=10, deadline=None)
def test_what_only_looks_like_waste_is_left_alone(
    kind: str, before: Sequence[tuple[SideEffect, bool]], after: Sequence[tuple[SideEffect, bool]]
) -> None:
    script = Script()
    write_turns(script, before)
    DECOYS[kind](script)
    write_turns(script, after)
    script.model("The end", step_kind="answer")

    assert found(script.trajectory()) == ()


@pytest.mark.parametrize("kind", sorted(UNDETECTABLE))
def test_what_no_trace_tells_apart_from_waste_is_never_called_provable(kind: str) -> None:
    script = Script()
    DECOYS[kind](script)
    clean_turn(script)

    findings = found(script.trajectory())

    assert findings
    assert all(finding.tier is not Tier.A for finding in findings)

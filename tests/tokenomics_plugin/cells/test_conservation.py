"""Whatever is folded, in whatever order: cells add up to what providers counted and to the bill."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenomics_plugin.cells import (
    Amount,
    Cause,
    Causes,
    Cell,
    CellLedger,
    CellRef,
    CellSummary,
    Flags,
    Label,
    MissedCache,
    Part,
    Tier,
    TokenClass,
    cells_of,
    run_outcome,
)
from tokenomics_plugin.context_blocks import ContextBlock
from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.pricing import Price, PriceBook, billed_tokens
from tokenomics_plugin.trajectory import ModelCall, Trajectory
from tokenomics_plugin.usage import TokenUsage

CAUSES = [Cause("D1", Tier.A), Cause("D8", Tier.B), Cause("D20", Tier.C)]
MODELS = ["m", "m2", "hourly", "unlisted", "gpt-4o"]
PRICES = PriceBook(
    [
        Price(
            provider="p",
            model="m*",
            input=Decimal("2.5"),
            cache_write=Decimal("3.125"),
            cache_read=Decimal("0.25"),
            output=Decimal(10),
        ),
        Price(provider="p", model="hourly", usd_per_hour=Decimal("0.37")),
    ]
)
SETS_OF_CAUSES: st.SearchStrategy[Causes] = st.frozensets(st.sampled_from(CAUSES), max_size=3)


@st.composite
def blocks(draw: st.DrawFn, spans: Sequence[str]) -> ContextBlock | None:
    """A block of a small pool, so that copies and repeats are frequent."""
    if draw(st.integers(0, 9)) == 0:
        return None
    number = draw(st.integers(0, 7))
    return ContextBlock(
        hash=f"k:{number}",
        role=["system", "user", "assistant", "tool"][number % 4],
        size=[None, 0, 10, 400][(number + len(spans)) % 4],
        tokens=draw(st.sampled_from([None, None, 0, 7, 120])),
        producer=draw(st.sampled_from([None, *spans])) if spans else None,
    )


@st.composite
def contexts(
    draw: st.DrawFn, earlier: Sequence[tuple[ContextBlock | None, ...] | None], spans: Sequence[str]
) -> tuple[ContextBlock | None, ...] | None:
    """Mostly an earlier one with more at its end, sometimes cut, sometimes unknown."""
    if draw(st.integers(0, 9)) == 0:
        return None
    base = draw(st.sampled_from([known for known in earlier if known is not None] or [()]))
    if draw(st.integers(0, 3)) == 0:
        base = base[: draw(st.integers(0, len(base)))]
    return (*base, *draw(st.lists(blocks(spans), max_size=3)))


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    calls: list[ModelCall] = []
    for number in range(draw(st.integers(0, 6))):
        spans = [call.span_id for call in calls]
        counts = draw(st.none() | st.tuples(*[st.integers(0, 600)] * 5))
        usage = None
        if counts is not None:
            fresh, write, read, visible, reasoning = counts
            usage = TokenUsage(
                fresh_input_tokens=fresh,
                cache_write_tokens=write,
                cache_read_tokens=read,
                visible_output_tokens=visible,
                reasoning_tokens=reasoning,
            )
        calls.append(
            ModelCall(
                span_id=f"s{number}",
                agent=draw(st.sampled_from([None, "a", "b"])),
                provider="p",
                model=draw(st.sampled_from(MODELS)),
                started_unix_nano=number,
                ended_unix_nano=number + draw(st.integers(0, 10**10)),
                usage=usage,
                reported_cost_usd=draw(st.none() | st.decimals(0, 3, places=6)),
                context=draw(contexts([call.context for call in calls], spans)),
                answer_hash=draw(st.none() | st.integers(0, 7).map("k:{}".format)),
                step_kind=draw(st.sampled_from([None, "act", "plan"])),
            )
        )
    status = draw(st.none() | st.sampled_from(OutcomeStatus))
    return Trajectory(
        trace_id=f"{draw(st.integers(0, 2**64)):032x}",
        outcome=None if status is None else Outcome(task_id="t", status=status),
        steps=tuple(calls),
    )


@st.composite
def flagged(draw: st.DrawFn) -> tuple[Trajectory, Flags, frozenset[str]]:
    """A trajectory, what detectors might say of it, and an evidence slice."""
    trajectory = draw(trajectories())
    spans = [call.span_id for call in trajectory.model_calls]
    if not spans:
        return trajectory, Flags(), frozenset()
    places = st.integers(0, 9) | st.sampled_from(Part)
    refs = st.builds(CellRef, st.sampled_from(spans), places)
    cells = draw(st.dictionaries(refs, SETS_OF_CAUSES, max_size=6))
    misses = st.builds(MissedCache, st.integers(0, 900), st.just(frozenset({Cause("D12", Tier.A)})))
    missed = draw(st.dictionaries(st.sampled_from(spans), misses, max_size=3))
    return trajectory, Flags(cells=cells, missed_caches=missed), draw(st.frozensets(st.sampled_from(spans)))


def folded(*examples: tuple[Trajectory, Flags, frozenset[str]]) -> CellSummary:
    ledger = CellLedger(PRICES)
    for trajectory, flags, evidence in examples:
        ledger.add(trajectory, flags=flags, evidence=evidence)
    return ledger.summary()


def by_label(cells: Sequence[Cell]) -> dict[Any, tuple[int, Decimal]]:
    tokens: Counter[Any] = Counter()
    money: defaultdict[Any, Decimal] = defaultdict(Decimal)
    for cell in cells:
        tokens[cell.label, cell.tier, cell.causes] += cell.tokens
        money[cell.label, cell.tier, cell.causes] += cell.usd or 0
    return {key: (tokens[key], money[key]) for key in tokens if tokens[key] or money[key]}


def comparable(summary: CellSummary) -> tuple[Mapping[Any, Any], ...]:
    return summary.groups, summary.causes, summary.roles, summary.tools


@given(flagged())
def test_cells_of_a_call_add_up_to_what_the_provider_counted(example: tuple[Trajectory, Flags, frozenset[str]]) -> None:
    trajectory, flags, evidence = example
    counted: defaultdict[str, Counter[TokenClass]] = defaultdict(Counter)
    for cell in cells_of(trajectory, PRICES, flags=flags, evidence=evidence):
        counted[cell.call.span_id][cell.token_class] += cell.tokens
    for call in trajectory.model_calls:
        counts = billed_tokens(call) or (0, 0, 0, 0, 0)
        assert tuple(counted[call.span_id][name] for name in list(TokenClass)[:5]) == counts


@given(flagged())
def test_cells_of_a_call_add_up_to_its_price(example: tuple[Trajectory, Flags, frozenset[str]]) -> None:
    trajectory, flags, evidence = example
    costs: defaultdict[str, Decimal] = defaultdict(Decimal)
    for cell in cells_of(trajectory, PRICES, flags=flags, evidence=evidence):
        costs[cell.call.span_id] += cell.usd or 0
    for call in trajectory.model_calls:
        assert costs[call.span_id] == (PRICES.cost(call) or 0)


@given(flagged())
def test_the_ledger_sums_up_the_very_cells_that_can_be_listed(
    example: tuple[Trajectory, Flags, frozenset[str]],
) -> None:
    trajectory, flags, evidence = example
    listed = by_label(list(cells_of(trajectory, PRICES, flags=flags, evidence=evidence)))
    summary = folded(example)
    unflagged = {label: listed.get((label, None, frozenset()), (0, Decimal(0))) for label in Label}
    for label in (Label.PRODUCTIVE, Label.OVERHEAD, Label.UNKNOWN):
        amount = summary.by(lambda group: group.label).get(label)
        assert unflagged[label] == ((0, 0) if amount is None else (amount.tokens, amount.usd))
    wasted = {causes: amounts for (label, _, causes), amounts in listed.items() if label is Label.WASTE}
    assert {causes: (amount.tokens, amount.usd) for (causes, _), amount in summary.causes.items()} == wasted


@settings(max_examples=40)  # of several trajectories each
@given(st.lists(flagged(), max_size=3))
def test_every_marginal_adds_up_to_the_bill(examples: list[tuple[Trajectory, Flags, frozenset[str]]]) -> None:
    summary = folded(*examples)
    bill = sum(PRICES.cost(call) or 0 for trajectory, *_ in examples for call in trajectory.model_calls)
    assert summary.reconciliation.is_exact
    assert summary.total.usd == bill
    for key in (lambda group: group.agent, lambda group: group.model, lambda group: (group.label, group.tier)):
        assert sum(amount.usd for amount in summary.by(key).values()) == bill
    assert sum(amount.usd for amount in summary.matrix.values()) == bill
    assert sum(life.usd for life in summary.roles.values()) == bill


@settings(max_examples=40)  # of several trajectories each
@given(st.lists(flagged(), max_size=4), st.data())
def test_neither_order_nor_splitting_changes_a_sum(
    examples: list[tuple[Trajectory, Flags, frozenset[str]]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(examples)))
    shuffled = data.draw(st.permutations(examples))
    first, second = CellLedger(PRICES), CellLedger(PRICES)
    for ledger, part in ((first, shuffled[:cut]), (second, shuffled[cut:])):
        for trajectory, flags, evidence in part:
            ledger.add(trajectory, flags=flags, evidence=evidence)
    first.merge(second)
    assert comparable(first.summary()) == comparable(folded(*examples))
    assert first.summary().reconciliation == folded(*examples).reconciliation


@given(flagged(), st.data())
def test_a_new_cause_moves_money_into_waste_and_changes_no_total(
    example: tuple[Trajectory, Flags, frozenset[str]], data: st.DataObject
) -> None:
    trajectory, flags, evidence = example
    new = Cause("new", data.draw(st.sampled_from(Tier)))
    spans = [call.span_id for call in trajectory.model_calls] or ["none"]
    refs = st.builds(CellRef, st.sampled_from(spans), st.integers(0, 9) | st.sampled_from(Part))
    more = Flags(cells={ref: frozenset({new}) for ref in data.draw(st.sets(refs, max_size=4))})
    before, after = folded(example), folded((trajectory, flags | more, evidence))
    assert after.total == before.total
    assert after.roles == before.roles
    labels_before, labels_after = (summary.by(lambda group: group.label) for summary in (before, after))
    for label in (Label.PRODUCTIVE, Label.OVERHEAD, Label.UNKNOWN):
        for unit in ("tokens", "usd"):
            was, is_now = (getattr(labels.get(label), unit, 0) for labels in (labels_before, labels_after))
            assert is_now <= was
    old_causes = {causes for causes, _ in before.causes}
    assert all(causes - {new} in old_causes or causes == {new} for causes, _ in after.causes)


@given(flagged())
def test_evidence_takes_money_from_overhead_and_unknown_only(
    example: tuple[Trajectory, Flags, frozenset[str]],
) -> None:
    trajectory, flags, _ = example
    without, with_slice = folded((trajectory, flags, frozenset())), folded(example)
    assert with_slice.causes == without.causes
    assert with_slice.total == without.total
    before, after = (summary.by(lambda group: group.label) for summary in (without, with_slice))
    assert Label.PRODUCTIVE not in before
    for label in (Label.OVERHEAD, Label.UNKNOWN):
        assert after.get(label, Amount()).usd <= before.get(label, Amount()).usd


@given(flagged())
def test_shares_of_causes_add_up_to_the_waste(example: tuple[Trajectory, Flags, frozenset[str]]) -> None:
    summary = folded(example)
    waste = sum(Fraction(amount.usd) for group, amount in summary.groups.items() if group.label is Label.WASTE)
    shares = summary.shares()
    assert sum(cause.share for cause in shares.values()) == waste
    assert all(cause.incremental <= cause.share <= cause.standalone for cause in shares.values())


@settings(max_examples=40)  # of several trajectories each
@given(trajectories())
def test_the_outcome_moves_money_along_its_own_axis_only(trajectory: Trajectory) -> None:
    labels = folded((trajectory, Flags(), frozenset())).by(lambda group: group.label)
    for status in OutcomeStatus:
        judged = replace_outcome(trajectory, Outcome(task_id="t", status=status))
        summary = folded((judged, Flags(), frozenset()))
        assert summary.by(lambda group: group.label) == labels
        assert {group.outcome for group in summary.groups} <= {run_outcome(judged.outcome)}


def replace_outcome(trajectory: Trajectory, outcome: Outcome) -> Trajectory:
    return Trajectory(trace_id=trajectory.trace_id, outcome=outcome, steps=trajectory.steps)


def test_each_group_has_one_label(make: Any, prices: PriceBook) -> None:
    call = make.call("s0", [make.block("a", size=4)], counts=(10, 0, 0, 5, 0))
    trajectory = Trajectory(trace_id="t", steps=(call, replace(call, span_id="s1")))
    flags = Flags(cells={CellRef("s1", Part.CALL): frozenset({CAUSES[0]})})
    cells = list(cells_of(trajectory, prices, flags=flags))
    assert [cell.label for cell in cells] == [Label.OVERHEAD, Label.UNKNOWN, Label.WASTE, Label.WASTE]

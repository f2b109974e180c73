"""The cell ledger: folds trajectories, one at a time, into sums that add up to the bill.

It keeps sums by label, outcome, agent and model, by set of causes, by role and tool, and the dearest blocks; none of
them grows with the number of traces. Within a trajectory it takes each call's carried prefix as a whole: running sums
over a lineage's blocks tell how many of its tokens, by class and by kind of block, lie between two positions, and what
carrying them cost each block is noted as a step of price that is added up once, at the end. Work is then linear in
calls and blocks, and so is memory, while cells are quadratic; only flagged cells are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from tokenomics_plugin.cells.carrying import Carrying
from tokenomics_plugin.cells.flags import NO_FLAGS, Flags, Part
from tokenomics_plugin.cells.folding import CallSums, Sum, fold, output_cost, template_cost
from tokenomics_plugin.cells.labels import NO_CAUSES, Causes, Label, RunOutcome, run_outcome, strongest
from tokenomics_plugin.cells.rents import Rents
from tokenomics_plugin.cells.summary import Amount, CellGroup, CellSummary, Reconciliation
from tokenomics_plugin.cells.tariff import Tariffs, attodollars, usd
from tokenomics_plugin.pricing import PriceBook, billed_tokens
from tokenomics_plugin.trajectory import ModelCall, Trajectory

__all__ = ["CellLedger", "Maker", "RunCells"]

Maker = tuple[str | None, str | None, str | None]
"""Agent, provider and model of a call."""
_TOP_BLOCKS: Final = 50
_NO_FLAGS_HERE: Final[Mapping[int | Part, Causes]] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCells:
    """What one trajectory added."""

    call_costs: tuple[Decimal | None, ...]
    """What each model call cost, in their order; `None` for one without a known cost."""
    sums: Mapping[Maker, CallSums]
    """Sums of its cells by agent, provider and model."""


class CellLedger:
    """Sums of cells so far."""

    def __init__(self, prices: PriceBook, *, top_blocks: int = _TOP_BLOCKS) -> None:
        """Start at zero.

        Args:
            prices: What calls cost.
            top_blocks: How many of the dearest blocks to keep.
        """
        self._tariffs = Tariffs(prices)
        self._groups: dict[CellGroup, Sum] = {}
        self._causes: dict[tuple[Causes, RunOutcome], Sum] = {}
        self._rents = Rents(top_blocks)
        self._bill = Decimal(0)
        self._trajectories = self._calls = self._priced = self._measured = self._reported_tokens = 0

    def add(
        self, trajectory: Trajectory, *, flags: Flags = NO_FLAGS, evidence: AbstractSet[str] = frozenset()
    ) -> RunCells:
        """Fold a trajectory, and return what it added.

        Args:
            trajectory: What was done for one task in one trace.
            flags: Causes of waste.
            evidence: Spans of the evidence slice; empty when nobody computed one.
        """
        self._trajectories += 1
        outcome, by_call = run_outcome(trajectory.outcome), flags.by_call()
        carrying = Carrying(trajectory.model_calls, evidence=evidence)
        answers: list[tuple[ModelCall, int, int]] = []
        costs: list[Decimal | None] = []
        sums: dict[Maker, CallSums] = {}
        for call in trajectory.model_calls:
            counts = billed_tokens(call)
            cost, tariff = self._tariffs.of(call, counts)
            self._count(cost)
            costs.append(cost)
            maker = call.agent, call.provider, call.model
            total = sums.get(maker) or sums.setdefault(maker, CallSums())
            causes = by_call.get(call.span_id, _NO_FLAGS_HERE)
            if counts is None:
                self._add_unmeasured(total, cost, causes.get(Part.CALL, NO_CAUSES))
                continue
            self._measured += 1
            self._reported_tokens += sum(counts)
            layout = carrying.add(call, counts)
            missed = flags.missed_caches.get(call.span_id)
            fold(total, layout, tariff, causes=causes, missed=missed, is_in_slice=call.span_id in evidence)
            self._rents.add_template(template_cost(layout, tariff))
            if counts[3] or counts[4]:
                answers.append((call, counts[3] + counts[4], output_cost(layout, tariff)))
        self._rents.add(trajectory, carrying.lineages, answers)
        for maker, total in sums.items():
            self._add_sums(maker, total, outcome)
        return RunCells(call_costs=tuple(costs), sums=sums)

    def merge(self, other: CellLedger) -> None:
        """Add all that another ledger has summed up, of other trajectories at the same prices."""
        for group, more in other._groups.items():
            self._groups.setdefault(group, Sum()).add(more.tokens, more.cost)
        for causes, more in other._causes.items():
            self._causes.setdefault(causes, Sum()).add(more.tokens, more.cost)
        self._rents.merge(other._rents)
        self._bill += other._bill
        self._reported_tokens += other._reported_tokens
        self._trajectories += other._trajectories
        self._calls += other._calls
        self._priced += other._priced
        self._measured += other._measured

    def summary(self) -> CellSummary:
        """The sums as they stand."""
        return CellSummary(
            groups={group: _amount(total) for group, total in self._groups.items() if total.tokens or total.cost},
            causes={key: _amount(total) for key, total in self._causes.items() if total.tokens or total.cost},
            roles=self._rents.roles(),
            tools=self._rents.tools(),
            top_blocks=self._rents.top(),
            reconciliation=Reconciliation(
                trajectories=self._trajectories,
                calls=self._calls,
                priced_calls=self._priced,
                measured_calls=self._measured,
                reported_tokens=self._reported_tokens,
                cell_tokens=sum(total.tokens for total in self._groups.values()),
                bill_usd=self._bill,
                cells_usd=usd(sum(total.cost for total in self._groups.values())),
            ),
        )

    def _count(self, cost: Decimal | None) -> None:
        self._calls += 1
        if cost is not None:
            self._priced += 1
            self._bill += cost

    def _add_sums(self, maker: Maker, sums: CallSums, outcome: RunOutcome) -> None:
        for label, tokens, cost in sums.labelled():
            if tokens or cost:
                self._group(CellGroup(label, None, outcome, *maker)).add(tokens, cost)
        for causes, total in sums.waste.items():
            self._group(CellGroup(Label.WASTE, strongest(causes), outcome, *maker)).add(total.tokens, total.cost)
            self._causes.setdefault((causes, outcome), Sum()).add(total.tokens, total.cost)

    def _group(self, group: CellGroup) -> Sum:
        known = self._groups.get(group)
        if known is None:
            known = self._groups[group] = Sum()
        return known

    def _add_unmeasured(self, sums: CallSums, cost: Decimal | None, causes: Causes) -> None:
        """Money without tokens: a machine's time for a call that reported none."""
        if not cost:
            return
        amount = attodollars(cost)
        sums.add(Label.UNKNOWN, 0, amount)
        if causes:
            sums.move(Label.UNKNOWN, causes, 0, amount)
        self._rents.add_unknown(amount)


def _amount(total: Sum) -> Amount:
    return Amount(tokens=total.tokens, usd=usd(total.cost))

"""Everything that is worked out about one trace, once, for all the sections that show it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tokenomics_plugin.cells import Cell, CellLedger, CellSummary, Label, Part, Tier, cells_of
from tokenomics_plugin.credit import evidence_of
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.store import TraceStore
from tokenomics_plugin.trajectory import UNDECLARED, SideEffects, Trajectory
from tokenomics_plugin.waste import Detector, Finding, flags_of, scan

__all__ = ["Claim", "TraceLook"]

_TOP_BLOCKS = 25


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A finding, and the money of the cells that it claims. Claims of several findings may overlap."""

    finding: Finding
    """What was found."""
    tokens: int
    """Tokens of its cells."""
    usd: Decimal | None
    """What they cost; `None` when a call among them has no price."""


@dataclass(frozen=True, kw_only=True)
class TraceLook:
    """One trace."""

    trace_id: str
    """32 hex digits."""
    spans: tuple[SpanRecord, ...]
    """Its spans, by start."""
    trajectories: tuple[Trajectory, ...]
    """What was done in it, task by task."""
    cells: tuple[Cell, ...]
    """Its bill, cell by cell."""
    claims: tuple[Claim, ...]
    """What detectors found, the dearest first."""
    ledger: CellSummary
    """Sums of the cells."""

    @classmethod
    def of(
        cls,
        spans: Sequence[SpanRecord],
        trajectories: Sequence[Trajectory],
        prices: PriceBook,
        *,
        detectors: Sequence[Detector],
    ) -> TraceLook:
        """Look at a trace.

        Args:
            spans: All spans of it, at least one.
            trajectories: The same as trajectories.
            prices: What calls cost.
            detectors: What looks for waste.
        """
        ledger = CellLedger(prices, top_blocks=_TOP_BLOCKS)
        cells: list[Cell] = []
        claims: list[Claim] = []
        for trajectory in trajectories:
            findings = scan(trajectory, detectors).findings
            flags, evidence = flags_of(findings), evidence_of(trajectory)
            ledger.add(trajectory, flags=flags, evidence=evidence)
            of_trajectory = list(cells_of(trajectory, prices, flags=flags, evidence=evidence))
            cells += of_trajectory
            claims += _claims(findings, of_trajectory)
        return cls(
            trace_id=spans[0].trace_id,
            spans=tuple(spans),
            trajectories=tuple(trajectories),
            cells=tuple(cells),
            claims=tuple(sorted(claims, key=lambda claim: claim.usd or Decimal(0), reverse=True)),
            ledger=ledger.summary(),
        )

    @classmethod
    def read(
        cls,
        store: TraceStore,
        trace_id: str,
        prices: PriceBook,
        detectors: Sequence[Detector],
        *,
        side_effects: SideEffects = UNDECLARED,
    ) -> TraceLook | None:
        """Look at a trace of a store; `None` when there is none of that id."""
        spans = list(store.spans(traces=(trace_id,)))
        if not spans:
            return None
        trajectories = list(store.trajectories(traces=(trace_id,), side_effects=side_effects))
        return cls.of(spans, trajectories, prices, detectors=detectors)

    def cost_by_call(self) -> Mapping[str, Decimal | None]:
        """What each model call cost, by span id; `None` for one without a price."""
        costs: dict[str, Decimal | None] = {
            call.span_id: None for trajectory in self.trajectories for call in trajectory.model_calls
        }
        for cell in self.cells:
            if cell.usd is not None:
                costs[cell.call.span_id] = (costs[cell.call.span_id] or Decimal(0)) + cell.usd
        return costs

    def labels_by_call(self) -> Mapping[str, Mapping[tuple[Label, Tier | None], Decimal]]:
        """What the money of each model call was for, by span id."""
        labels: defaultdict[str, defaultdict[tuple[Label, Tier | None], Decimal]] = defaultdict(
            lambda: defaultdict(Decimal)
        )
        for cell in self.cells:
            labels[cell.call.span_id][cell.label, cell.tier] += cell.usd or 0
        return labels


def _claims(findings: Iterable[Finding], cells: Iterable[Cell]) -> Iterator[Claim]:
    by_call: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_call[cell.call.span_id].append(cell)
    for finding in findings:
        if finding.is_waste:
            claimed = list(_claimed(finding, by_call))
            amounts = [cell.usd for cell in claimed]
            known = [amount for amount in amounts if amount is not None]
            usd = sum(known, Decimal(0)) if len(known) == len(amounts) else None
            yield Claim(finding=finding, tokens=sum(cell.tokens for cell in claimed), usd=usd)


def _claimed(finding: Finding, by_call: Mapping[str, Sequence[Cell]]) -> Iterator[Cell]:
    """The cells of a finding. A price gap is a cell of its own, which names its cause."""
    for span_id in finding.spans:
        yield from by_call.get(span_id, ())
    for span_id in finding.outputs:
        yield from (cell for cell in by_call.get(span_id, ()) if cell.place is Part.OUTPUT)
    for claimed in finding.blocks:
        for cell in by_call.get(claimed.call, ()):
            if finding.is_price_gap:
                if not cell.tokens and any(cause.id == finding.cause for cause in cell.causes):
                    yield cell
            elif isinstance(cell.place, int) and claimed.start <= cell.place < claimed.stop:
                yield cell

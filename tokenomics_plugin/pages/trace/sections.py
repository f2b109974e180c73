"""What the page of a trace says, question by question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from tokenomics_plugin.cells import BlockCost, Label, Reconciliation, Tier
from tokenomics_plugin.pages.trace.caches import cache_chart
from tokenomics_plugin.pages.trace.look import Claim, TraceLook
from tokenomics_plugin.pages.trace.slices import slice_section
from tokenomics_plugin.pages.trace.tree import icicle, shade_of
from tokenomics_plugin.pages.words import amount as money
from tokenomics_plugin.report.document import (
    Bar,
    BarChart,
    Cell,
    Column,
    Fact,
    Facts,
    Link,
    Page,
    Part,
    Section,
    Table,
)
from tokenomics_plugin.report.wording import UNKNOWN, count, counted, instant, usd, visible
from tokenomics_plugin.waste import Detector

__all__ = ["block_table", "trace_page", "trace_sections"]

_BLOCK_COLUMNS: Final = tuple(
    Column(name=name)
    for name in ("Block", "Tool", "Tokens", "Calls that sent it", "Making it", "First sending", "Rent", "In all")
)
_CLAIM_COLUMNS: Final = (
    Column(name="Cause"),
    Column(name="Evidence"),
    Column(name="Tokens"),
    Column(name="Cost"),
    Column(name="Spans", is_wordy=True),
    Column(name="Because of", is_wordy=True),
)
_MAX_CLAIMS: Final = 25
_MAX_IDS: Final = 2
_TIERS: Final = {Tier.A: "provable", Tier.B: "likely", Tier.C: "a matter of policy"}


def trace_page(look: TraceLook, *, detectors: Sequence[Detector], chosen: Section | None = None) -> Page:
    """The page of one trace.

    Args:
        look: The trace.
        detectors: What looked for waste.
        chosen: A section about one of its spans, to begin with.
    """
    spans = look.spans
    end = max(span.start_unix_nano + (span.duration_nano or 0) for span in spans)
    tasks = ", ".join(visible(trajectory.task_id) for trajectory in look.trajectories if trajectory.task_id) or "none"
    return Page(
        id="trace",
        title=f"Trace {look.trace_id}",
        lead=f"{instant(spans[0].start_unix_nano)} to {instant(end)}; {counted(len(spans), 'span')}; tasks: {tasks}.",
        sections=(*(() if chosen is None else (chosen,)), *trace_sections(look, detectors=detectors)),
        sources="Costs are list prices, the price book's, or what the log says. Claims of several causes may overlap.",
    )


def trace_sections(look: TraceLook, *, detectors: Sequence[Detector]) -> tuple[Section, ...]:
    """What can be said of one trace."""
    names = {detector.id: detector.name for detector in detectors}
    return (
        Section(
            id="money",
            title="Where the money of this trace went",
            lead="Every cell of the bill has one label. That a run failed is no label: trying costs money too.",
            blocks=(_facts(look), _labels(look), icicle(look)),
        ),
        Section(
            id="waste",
            title="What bought nothing",
            lead="Each row is a finding, with the spans that it claims and what it rests on.",
            blocks=(_causes(look, names), _claims(look, names)),
        ),
        slice_section(look),
        Section(
            id="rent",
            title="What was carried, and for how long",
            lead="A block is paid for when it is made, when it is first sent, and again on every later call that "
            "carries it: that is its rent.",
            blocks=(block_table(look.ledger.top_blocks if look.ledger.reconciliation.priced_calls else ()),),
        ),
        Section(
            id="caches",
            title="What the cache could have served",
            lead="Where the line of what was sent before lies above that of what the cache read, the full price was "
            "paid for a repeated beginning.",
            blocks=(cache_chart(look),),
        ),
    )


def block_table(blocks: Sequence[BlockCost]) -> Table:
    """The dearest blocks."""
    return Table(
        id="blocks",
        title="The dearest blocks",
        columns=_BLOCK_COLUMNS,
        rows=tuple(map(_block, blocks)),
        empty="No model call with a known cost says what it carried.",
    )


def _facts(look: TraceLook) -> Facts:
    total = look.ledger.reconciliation
    waste = sum((amount.usd for group, amount in look.ledger.groups.items() if group.label is Label.WASTE), Decimal(0))
    priced = f"{count(total.priced_calls)} of {counted(total.calls, 'model call')} have a known cost"
    return Facts(
        id="sums",
        facts=(
            Fact(title="Cost", figure=_known(total.bill_usd, look), basis=priced, details={"calls": total.calls}),
            Fact(
                title="Flagged as waste",
                figure=_known(waste, look),
                basis=f"by {counted(len(look.claims), 'finding')}",
            ),
            Fact(
                title="Tokens",
                figure=_tokens(total),
                basis=f"{count(total.measured_calls)} of {counted(total.calls, 'model call')} reported theirs",
            ),
        ),
    )


def _labels(look: TraceLook) -> BarChart:
    amounts: defaultdict[tuple[Label, Tier | None], Decimal] = defaultdict(Decimal)
    for group, amount in look.ledger.groups.items():
        amounts[group.label, group.tier] += amount.usd
    parts = tuple(
        Part(
            shade=shade_of(label, tier),
            size=float(amount),
            figure=money(amount),
            label=label.value if tier is None else f"waste, {_TIERS[tier]}",
            is_hatched=tier in (Tier.B, Tier.C),
        )
        for (label, tier), amount in sorted(amounts.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    )
    total = sum(amounts.values(), Decimal(0))
    bars = (Bar(name=Cell(text="This trace"), figure=money(total), parts=parts),) if total else ()
    return BarChart(
        id="labels", title="What the money was for", description="The cost of the trace by label.", bars=bars
    )


def _causes(look: TraceLook, names: Mapping[str, str]) -> Table:
    claimed: defaultdict[str, int] = defaultdict(int)
    for claim in look.claims:
        claimed[claim.finding.cause] += 1
    shares = sorted(look.ledger.shares().items(), key=lambda item: -item[1].share)
    return Table(
        id="causes",
        title="By cause; what several causes claim is shared among them",
        columns=tuple(Column(name=name) for name in ("Cause", "Findings", "Share", "Claimed", "Claimed by no other")),
        rows=tuple(
            (
                Cell(text=f"{cause} {visible(names.get(cause, ''))}".rstrip(), value=cause),
                Cell(text=count(claimed[cause]), value=claimed[cause]),
                Cell(text=usd(float(share.share)), value=float(share.share)),
                money(share.standalone),
                money(share.incremental),
            )
            for cause, share in shares
        ),
    )


def _claims(look: TraceLook, names: Mapping[str, str]) -> Table:
    return Table(
        id="claims",
        title="Findings, the dearest first",
        columns=_CLAIM_COLUMNS,
        rows=tuple(_claim(claim, names, look.trace_id) for claim in look.claims[:_MAX_CLAIMS]),
        hidden=max(0, len(look.claims) - _MAX_CLAIMS),
        empty="No detector found anything in it.",
    )


def _claim(claim: Claim, names: Mapping[str, str], trace_id: str) -> tuple[Cell, ...]:
    finding = claim.finding
    calls = (*finding.spans, *finding.outputs, *(claimed.call for claimed in finding.blocks))
    return (
        Cell(
            text=f"{finding.cause} {visible(names.get(finding.cause, ''))}".rstrip(),
            value=finding.cause,
            link=Link(view="findings", parameters={"cause": finding.cause}),
        ),
        Cell(text=_TIERS[finding.tier], value=finding.tier.value),
        Cell(text=count(claim.tokens), value=claim.tokens),
        Cell(text=UNKNOWN) if claim.usd is None else money(claim.usd),
        _span_ids(calls, trace_id),
        _span_ids(finding.evidence, trace_id),
    )


def _span_ids(span_ids: Sequence[str], trace_id: str) -> Cell:
    ids = list(dict.fromkeys(span_ids))
    more = f" and {count(len(ids) - _MAX_IDS)} more" if len(ids) > _MAX_IDS else ""
    link = Link(view="trace", parameters={"trace_id": trace_id, "span_id": ids[0]}) if ids else None
    return Cell(text=", ".join(ids[:_MAX_IDS]) + more, value=" ".join(ids), link=link)


def _block(block: BlockCost) -> tuple[Cell, ...]:
    name = block.role if block.producer is None else f"{block.role} of {block.producer}"
    link = None
    if block.producer is not None:
        link = Link(view="trace", parameters={"trace_id": block.trace_id, "span_id": block.producer})
    cost = block.cost
    return (
        Cell(text=visible(name), value=block.hash, link=link),
        Cell(text=visible(block.tool or ""), value=block.tool),
        Cell(text=count(block.tokens), value=block.tokens),
        Cell(text=count(block.carried), value=block.carried),
        *map(money, (cost.generation_usd, cost.first_usd, cost.rent_usd, cost.usd)),
    )


def _tokens(total: Reconciliation) -> Cell:
    if total.measured_calls == total.calls:
        return Cell(text=count(total.cell_tokens), value=total.cell_tokens)
    return Cell(text=f"≥ {count(total.cell_tokens)}" if total.measured_calls else UNKNOWN)


def _known(amount: Decimal, look: TraceLook) -> Cell:
    """A sum over calls: at least so much, when some of them have no price."""
    total = look.ledger.reconciliation
    if total.priced_calls == total.calls:
        return money(amount)
    return Cell(text=f"≥ {usd(amount)}" if total.priced_calls else UNKNOWN)

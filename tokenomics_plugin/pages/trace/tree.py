"""The icicle of a trace: each span as wide as what it cost, with all that was called in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from tokenomics_plugin.cells import Label, Tier
from tokenomics_plugin.pages.trace.look import TraceLook
from tokenomics_plugin.report.document import Cell, Column, Icicle, Link, Node, Shade
from tokenomics_plugin.report.wording import UNKNOWN, usd, visible
from tokenomics_plugin.span import SpanRecord

__all__ = ["icicle", "shade_of"]

_MAX_NODES: Final = 400
_WASTE: Final = {Tier.A: Shade.WASTE_A, Tier.B: Shade.WASTE_B, Tier.C: Shade.WASTE_C}
_LABELS: Final = {
    Label.PRODUCTIVE: Shade.PRODUCTIVE,
    Label.OVERHEAD: Shade.OVERHEAD,
    Label.UNKNOWN: Shade.UNKNOWN,
}
_NS_PER_S: Final = 1e9

_Labels = Mapping[tuple[Label, Tier | None], Decimal]


def shade_of(label: Label, tier: Tier | None) -> Shade:
    """The colour of what money was for."""
    return _WASTE[tier] if tier is not None else _LABELS[label]


def icicle(look: TraceLook) -> Icicle:
    """The trace as a tree; its first spans when there are very many."""
    spans = _parents_first(look.spans)
    shown = spans[:_MAX_NODES]
    by_call = look.cost_by_call()
    costs, labels = _subtree_costs(spans, by_call), _subtree_labels(spans, look.labels_by_call())
    known = {span.span_id for span in spans}
    is_priced = any(cost is not None for cost in by_call.values())
    return Icicle(
        id="spans",
        title="Spans, by what they cost" if is_priced else "Spans; no model call has a known cost",
        description="Spans of the trace as a tree; each is as wide as what it cost with all that it called.",
        nodes=tuple(
            _node(
                span,
                span.parent_span_id if span.parent_span_id in known else None,
                costs[span.span_id],
                labels[span.span_id],
                # All alike where there is no cost to be wide by; what holds others is as wide as they are.
                width=float(costs[span.span_id][0]) if is_priced else 1.0,
            )
            for span in shown
        ),
        columns=tuple(Column(name=name) for name in ("", "Cost with all in it", "Mostly", "Seconds", "Error")),
        hidden=len(spans) - len(shown),
        empty="The trace has no spans.",
    )


def _parents_first(spans: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Depth first, siblings by start. A span whose parent is missing is a root; so is one of a circle."""
    known = {span.span_id for span in spans}
    children: defaultdict[str | None, list[SpanRecord]] = defaultdict(list)
    for span in spans:
        children[span.parent_span_id if span.parent_span_id in known else None].append(span)
    ordered: list[SpanRecord] = []
    waiting = children[None][::-1]
    while waiting:
        ordered.append(waiting.pop())
        waiting += children[ordered[-1].span_id][::-1]
    return ordered


def _subtree_costs(
    spans: Iterable[SpanRecord], by_call: Mapping[str, Decimal | None]
) -> Mapping[str, tuple[Decimal, bool]]:
    """Cost of each span with all below it, and whether all of it is known."""
    sums = {
        span.span_id: (by_call.get(span.span_id) or Decimal(0), by_call.get(span.span_id, 0) is not None)
        for span in spans
    }
    for span in reversed(list(spans)):
        if span.parent_span_id in sums:
            (above, is_above_known), (own, is_known) = sums[span.parent_span_id], sums[span.span_id]
            sums[span.parent_span_id] = above + own, is_above_known and is_known
    return sums


def _subtree_labels(spans: Iterable[SpanRecord], by_call: Mapping[str, _Labels]) -> Mapping[str, _Labels]:
    sums: dict[str, defaultdict[tuple[Label, Tier | None], Decimal]] = {
        span.span_id: defaultdict(Decimal, by_call.get(span.span_id, {})) for span in spans
    }
    for span in reversed(list(spans)):
        if span.parent_span_id in sums:
            for label, amount in sums[span.span_id].items():
                sums[span.parent_span_id][label] += amount
    return sums


def _node(span: SpanRecord, parent: str | None, cost: tuple[Decimal, bool], labels: _Labels, *, width: float) -> Node:
    amount, is_known = cost
    label, tier = max(labels, key=lambda key: labels[key], default=(Label.UNKNOWN, None))
    words = usd(amount) if is_known else f"≥ {usd(amount)}" if amount else UNKNOWN
    return Node(
        id=span.span_id,
        parent=parent,
        name=Cell(
            text=visible(span.name),
            value=span.name,
            link=Link(view="trace", parameters={"trace_id": span.trace_id, "span_id": span.span_id}),
        ),
        size=width,
        figure=Cell(text=words, value=str(amount) if is_known else None),
        shade=shade_of(label, tier),
        is_hatched=tier in (Tier.B, Tier.C),
        cells=(
            Cell(text=_mostly(label, tier) if labels else "", value=label.value if labels else None),
            _seconds(span),
            Cell(text=visible(span.error_type or ""), value=span.error_type),
        ),
    )


def _mostly(label: Label, tier: Tier | None) -> str:
    return label.value if tier is None else f"{label.value} {tier.value}"


def _seconds(span: SpanRecord) -> Cell:
    if span.duration_nano is None:
        return Cell(text=UNKNOWN)
    seconds = span.duration_nano / _NS_PER_S
    return Cell(text=f"{seconds:,.3f}", value=seconds)

"""One span of a trace, with all that it says."""

from __future__ import annotations

from collections.abc import Mapping

from tokenomics_plugin.pages.trace.look import TraceLook
from tokenomics_plugin.report.document import Cell, Column, Link, Section, Table
from tokenomics_plugin.report.wording import visible

__all__ = ["span_section"]


def span_section(look: TraceLook, span_id: str, attributes: Mapping[str, str]) -> Section:
    """What a span says of itself.

    Args:
        look: Its trace.
        span_id: The span.
        attributes: Its attributes as they were recorded.
    """
    span = next((span for span in look.spans if span.span_id == span_id), None)
    parent = None if span is None else span.parent_span_id
    rows = [] if parent is None else [_row("parent span", parent, Link(view="trace", parameters=_at(look, parent)))]
    return Section(
        id="span",
        title=f"Span {visible(span_id)}" if span is None else visible(span.name),
        lead=f"Span {visible(span_id)} of this trace, as it was recorded.",
        blocks=(
            Table(
                id="attributes",
                title="Attributes",
                columns=(Column(name=""), Column(name="Value", is_wordy=True)),
                rows=(*rows, *(_row(name, value) for name, value in sorted(attributes.items()))),
                empty="The span has no attributes.",
            ),
        ),
    )


def _at(look: TraceLook, span_id: str) -> dict[str, str]:
    return {"trace_id": look.trace_id, "span_id": span_id}


def _row(name: str, value: str, link: Link | None = None) -> tuple[Cell, Cell]:
    return Cell(text=visible(name), value=name), Cell(text=visible(value), value=value, link=link)

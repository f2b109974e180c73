"""Pages as JSON: every cell's value beside its text, so that no program has to read numbers out of words."""

from __future__ import annotations

from typing import Any

from tokenomics_plugin.report.document import (
    BarChart,
    Block,
    Cell,
    Fact,
    Facts,
    Icicle,
    IntervalChart,
    LineChart,
    Note,
    Page,
    Section,
    Table,
)

__all__ = ["page_json"]


def page_json(page: Page) -> dict[str, Any]:
    """A page as plain data; charts are given as their tables."""
    return {
        "id": page.id,
        "title": page.title,
        "lead": page.lead,
        "sections": [_section(section) for section in page.sections],
        "sources": page.sources,
    }


def _section(section: Section) -> dict[str, Any]:
    blocks = [_block(block) for block in section.blocks]
    return {"id": section.id, "title": section.title, "lead": section.lead, "blocks": blocks}


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Note():
            return {"kind": "note", "text": block.text, "is_warning": block.is_warning}
        case Facts():
            return {"kind": "facts", "id": block.id, "facts": [_fact(fact) for fact in block.facts]}
        case Table():
            return {"kind": "table", **_table(block)}
        case BarChart() | IntervalChart() | LineChart() | Icicle():
            return {"kind": "chart", **_table(block.table()), "id": block.id, "description": block.description}


def _fact(fact: Fact) -> dict[str, Any]:
    return {
        "title": fact.title,
        "figure": _cell(fact.figure),
        "interval": fact.interval,
        "meaning": fact.meaning,
        "basis": fact.basis,
        "caveat": fact.caveat,
        "details": dict(fact.details),
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        "id": table.id,
        "title": table.title,
        "columns": [column.name for column in table.columns],
        "rows": [[_cell(cell) for cell in row] for row in table.rows],
        "hidden": table.hidden,
        "notes": list(table.notes),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    written: dict[str, Any] = {"text": cell.text, "value": cell.value}
    if cell.note:
        written["note"] = cell.note
    if cell.link is not None:
        written["link"] = {"view": cell.link.view, "parameters": dict(cell.link.parameters)}
    return written

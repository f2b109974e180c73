"""The developer's page: which traces to open first, what blocks cost over their lives, what was done twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tokenomics_plugin.analysis import Analysis
from tokenomics_plugin.analysis.tables import WASTE_USD
from tokenomics_plugin.cells import CellSummary, LifeCost
from tokenomics_plugin.pages.trace import TraceLook, block_table, trace_sections
from tokenomics_plugin.pages.words import amount, cost, span_cell
from tokenomics_plugin.report.document import (
    Bar,
    BarChart,
    Cell,
    Column,
    Link,
    Page,
    Part,
    Section,
    Shade,
    Table,
)
from tokenomics_plugin.report.wording import UNKNOWN, count, instant, percent, usd, visible
from tokenomics_plugin.waste import Detector

__all__ = ["dearest_trace", "developer_page"]

_MAX_ROWS: Final = 15
_REPEATS: Final = ("D1", "D2", "D3", "D4", "D5")
"""Causes that are about doing again what was done."""
_CACHES: Final = ("D11", "D12")
"""Causes that are about what a provider's cache did not serve."""
_PARTS: Final = (
    ("generation_usd", "making it", Shade.OUTPUT),
    ("first_usd", "sending it first", Shade.INPUT),
    ("rent_usd", "rent", Shade.CACHE_WRITE),
)


def dearest_trace(analysis: Analysis) -> str | None:
    """The trace with the most waste, or the dearest where none is known; `None` without traces."""
    rows = analysis.rows(
        "SELECT trace_id FROM runs GROUP BY trace_id "
        f"ORDER BY sum({WASTE_USD}) DESC, sum(priced_usd) DESC, trace_id LIMIT 1",
        (),
    )
    return rows[0][0] if rows else None


def developer_page(analysis: Analysis, *, look: TraceLook | None = None) -> Page:
    """The page for the person who will change the agent.

    Args:
        analysis: The tables.
        look: A trace to show as an example, best `dearest_trace`.
    """
    ledger, detectors = analysis.ledger, analysis.detectors
    names = {detector.id: detector.name for detector in detectors}
    sections = [
        _first_traces(analysis),
        _rent(ledger),
        _repeats(analysis, names),
        _caches(analysis, names),
    ]
    if look is not None:
        sections += _example(look, detectors)
    total = analysis.rows("SELECT count(*), count(DISTINCT trace_id) FROM runs", ())[0]
    return Page(
        id="developer",
        title="Developer",
        lead=f"{count(total[0])} runs in {count(total[1])} traces: what to open first, and what to change.",
        sections=tuple(sections),
        sources="A finding claims cells of the bill; claims of several causes may overlap, their shares do not.",
    )


def _first_traces(analysis: Analysis) -> Section:
    rows = analysis.rows(
        f"SELECT trace_id, task_id, start_ns, model_calls, errors, retries, repeats, cost_usd, priced_usd, {WASTE_USD} "
        f"FROM runs ORDER BY {WASTE_USD} DESC, priced_usd DESC, run_id LIMIT {_MAX_ROWS}",
        (),
    )
    hidden = int(analysis.rows("SELECT count(*) FROM runs", ())[0][0]) - len(rows)
    header = ("Task", "Started", "Calls", "Errors", "Retries", "Repeats", "Cost", "Flagged as waste")
    return Section(
        id="first",
        title="Which traces to open first",
        lead="Runs in which the most money was flagged as waste, then the dearest.",
        blocks=(
            Table(
                id="runs",
                title="Runs by flagged waste",
                columns=tuple(Column(name=name) for name in header),
                rows=tuple(map(_run, rows)),
                hidden=hidden,
                more=Link(view="runs", parameters={"sort": "most waste"}),
                empty="There are no runs yet.",
            ),
        ),
    )


def _run(row: tuple[Any, ...]) -> tuple[Cell, ...]:
    trace_id, task_id, start_ns, calls, errors, retries, repeats, known, priced, waste = row
    return (
        Cell(text=visible(task_id), value=task_id, link=Link(view="trace", parameters={"trace_id": trace_id})),
        Cell(text=instant(start_ns), value=start_ns),
        *(Cell(text=count(number), value=number) for number in (calls, errors, retries, repeats)),
        cost(known, priced),
        amount(waste),
    )


def _rent(ledger: CellSummary) -> Section:
    return Section(
        id="rent",
        title="What is carried, and what that costs",
        lead="A block is paid for when it is made, when it is first sent, and again on every later call that carries "
        "it: its rent. Shorten, clear or summarise what has a high rent and is not used.",
        blocks=(
            _lives("roles", "By role", ledger.roles),
            _lives("tools", "Tools' results", {name or "(unknown tool)": life for name, life in ledger.tools.items()}),
            block_table(ledger.top_blocks[:_MAX_ROWS]),
        ),
    )


def _lives(id_: str, title: str, lives: Mapping[str, LifeCost]) -> BarChart:
    ordered = sorted(lives.items(), key=lambda item: -item[1].usd)
    return BarChart(
        id=f"rent-{id_}",
        title=title,
        description=f"{title}: what blocks cost to make, to send first, and to carry on.",
        bars=tuple(_life(name, life) for name, life in ordered[:_MAX_ROWS] if life.usd),
    )


def _life(name: str, life: LifeCost) -> Bar:
    amounts = [(getattr(life, field), label, shade) for field, label, shade in _PARTS]
    return Bar(
        name=Cell(text=visible(name), value=name),
        figure=amount(life.usd),
        parts=tuple(
            Part(shade=shade, size=float(size), figure=amount(size), label=label) for size, label, shade in amounts
        ),
    )


def _repeats(analysis: Analysis, names: Mapping[str, str]) -> Section:
    return Section(
        id="repeats",
        title="What was done twice",
        lead="Reads and calls that repeat without a change in between, retries after the same failure, errors that are "
        "carried on, loops.",
        blocks=(_by_cause(analysis, names, _REPEATS, "repeats"), _dearest(analysis, names, _REPEATS, "repeats")),
    )


def _caches(analysis: Analysis, names: Mapping[str, str]) -> Section:
    return Section(
        id="caches",
        title="What the cache did not serve",
        lead="Input that a provider's cache could have served at its lower price. Only the difference of the prices is "
        "claimed.",
        blocks=(
            _cached_shares(analysis),
            _by_cause(analysis, names, _CACHES, "caches"),
            _dearest(analysis, names, _CACHES, "caches"),
        ),
    )


def _cached_shares(analysis: Analysis) -> Table:
    rows = analysis.rows(
        "SELECT CASE WHEN len(models) = 1 THEN models[1] END AS model, count(*), sum(cache_read_tokens), "
        "sum(input_tokens + cache_write_tokens + cache_read_tokens) AS input FROM runs WHERE measured_calls > 0 "
        "GROUP BY model ORDER BY input DESC",
        (),
    )
    return Table(
        id="cached",
        title="Share of input that was read from the cache, by the runs' model",
        columns=tuple(Column(name=name) for name in ("", "Runs", "Input tokens", "Read from the cache", "Share")),
        rows=tuple(_cached(*row) for row in rows[:_MAX_ROWS]),
        hidden=max(0, len(rows) - _MAX_ROWS),
    )


def _cached(model: str | None, runs: int, read: int | None, total: int | None) -> tuple[Cell, ...]:
    share = None if read is None or not total else int(read) / int(total)
    return (
        Cell(text="(several models)" if model is None else visible(model), value=model),
        Cell(text=count(runs), value=runs),
        *(
            Cell(text=UNKNOWN) if each is None else Cell(text=count(int(each)), value=int(each))
            for each in (total, read)
        ),
        Cell(text=UNKNOWN if share is None else percent(share), value=share),
    )


def _by_cause(analysis: Analysis, names: Mapping[str, str], causes: Iterable[str], id_: str) -> Table:
    listed = ", ".join(f"'{cause}'" for cause in causes)
    rows = analysis.rows(
        f"SELECT cause, tier, count(*), sum(tokens), sum(usd), sum(share_usd) FROM causes "
        f"WHERE cause IN ({listed}) GROUP BY cause, tier ORDER BY 6 DESC NULLS LAST, cause, tier",
        (),
    )
    return Table(
        id=f"{id_}-causes",
        title="By cause",
        columns=tuple(Column(name=name) for name in ("Cause", "Tier", "Runs", "Tokens", "Claimed", "Share")),
        rows=tuple(
            (
                _cause(cause, names),
                Cell(text=tier, value=tier),
                *(Cell(text=count(int(number or 0)), value=int(number or 0)) for number in (runs, tokens)),
                amount(claimed),
                Cell(text=usd(share), value=share),
            )
            for cause, tier, runs, tokens, claimed, share in rows
        ),
        empty="Nothing of the kind was found.",
    )


def _dearest(analysis: Analysis, names: Mapping[str, str], causes: Iterable[str], id_: str) -> Table:
    listed = ", ".join(f"'{cause}'" for cause in causes)
    rows = analysis.rows(
        "SELECT cause, tier, trace_id, task_id, spans, evidence, usd FROM causes JOIN runs USING (run_id) "
        f"WHERE cause IN ({listed}) ORDER BY usd DESC, run_id, cause LIMIT {_MAX_ROWS}",
        (),
    )
    return Table(
        id=f"{id_}-dearest",
        title="The dearest findings",
        columns=tuple(Column(name=name) for name in ("Cause", "Tier", "Task", "Span", "Because of", "Cost")),
        rows=tuple(
            (
                _cause(cause, names),
                Cell(text=tier, value=tier),
                Cell(text=visible(task_id), value=task_id, link=Link(view="trace", parameters={"trace_id": trace_id})),
                span_cell(trace_id, spans),
                span_cell(trace_id, evidence),
                amount(cost),
            )
            for cause, tier, trace_id, task_id, spans, evidence, cost in rows
        ),
    )


def _example(look: TraceLook, detectors: Sequence[Detector]) -> Iterable[Section]:
    """The sections of one trace, their ids apart from the page's own."""
    link = Link(view="trace", parameters={"trace_id": look.trace_id})
    opening = Table(
        id="example",
        title="",
        columns=(Column(name=""), Column(name="Trace")),
        rows=((Cell(text="Shown below"), Cell(text=look.trace_id, value=look.trace_id, link=link)),),
    )
    first, *others = trace_sections(look, detectors=detectors)
    yield Section(
        id=f"trace-{first.id}",
        title="One trace: the one with the most flagged waste",
        lead=first.lead,
        blocks=(opening, *first.blocks),
    )
    for section in others:
        yield Section(
            id=f"trace-{section.id}", title=f"In this trace: {section.title}", lead=section.lead, blocks=section.blocks
        )


def _cause(cause: str, names: Mapping[str, str]) -> Cell:
    text = f"{visible(cause)} {visible(names.get(cause, ''))}".rstrip()
    return Cell(text=text, value=cause, link=Link(view="findings", parameters={"cause": cause}))

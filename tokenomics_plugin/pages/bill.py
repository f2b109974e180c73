"""Where the bill went: every cell of it under one label, and waste under its causes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from tokenomics_plugin.analysis import Analysis
from tokenomics_plugin.cells import CellSummary, Label, RunOutcome, Tier
from tokenomics_plugin.pages.words import amount, columns, cost, number, share, text
from tokenomics_plugin.report.document import (
    Bar,
    BarChart,
    Cell,
    Fact,
    Facts,
    Link,
    Note,
    Part,
    Section,
    Shade,
    Table,
)
from tokenomics_plugin.report.task import TaskSummary
from tokenomics_plugin.report.wording import count, counted, percent, usd, visible
from tokenomics_plugin.waste import Detector

__all__ = ["bill_section", "concentration_section"]

_KINDS: Final = (
    (Label.PRODUCTIVE, None, "Productive", Shade.PRODUCTIVE),
    (Label.OVERHEAD, None, "Overhead", Shade.OVERHEAD),
    (Label.UNKNOWN, None, "Unknown", Shade.UNKNOWN),
    (Label.WASTE, Tier.A, "Waste, provable", Shade.WASTE_A),
    (Label.WASTE, Tier.B, "Waste, likely", Shade.WASTE_B),
    (Label.WASTE, Tier.C, "Waste, by policy", Shade.WASTE_C),
)
_CAUSE_HEADER: Final = (
    "Cause",
    "Evidence",
    "Share",
    "In failed runs",
    "Claimed",
    "Claimed by no other",
    "What it is",
)
_FAILED: Final = (RunOutcome.FAIL, RunOutcome.HARMFUL)
_MAX_TASKS: Final = 15
_DEAREST: Final = 0.05
"""Share of the runs whose share of the spend is told."""


def bill_section(analysis: Analysis) -> Section:
    """The waterfall, and waste by cause."""
    ledger = analysis.ledger
    flagged = sum((each.usd for group, each in ledger.groups.items() if group.label is Label.WASTE), Decimal(0))
    total = ledger.total.usd
    flagged_share = f", {percent(float(flagged / total))} of it" if total else ""
    return Section(
        id="bill",
        title="Where the bill went",
        lead=f"{usd(flagged)}{flagged_share} is flagged as waste. What is provable can be shown in the trace; what is "
        "likely needs an audit before it is counted on; what is a matter of policy only an experiment can call "
        "avoidable.",
        blocks=(
            _reconciled(ledger),
            _waterfall(ledger),
            _causes(ledger, analysis.detectors),
            *(Note(text=f"Detector {p.detector} is left out: {p.message}", is_warning=True) for p in analysis.problems),
        ),
    )


def concentration_section(analysis: Analysis) -> Section:
    """How unequally runs cost, and the dearest tasks."""
    runs, dearest, everything = analysis.rows(
        "SELECT count(*), sum(priced_usd) FILTER (place <= ceil(? * total)), sum(priced_usd) FROM "
        "(SELECT priced_usd, row_number() OVER (ORDER BY priced_usd DESC) AS place, count(*) OVER () AS total "
        "FROM runs)",
        (_DEAREST,),
    )[0]
    part = float(dearest / everything) if everything else None
    shown = (
        f"The dearest {percent(_DEAREST)} of {counted(int(runs), 'run')} take {percent(part)} of the spend."
        if part
        else ""
    )
    return Section(
        id="concentration",
        title="Where to look first",
        lead=shown,
        blocks=(
            Facts(
                id="concentration",
                facts=(Fact(title=f"Share of the dearest {percent(_DEAREST)} of runs", figure=share(part)),),
            ),
            _dearest_tasks(analysis),
        ),
    )


def _reconciled(ledger: CellSummary) -> Facts:
    found = ledger.reconciliation
    return Facts(
        id="reconciled",
        facts=(
            Fact(
                title="Bill",
                figure=amount(found.bill_usd),
                meaning="Cost of all model calls with a known price, each priced by itself.",
                basis=f"{count(found.priced_calls)} of {counted(found.calls, 'model call')}.",
            ),
            Fact(
                title="Sum of its cells",
                figure=amount(found.cells_usd),
                meaning="The same money, split by call, block of context and class of tokens.",
                basis="It adds up to the cent and beyond." if found.is_exact else "",
                caveat="" if found.is_exact else f"it differs by {usd(found.gap_usd)}",
            ),
            Fact(
                title="Tokens",
                figure=number(found.cell_tokens),
                basis=f"Reported by {count(found.measured_calls)} of {counted(found.calls, 'model call')}.",
            ),
        ),
    )


def _waterfall(ledger: CellSummary) -> BarChart:
    amounts: defaultdict[tuple[Label, Tier | None, bool], Decimal] = defaultdict(Decimal)
    for group, each in ledger.groups.items():
        amounts[group.label, group.tier, group.outcome in _FAILED] += each.usd
    total = ledger.total.usd
    bars, start = [_bar("Bill", [(total, Shade.ACCENT, "bill", False)], 0.0)], 0.0
    for label, tier, name, shade in _KINDS:
        kept, failed = amounts[label, tier, False], amounts[label, tier, True]
        if kept or failed:
            words = name.lower()
            pieces = [(kept, shade, words, False), (failed, shade, f"{words}, in failed runs", True)]
            bars.append(_bar(name, pieces, start))
            start += float(kept + failed)
    return BarChart(
        id="waterfall",
        title="The bill, and what it was for",
        description="A waterfall from the bill through productive money, overhead and what is unknown to waste by "
        "strength of evidence; the hatched part of each was spent in runs that failed.",
        bars=tuple(bars) if total else (),
        empty="No model call has a known cost.",
    )


def _bar(name: str, pieces: Sequence[tuple[Decimal, Shade, str, bool]], start: float) -> Bar:
    return Bar(
        name=text(name),
        figure=amount(sum((size for size, *_ in pieces), Decimal(0))),
        start=start,
        parts=tuple(
            Part(shade=shade, size=float(size), figure=amount(size), label=label, is_hatched=is_hatched)
            for size, shade, label, is_hatched in pieces
            if size
        ),
    )


def _causes(ledger: CellSummary, detectors: Sequence[Detector]) -> Table:
    known = {detector.id: detector for detector in detectors}
    shares = sorted(ledger.shares().items(), key=lambda item: (-item[1].share, item[0]))
    in_failures = {cause: part.share for outcome in _FAILED for cause, part in ledger.shares(outcome).items()}
    return Table(
        id="causes",
        title="Waste by cause; what several causes claim is shared among them",
        columns=columns(*_CAUSE_HEADER, wordy=("What it is",)),
        rows=tuple(
            (
                text(f"{visible(cause)} {visible(_name(known, cause))}".rstrip(), _findings(cause)),
                text(known[cause].tier.value if cause in known else ""),
                amount(float(part.share)),
                amount(float(in_failures.get(cause, 0))),
                amount(part.standalone),
                amount(part.incremental),
                Cell(text=_meaning(known, cause)),
            )
            for cause, part in shares
        ),
        notes=(
            "Evidence: A provable, B likely, C a matter of policy; the strongest that the cause ever claims.",
            "Shares add up to all that is flagged, without an order of precedence among causes (Shapley value).",
        ),
        empty="Nothing was flagged.",
    )


def _name(known: Mapping[str, Detector], cause: str) -> str:
    return known[cause].name if cause in known else ""


def _meaning(known: Mapping[str, Detector], cause: str) -> str:
    """The first sentence of the detector's documentation."""
    written = (known[cause].__doc__ or "") if cause in known else ""
    sentence = " ".join(written.split()).split(". ")[0].rstrip(".")
    return visible(sentence.removeprefix(f"{cause}: "))


def _findings(cause: str) -> Link:
    return Link(view="findings", parameters={"cause": cause})


def _dearest_tasks(analysis: Analysis) -> Table:
    tasks = analysis.summary.tasks
    shown = tasks[:_MAX_TASKS]
    return Table(
        id="tasks",
        title="Dearest tasks",
        columns=columns("", "Outcome", "Traces", "Spans", "Errors", "Calls", "Cost", "Value"),
        rows=tuple(map(_task, shown)),
        hidden=len(tasks) - len(shown),
        more=Link(view="tasks"),
        empty="There are no tasks yet.",
    )


def _task(task: TaskSummary) -> tuple[Cell, ...]:
    name, spend = visible(task.task_id), task.spend
    worth = None if task.value is None else f"{task.value:,f} {task.currency}"
    return (
        Cell(text=name, value=task.task_id, link=Link(view="runs", parameters={"task": task.task_id})),
        text(task.status.value),
        *map(number, (task.traces, spend.spans, spend.errors, spend.calls)),
        cost(spend.cost_usd, spend.priced_cost_usd),
        Cell(text=worth or "", value=None if task.value is None else str(task.value)),
    )

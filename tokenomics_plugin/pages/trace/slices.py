"""What the answer of a trace rests on: a band between what must and what may have taken part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from tokenomics_plugin.credit import Slice, run_flow
from tokenomics_plugin.pages.trace.look import TraceLook
from tokenomics_plugin.report.document import Cell, Column, Link, Section, Table
from tokenomics_plugin.report.wording import UNKNOWN, count, percent, usd, visible
from tokenomics_plugin.trajectory import Trajectory

__all__ = ["slice_section"]

_MAX_STEPS: Final = 2_000
"""Steps of a trace beyond which its contexts are not compared: that grows with their square."""


def slice_section(look: TraceLook) -> Section:
    """The slice of each task's work in the trace."""
    costs, names = look.cost_by_call(), {span.span_id: span.name for span in look.spans}
    steps = sum(len(trajectory.steps) for trajectory in look.trajectories)
    rows = tuple(_row(trajectory, costs, names) for trajectory in look.trajectories if steps <= _MAX_STEPS)
    return Section(
        id="slice",
        title="What the answer rests on",
        lead="Followed backward from the last answer and each completed write: who asked for it certainly took part, "
        "what stood in a context may have. One trace cannot rank its necessary steps: each has the same value per "
        "dollar.",
        blocks=(
            Table(
                id="slices",
                title="",
                columns=tuple(
                    Column(name=name, is_wordy=name == "Certainly took part")
                    for name in ("Task", "Steps", "Certain", "Possible", "Share of the cost", "Certainly took part")
                ),
                rows=rows,
                empty="The trace is too long for it.",
            ),
        ),
    )


def _row(trajectory: Trajectory, costs: Mapping[str, Decimal | None], names: Mapping[str, str]) -> tuple[Cell, ...]:
    flow = run_flow(trajectory)
    found = flow.slice()
    link = None
    if flow.results:
        link = Link(view="trace", parameters={"trace_id": trajectory.trace_id, "span_id": flow.results[0]})
    return (
        Cell(text=visible(trajectory.task_id or trajectory.trace_id), value=trajectory.task_id, link=link),
        *(Cell(text=count(len(each)), value=len(each)) for each in (flow.steps, found.must, found.may)),
        _share(found, {step: costs.get(step, Decimal(0)) for step in flow.steps}),
        Cell(text=", ".join(_names(found, names)), value=" ".join(sorted(found.must))),
    )


def _share(found: Slice, costs: Mapping[str, Decimal | None]) -> Cell:
    band = found.cost(costs)
    if band.share is None:
        return Cell(text=UNKNOWN)
    low, high = band.share.low or 0.0, band.share.high or 0.0
    return Cell(text=f"{percent(low)} to {percent(high)} of {usd(band.total)}", value=low)


def _names(found: Slice, names: Mapping[str, str]) -> Iterator[str]:
    for step in sorted(found.must):
        yield f"{visible(names.get(step, ''))} ({step})".lstrip()

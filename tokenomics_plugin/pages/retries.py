"""What another attempt is worth, and how often to try."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from tokenomics_plugin.analysis import Analysis
from tokenomics_plugin.marginal import (
    Attempt,
    AttemptChain,
    AttemptLimit,
    ChainEnd,
    RepeatedTask,
    RetryCurve,
    Trial,
    attempt_limit,
    hazard_curve,
    retry_curve,
)
from tokenomics_plugin.pages.words import columns, share
from tokenomics_plugin.report.conduct_words import conduct_sentence, conduct_tables
from tokenomics_plugin.report.document import (
    Axis,
    Block,
    Cell,
    Column,
    Line,
    LineChart,
    Note,
    Point,
    Rule,
    Section,
    Table,
)
from tokenomics_plugin.report.summary import Summary
from tokenomics_plugin.report.task import TaskStatus
from tokenomics_plugin.report.wording import count, counted, percent, usd

__all__ = ["conduct_section", "curve_of", "retries_section"]

_FEWEST_TASKS: Final = 10
_MAX_ATTEMPTS: Final = 5
_ENDS: Final = {
    TaskStatus.SUCCEEDED.value: ChainEnd.SUCCEEDED,
    TaskStatus.FAILED.value: ChainEnd.GIVEN_UP,
    TaskStatus.HARMFUL.value: ChainEnd.GIVEN_UP,
}
_MAX_ROWS: Final = 25


def curve_of(analysis: Analysis) -> RetryCurve | None:
    """What attempts added: of tasks that were run several times from the start, else of tasks with several traces.

    Returns:
        The curve; `None` where fewer than ten tasks say anything of a second attempt.
    """
    repeated = [task for task in _repeated(analysis) if len(task.trials) > 1]
    if len(repeated) >= _FEWEST_TASKS:
        return retry_curve(repeated, attempts=min(_MAX_ATTEMPTS, max(len(task.trials) for task in repeated)))
    chains = _chains(analysis)
    return hazard_curve(chains) if sum(len(chain.costs) > 1 for chain in chains) >= _FEWEST_TASKS else None


def _repeated(analysis: Analysis) -> list[RepeatedTask]:
    """Tasks that are one task done again: their ids are their group's with `#` and a number."""
    trials: defaultdict[str, list[Trial]] = defaultdict(list)
    for task in analysis.summary.tasks:
        name, _, number = task.task_id.rpartition("#")
        if name == task.group and number.isdecimal() and task.status.is_final and task.spend.cost_usd is not None:
            trials[name].append(Trial(is_success=task.is_success, cost=float(task.spend.cost_usd)))
    return [RepeatedTask(task_id=name, trials=tuple(runs)) for name, runs in trials.items()]


def _chains(analysis: Analysis) -> list[AttemptChain]:
    """Traces of a task as attempts at it, one after the other: the task's outcome is the last one's."""
    rows = analysis.rows(
        "SELECT task_id, any_value(runs.task_group), list(CAST(runs.cost_usd AS DOUBLE) ORDER BY start_ns), "
        "any_value(status) FROM runs JOIN tasks USING (task_id) WHERE names_task GROUP BY task_id "
        "HAVING count(*) = count(runs.cost_usd)"
    )
    return [
        AttemptChain(task_id=task_id, cluster=group, costs=tuple(costs), end=_ENDS.get(status, ChainEnd.UNKNOWN))
        for task_id, group, costs, status in rows
    ]


def retries_section(curve: RetryCurve | None, *, value: float | None) -> Section:
    """Marginal cost of a success by attempt, and k*."""
    blocks: list[Block] = [_chart(curve, value)]
    if curve is not None and value is not None:
        limit = attempt_limit(curve, value=value)
        blocks.append(Note(text=_limit_words(limit)))
    if curve is not None:
        blocks.append(Note(text=" ".join(curve.assumptions)))
    return Section(
        id="retries",
        title="Is another attempt worth it?",
        lead="What the next success costs at attempt k, among tasks that failed k - 1 times. Try while that is less "
        "than a success is worth.",
        blocks=tuple(blocks),
    )


def _limit_words(limit: AttemptLimit) -> str:
    return (
        f"With a success worth {usd(limit.value)}: try {counted(limit.cautious, 'time')} by the lower ends of the "
        f"success probabilities, {count(limit.attempts)} by the estimates, {count(limit.hopeful)} by the upper ends. "
        f"tokenomics_langchain.RetryCap(attempts={max(1, limit.cautious)}, mode='shadow')"
    )


def conduct_section(summary: Summary) -> Section:
    """Attempts, repeats, tool errors, plans and endings, as they were recorded."""
    tables = [
        Table(
            id=f"conduct-{place}",
            title=table.title,
            columns=tuple(Column(name=name.capitalize()) for name in table.header),
            rows=tuple(tuple(Cell(text=cell, value=cell) for cell in row) for row in table.rows[:_MAX_ROWS]),
            hidden=max(0, len(table.rows) - _MAX_ROWS),
            notes=table.notes,
        )
        for place, table in enumerate(conduct_tables(summary.conduct), start=1)
    ]
    sentence = conduct_sentence(summary.conduct)
    return Section(
        id="conduct",
        title="Retries, repeats and unusual endings",
        lead="What agents did beyond plain calls. It is part of the sums, not on top of them.",
        blocks=(*tables, *((Note(text=sentence),) if sentence else ())),
    )


def _chart(curve: RetryCurve | None, value: float | None) -> LineChart:
    points = [] if curve is None else [point for attempt in curve.attempts if (point := _point(attempt)) is not None]
    return LineChart(
        id="retry-curve",
        title="Cost of a further success by attempt",
        description="Cost of each further success over the number of the attempt, with 95% intervals.",
        x=Axis(title="Attempt"),
        y=Axis(title="USD per further success", form="usd"),
        lines=(Line(name="marginal cost", points=tuple(points)),) if points else (),
        rules=() if value is None else (Rule(at=value, name="worth of a success"),),
        columns=columns("Attempt", "Reached by", "Succeeds", "A further success costs", "Solved so far", "Rests on"),
        empty=f"Fewer than {_FEWEST_TASKS} tasks were tried again: nothing is known of second attempts.",
    )


def _point(attempt: Attempt) -> Point | None:
    found = attempt.marginal_cost
    if found is None:
        return None
    interval, chance = found.interval, attempt.success_probability
    low, high = ("open" if end is None else usd(end) for end in (interval.low, interval.high))
    odds = f"{percent(chance.point)} ({percent(chance.interval.low or 0)} to {percent(chance.interval.high or 1)})"
    sample = attempt.sample
    return Point(
        x=attempt.number,
        y=found.point,
        low=interval.low,
        high=interval.high,
        name=Cell(text=f"attempt {attempt.number}", value=attempt.number),
        cells=(
            share(attempt.reach),
            Cell(text=odds, value=chance.point),
            Cell(text=f"{usd(found.point)} ({low} to {high})", value=found.point),
            share(attempt.cumulative_success.point),
            Cell(text=f"{count(sample.clusters)} independent", value=sample.clusters),
        ),
    )

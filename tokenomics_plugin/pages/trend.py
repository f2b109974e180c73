"""How figures move over time: looked at every day without fooling oneself, and split into what moved them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from tokenomics_plugin.analysis import Analysis
from tokenomics_plugin.analysis.tables import WASTE_USD
from tokenomics_plugin.pages.words import amount, columns, number, share, text
from tokenomics_plugin.report.document import (
    Axis,
    Cell,
    Line,
    LineChart,
    Link,
    Point,
    Section,
    Table,
)
from tokenomics_plugin.report.wording import instant, usd
from tokenomics_plugin.statistics import PeriodTotals, bridge_of_cost, mean_sequence
from tokenomics_plugin.statistics.confidence_sequence import START

__all__ = ["bridge_section", "trend_section"]

_DAY_NS: Final = 86_400 * 10**9
_MAX_DAYS: Final = 120
_EFFECTS: Final = {
    "volume": "more or fewer tasks",
    "mix": "which models did them",
    "intensity": "tokens per task",
    "rate": "price per token",
}


def trend_section(analysis: Analysis) -> Section:
    """Success rate and cost of a run by day."""
    return Section(
        id="trend",
        title="How it develops",
        lead="The band is a confidence sequence: it holds at all days at once, however often somebody looks.",
        blocks=(_success_chart(analysis), _daily_table(analysis)),
    )


def bridge_section(analysis: Analysis) -> Section | None:
    """From the bill of the earlier half of the time to that of the later half; `None` without two halves."""
    limits = analysis.rows("SELECT min(start_ns), max(start_ns) FROM runs")[0]
    if limits[0] is None or limits[1] - limits[0] < 2 * _DAY_NS:
        return None
    middle = (limits[0] + limits[1]) // 2
    before, after = _totals(analysis, f"start_ns < {middle}"), _totals(analysis, f"start_ns >= {middle}")
    bridge = bridge_of_cost(before, after)
    change = bridge.after - bridge.before
    return Section(
        id="bridge",
        title="Why the bill changed",
        lead=f"Until {instant(middle)} it was {usd(bridge.before)}, from then on {usd(bridge.after)}: "
        f"{'more' if change >= 0 else 'less'} by {usd(abs(change))}. The effects add up to that exactly.",
        blocks=(
            Table(
                id="bridge",
                title="What changed it",
                columns=columns("", "Effect", "Means"),
                rows=tuple(
                    (text(name), amount(effect), text(_EFFECTS[name])) for name, effect in bridge.effects.items()
                ),
                notes=("Logarithmic mean Divisia index, over models.",),
            ),
        ),
    )


def _totals(analysis: Analysis, where: str) -> dict[str, PeriodTotals]:
    rows = analysis.rows(
        "SELECT coalesce(models[1], ''), count(DISTINCT task_id), sum(input_tokens + cache_write_tokens + "
        "cache_read_tokens + output_tokens + reasoning_tokens), sum(CAST(priced_usd AS DOUBLE)) FROM runs "
        f"WHERE cost_usd IS NOT NULL AND priced_usd > 0 AND measured_calls = model_calls AND {where} GROUP BY 1"
    )
    return {
        model: PeriodTotals(tasks=float(tasks), tokens=float(tokens), cost=float(cost))
        for model, tasks, tokens, cost in rows
    }


def _success_chart(analysis: Analysis) -> LineChart:
    rows = analysis.columns(
        "SELECT start_ns, CAST(outcome = 'success' AS DOUBLE) AS success FROM "
        "(SELECT coalesce(task_group, task_id) AS cluster, min(start_ns) AS start_ns, any_value(outcome) AS outcome "
        "FROM runs WHERE outcome NOT IN ('pending', 'unlabelled') GROUP BY task_id, cluster) ORDER BY start_ns"
    )
    starts, wins = np.asarray(rows["start_ns"], dtype=np.int64), np.asarray(rows["success"], dtype=np.float64)
    points: list[Point] = []
    if len(wins) >= START:
        sequence = mean_sequence(wins)
        days = starts[START - 1 :] // _DAY_NS
        last_of_day = np.flatnonzero(np.diff(days, append=days[-1] + 1))[-_MAX_DAYS:]
        points = [
            Point(
                x=float(starts[START - 1 + place]),
                y=float(sequence.means[place]),
                low=float(max(0.0, sequence.lows[place])),
                high=float(min(1.0, sequence.highs[place])),
                name=Cell(text=_day(int(days[place])), value=_day(int(days[place]))),
                cells=(
                    share(float(sequence.means[place])),
                    share(float(max(0.0, sequence.lows[place]))),
                    share(float(min(1.0, sequence.highs[place]))),
                    number(int(sequence.sizes[place])),
                ),
            )
            for place in last_of_day
        ]
    return LineChart(
        id="success-trend",
        title="Success rate since the beginning",
        description="Running success rate of judged tasks with its confidence sequence, day by day.",
        x=Axis(title="Day", form="date"),
        y=Axis(title="Success rate so far", form="percent"),
        lines=(Line(name="success rate", points=tuple(points)),) if points else (),
        columns=columns("", "Success rate so far", "At least", "At most", "Judged tasks"),
        empty=f"Fewer than {START} tasks are judged.",
    )


def _daily_table(analysis: Analysis) -> Table:
    rows = analysis.rows(
        f"SELECT start_ns // {_DAY_NS} AS day, count(*), count(*) FILTER (outcome = 'success'), "
        "count(*) FILTER (outcome NOT IN ('pending', 'unlabelled')), sum(priced_usd), "
        f"sum({WASTE_USD}) FROM runs WHERE start_ns IS NOT NULL GROUP BY day ORDER BY day DESC"
    )
    return Table(
        id="days",
        title="By day",
        columns=columns("Day", "Runs", "Judged", "Succeeded", "Cost", "Flagged as waste"),
        rows=tuple(
            (
                Cell(
                    text=_day(day),
                    value=_day(day),
                    link=Link(view="runs", parameters={"since": _day(day), "until": _day(day + 1)}),
                ),
                number(runs),
                number(judged),
                number(wins),
                amount(spend),
                amount(waste),
            )
            for day, runs, wins, judged, spend, waste in rows[:30]
        ),
        hidden=max(0, len(rows) - 30),
    )


def _day(number_: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=int(number_))).strftime("%Y-%m-%d")

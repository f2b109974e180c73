"""What stopping runs earlier would have saved, against the successes that it would have cost."""

from __future__ import annotations

from tokenomics_plugin.pages.savings import Savings
from tokenomics_plugin.pages.words import columns, estimated_usd, number, share, text
from tokenomics_plugin.report.document import Axis, Cell, Line, LineChart, Point, Section
from tokenomics_plugin.report.wording import usd
from tokenomics_plugin.simulation import FrontierPoint

__all__ = ["truncation_section"]


def truncation_section(savings: Savings | None) -> Section:
    """The frontier of caps and budgets."""
    points = () if savings is None else tuple(_point(each) for each in savings.frontier)
    return Section(
        id="truncation",
        title="How early can a run be stopped?",
        lead="Call caps and budgets, applied to the logged runs exactly. Only those that no other beats in both are "
        "shown; outcomes that nobody knows count as lost.",
        blocks=(
            LineChart(
                id="truncation",
                title="Saved, against successes lost",
                description="Share of the spend saved over successes lost, for call caps and budgets.",
                x=Axis(title="Successes lost at most"),
                y=Axis(title="Share of the spend saved", form="percent"),
                lines=(Line(name="rules", points=points, is_step=True),) if points else (),
                columns=columns("Rule", "Saves", "Of the spend", "Loses at most", "Each further one lost saves"),
                empty="Too few runs of known cost to judge a rule by.",
            ),
        ),
    )


def _point(found: FrontierPoint) -> Point:
    result, slope = found.result, found.saved_per_further_loss
    interval = result.saved_share.interval
    return Point(
        x=found.most_lost,
        y=result.saved_share.point,
        low=interval.low,
        high=interval.high,
        name=text(result.rule.description),
        cells=(
            estimated_usd(result.saved),
            share(result.saved_share.point),
            number(found.most_lost),
            Cell(text="" if slope is None else usd(slope), value=slope),
        ),
    )

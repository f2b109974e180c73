"""What experiments inside the agents have shown: decisions that chance took, and what came of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from tokenomics_plugin.analysis import Analysis
from tokenomics_plugin.pages.words import columns, number, share, text
from tokenomics_plugin.policies import LoggedDecision, randomised_decisions
from tokenomics_plugin.report.document import Axis, Cell, Interval, IntervalChart, Section, Table
from tokenomics_plugin.report.wording import counted
from tokenomics_plugin.statistics import Mean

__all__ = ["experiments_section"]

_FEWEST: Final = 30
"""Judged decisions below which counts are shown and no effect."""
_FEWEST_EACH: Final = 5
"""Decisions either way below which the same holds."""


def experiments_section(analysis: Analysis) -> Section:
    """One row for each kind of decision that was left to chance."""
    by_kind: defaultdict[str, list[LoggedDecision]] = defaultdict(list)
    for decision in analysis.decisions:
        by_kind[decision.kind or decision.rule].append(decision)
    outcomes = {task.task_id: float(task.is_success) for task in analysis.summary.tasks if task.status.is_final}
    rows = [_Row(kind, decisions, outcomes) for kind, decisions in sorted(by_kind.items())]
    return Section(
        id="experiments",
        title="What experiments have shown",
        lead="Decisions that were left to chance with known odds: their effect is identified, whatever the agent knew "
        "that the log does not. Everything else on this page about agents and tools is association.",
        blocks=(
            IntervalChart(
                id="effects",
                title="Effect of going on, on the success rate",
                description="Difference of success rates between going on and not, with 95% intervals.",
                axis=Axis(title="Success rate with it minus without it", form="percent"),
                rows=tuple(row.interval() for row in rows),
                empty="No decision was left to chance; tokenomics_langchain.Explore does that, with bounded regret.",
            ),
            Table(
                id="experiments",
                title="Decisions",
                columns=columns("", "Drawn", "Judged", "Went on"),
                rows=tuple(row.cells() for row in rows),
            ),
        ),
    )


class _Row:
    """One kind of decision."""

    def __init__(self, kind: str, decisions: Sequence[LoggedDecision], outcomes: dict[str, float]) -> None:
        self._kind = kind
        self._drawn = len(decisions)
        self._judged = [decision for decision in decisions if (decision.task_id or "") in outcomes]
        self._went_on = sum(decision.action == "go_on" for decision in self._judged)
        self._effect = self._estimate([outcomes[decision.task_id or ""] for decision in self._judged])

    def cells(self) -> tuple[Cell, ...]:
        went_on = self._went_on / len(self._judged) if self._judged else None
        return text(self._kind), number(self._drawn), number(len(self._judged)), share(went_on)

    def interval(self) -> Interval:
        if self._effect is None:
            few = f"too few to say: {counted(len(self._judged), 'judged decision')}, {self._went_on} of them went on"
            return Interval(name=text(self._kind), estimate=None, low=None, high=None, figure=Cell(text=few))
        limits = self._effect.interval
        words = f"{self._effect.estimate:+.1%}, {limits.low or 0:+.1%} to {limits.high or 0:+.1%}"
        return Interval(
            name=text(self._kind),
            estimate=self._effect.estimate,
            low=limits.low,
            high=limits.high,
            figure=Cell(text=words, value=self._effect.estimate),
        )

    def _estimate(self, outcomes: list[float]) -> Mean | None:
        least = min(self._went_on, len(self._judged) - self._went_on)
        if len(self._judged) < _FEWEST or least < _FEWEST_EACH:
            return None
        return randomised_decisions(self._judged).effect(outcomes)

"""The figures in words: what each is called, what it says, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tokenomics_plugin.report.figure import Figure
from tokenomics_plugin.report.summary import Summary
from tokenomics_plugin.report.wording import count, counted, percent, usd
from tokenomics_plugin.statistics import ConfidenceSet, Range, SetShape

__all__ = ["COST_PER_SUCCESS", "SUCCESS_RATE", "FigureKind", "FigureWords", "headline", "notes"]


@dataclass(frozen=True, kw_only=True)
class FigureWords:
    """One figure in words."""

    title: str
    """What it is called."""
    meaning: str
    """What it says, in one plain sentence."""
    value: str
    """The estimate; empty when withheld."""
    interval: str
    """What the data allow, with 95 % confidence; empty when withheld."""
    bounds: str
    """What it becomes with the missing outcomes, however they turn out; empty when none is missing."""
    basis: str
    """The counts behind it, which are never withheld."""
    note: str
    """Why it is withheld or of low confidence; empty when neither."""


@dataclass(frozen=True, kw_only=True)
class FigureKind:
    """How figures of one kind are put into words."""

    title: str
    """What it is called."""
    meaning: str
    """What it says, in one plain sentence."""
    form: Callable[[float], str]
    """Writes a number of its kind."""
    counts: Callable[[Figure], str]
    """Writes both of its sums."""

    def words(self, figure: Figure) -> FigureWords:
        """A figure of this kind, in words."""
        return FigureWords(
            title=self.title,
            meaning=self.meaning,
            value="" if figure.estimate is None else self.form(figure.estimate),
            interval="" if figure.confidence is None else _confidence(figure.confidence, self.form),
            bounds="" if figure.bounds is None or not figure.missing else _range(figure.bounds, self.form),
            basis=(self.counts(figure) if figure.tasks else "no task with both sides known") + _cohort(figure),
            note=figure.withheld or figure.caveat or "",
        )

    def short(self, figure: Figure) -> str:
        """A figure in a table's cell; a dash when it is withheld."""
        return "-" if figure.estimate is None else self.form(figure.estimate)


NET_VALUE_PER_TASK: Final = FigureKind(
    title="Net value per task",
    meaning="What a task brought in, less what its model calls cost and the harm it did.",
    form=usd,
    counts=lambda figure: f"{usd(figure.numerator)} over {counted(figure.tasks, 'task')}",
)
COST_PER_SUCCESS: Final = FigureKind(
    title="Cost per success",
    meaning="All spending, failures included, for each task that succeeded.",
    form=usd,
    counts=lambda figure: f"{usd(figure.numerator)} for {count(int(figure.denominator))} successes",
)
SUCCESS_RATE: Final = FigureKind(
    title="Success rate",
    meaning="Of the tasks that were judged, the share that succeeded.",
    form=percent,
    counts=lambda figure: f"{count(int(figure.numerator))} of {counted(figure.tasks, 'task')}",
)
VALUE_PER_DOLLAR: Final = FigureKind(
    title="Value per dollar",
    meaning="What tasks brought in for each dollar of model calls. It also falls when more is rightly spent on hard "
    "tasks: steer by net value.",
    form=usd,
    counts=lambda figure: f"{usd(figure.numerator)} for {usd(figure.denominator)}",
)
VALUE_PER_MILLION_STANDARD_TOKENS: Final = FigureKind(
    title="Value per million standard tokens",
    meaning="Value per dollar at frozen prices, so that it compares across models and price changes.",
    form=usd,
    counts=lambda figure: f"{usd(figure.numerator)} for {figure.denominator:,.3f} million standard tokens",
)

TOKENS_PER_SUCCESS: Final = FigureKind(
    title="Tokens per success",
    meaning="All tokens, of failures too, for each task that succeeded.",
    form=lambda tokens: f"{tokens:,.0f}",
    counts=lambda figure: f"{count(int(figure.numerator))} for {count(int(figure.denominator))} successes",
)


def headline(summary: Summary) -> tuple[FigureWords, ...]:
    """The summary's figures in words, in the order of their weight."""
    return (
        NET_VALUE_PER_TASK.words(summary.net_value_per_task),
        COST_PER_SUCCESS.words(summary.cost_per_success),
        SUCCESS_RATE.words(summary.success_rate),
        VALUE_PER_DOLLAR.words(summary.value_per_dollar),
        VALUE_PER_MILLION_STANDARD_TOKENS.words(summary.value_per_million_standard_tokens),
    )


def notes(words: Iterable[FigureWords]) -> list[str]:
    """Why figures are withheld or weak, one sentence for all that share a reason."""
    titles: dict[str, list[str]] = {}
    for word in words:
        if word.note:
            titles.setdefault(word.note, []).append(word.title)
    return [f"{', '.join(about)}: {note}." for note, about in titles.items()]


def _confidence(found: ConfidenceSet, form: Callable[[float], str]) -> str:
    if found.low is not None and found.high is not None:
        if found.shape is SetShape.INTERVAL:
            return f"{form(found.low)} to {form(found.high)}"
        if found.high > 0:
            return f"up to {form(found.high)}, or {form(found.low)} and more"
    # A cost or a value per dollar is not negative: what such a set allows below 0 is no news.
    if found.low is not None:
        return f"{form(found.low)} or more, no limit"
    return "anything" if found.high is None else f"{form(found.high)} or less"


def _range(limits: Range, form: Callable[[float], str]) -> str:
    low = "anything" if limits.low is None else form(limits.low)
    return f"{low} or more" if limits.high is None else f"{low} to {form(limits.high)}"


def _cohort(figure: Figure) -> str:
    grouped = "" if figure.clusters == figure.tasks else f" in {count(figure.clusters)} groups"
    return grouped + (f"; {counted(figure.left_out, 'task')} left out, a side is unknown" if figure.left_out else "")

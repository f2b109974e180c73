"""All pages of one analysis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from tokenomics_plugin.analysis import Analysis
from tokenomics_plugin.pages.actions import actions_section, failed_section
from tokenomics_plugin.pages.bill import bill_section, concentration_section
from tokenomics_plugin.pages.developer import dearest_trace, developer_page
from tokenomics_plugin.pages.experiments import experiments_section
from tokenomics_plugin.pages.headline import coverage_section, headline_section
from tokenomics_plugin.pages.parties import frontier_section, parties_section, tokens_section
from tokenomics_plugin.pages.retries import conduct_section, curve_of, retries_section
from tokenomics_plugin.pages.savings import Savings, savings_of
from tokenomics_plugin.pages.trace import TraceLook
from tokenomics_plugin.pages.trend import bridge_section, trend_section
from tokenomics_plugin.pages.truncation import truncation_section
from tokenomics_plugin.report.document import Page, Section
from tokenomics_plugin.report.sentences import opening_line, period_line, sources_line

__all__ = ["NO_OPTIONS", "PageOptions", "make_pages"]

_INTERVALS = (
    "Intervals treat tasks of one group as one draw: Wilson's for success rates, Fieller's set for ratios of sums, "
    "Student's for the net value, bootstrap for savings."
)


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """What only the reader knows."""

    value: Decimal | None = None
    """Worth of a success that does not say its own, USD; break-even figures do without."""
    human_cost: Decimal | None = None
    """What a person costs for a task, USD."""


NO_OPTIONS = PageOptions()
"""The reader says nothing."""


def make_pages(
    analysis: Analysis,
    options: PageOptions = NO_OPTIONS,
    *,
    look_at: Callable[[str], TraceLook | None] = lambda trace_id: None,
) -> tuple[Page, Page, Page]:
    """The three pages.

    Args:
        analysis: What was worked out about the store.
        options: What the reader knows.
        look_at: Gives the look at a trace, which the developer's page shows as an example.
    """
    value = None if options.value is None else float(options.value)
    savings, example = savings_of(analysis, value=value), dearest_trace(analysis)
    return (
        _finance(analysis, savings, options),
        _engineering(analysis, savings, value),
        developer_page(analysis, look=None if example is None else look_at(example)),
    )


def _finance(analysis: Analysis, savings: Savings | None, options: PageOptions) -> Page:
    summary = analysis.summary
    sections = (
        headline_section(summary, human_cost=options.human_cost),
        bill_section(analysis),
        actions_section(savings, analysis.ledger),
        failed_section(savings),
        bridge_section(analysis),
        concentration_section(analysis),
        coverage_section(summary),
    )
    return _page("finance", "Finance", analysis, sections)


def _engineering(analysis: Analysis, savings: Savings | None, value: float | None) -> Page:
    summary = analysis.summary
    sections = (
        frontier_section(analysis),
        parties_section(summary),
        retries_section(curve_of(analysis), value=value),
        truncation_section(savings),
        experiments_section(analysis),
        trend_section(analysis),
        tokens_section(summary),
        conduct_section(summary),
    )
    return _page("engineering", "Engineering", analysis, sections)


def _page(id_: str, title: str, analysis: Analysis, sections: tuple[Section | None, ...]) -> Page:
    summary = analysis.summary
    return Page(
        id=id_,
        title=title,
        lead=f"{period_line(summary)}: {opening_line(summary)}.",
        sections=tuple(section for section in sections if section is not None),
        sources=f"{sources_line(summary)} {_INTERVALS}",
    )

"""A report: figures and pages of one store, which view a format is, and where its output goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from tokenomics_plugin.analysis import analyse
from tokenomics_plugin.errors import TokenomicsError
from tokenomics_plugin.pages.making import NO_OPTIONS, PageOptions, make_pages
from tokenomics_plugin.pages.trace import TraceLook
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report.document import Page
from tokenomics_plugin.report.document_text import page_text
from tokenomics_plugin.report.json_view import render_json
from tokenomics_plugin.report.summary import Summary
from tokenomics_plugin.store import TraceStore
from tokenomics_plugin.trajectory import UNDECLARED, SideEffects
from tokenomics_plugin.whole_file import written_whole

__all__ = ["FORMATS", "Report", "ReportError", "Reporter", "make_report", "render", "write_report"]

_STDOUT: Final = "-"


class ReportError(TokenomicsError, ValueError):
    """A report that cannot be made as asked."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that is said of a store."""

    summary: Summary
    """Figures over tasks, agents, models and tools, for programs."""
    pages: tuple[Page, ...]
    """What each reader wants to know."""

    @property
    def page_ids(self) -> tuple[str, ...]:
        """The pages' names."""
        return tuple(page.id for page in self.pages)

    def only(self, page_id: str) -> Report:
        """The report with one page.

        Raises:
            ReportError: If there is no such page.
        """
        if page_id not in self.page_ids:
            raise ReportError(f"page must be one of {', '.join(self.page_ids)}, got {page_id!r}")
        return replace(self, pages=tuple(page for page in self.pages if page.id == page_id))


def make_report(
    db: str | os.PathLike[str],
    prices: PriceBook,
    *,
    options: PageOptions = NO_OPTIONS,
    side_effects: SideEffects = UNDECLARED,
    processes: int = 2,
) -> Report:
    """Everything that can be said of a store.

    Args:
        db: Its file.
        prices: What calls cost.
        options: What only the reader knows.
        side_effects: What the agents' tools do; undeclared ones may write.
        processes: How many to use for a large store.

    Raises:
        StoreError: If it is missing, stays locked, or is not a store.
    """
    analysis = analyse(os.fspath(db), prices, side_effects=side_effects, processes=processes)
    try:

        def look_at(trace_id: str) -> TraceLook | None:
            with TraceStore(db, read_only=True) as store:
                return TraceLook.read(store, trace_id, prices, analysis.detectors, side_effects=side_effects)

        return Report(summary=analysis.summary, pages=make_pages(analysis, options, look_at=look_at))
    finally:
        analysis.close()


class Reporter(Protocol):
    """A view: turns a report into text, and computes nothing."""

    def __call__(self, report: Report, /) -> str:
        """The whole output."""
        ...


def _text(report: Report) -> str:
    return "\n\n".join(map(page_text, report.pages))


def _json(report: Report) -> str:
    return render_json(report.summary, report.pages)


def _html(report: Report) -> str:
    from tokenomics_plugin.report.document_html import pages_html  # needs plotly, which the others do not

    return pages_html(report.pages)


FORMATS: Final[Mapping[str, Reporter]] = {"text": _text, "json": _json, "html": _html}
"""Format -> its view."""


def render(report: Report, form: str) -> str:
    """The report in a format.

    Raises:
        ReportError: If there is no such format.
    """
    try:
        reporter = FORMATS[form]
    except KeyError:
        raise ReportError(f"format must be one of {', '.join(FORMATS)}, got {form!r}") from None
    return reporter(report)


def write_report(report: Report, form: str, path: str | os.PathLike[str] | None = None) -> None:
    """Write the report to a file, whose folder is made, or to stdout (`None` or `-`).

    The file appears whole or not at all: an earlier report stays until then.

    Raises:
        ReportError: If there is no such format, or the file cannot be written.
    """
    output = render(report, form)
    if path is None or os.fspath(path) == _STDOUT:
        _print(output)
    else:
        _replace(Path(path), output)


def _print(output: str) -> None:
    # A terminal that lacks a character shows another in its place; that is no reason to fail.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(output.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _replace(path: Path, output: str) -> None:
    try:
        with written_whole(path) as half_written:
            half_written.write_text(output, encoding="utf-8")
    except OSError as error:
        raise ReportError(f"cannot write the report to {path}: {error.strerror or error}") from error

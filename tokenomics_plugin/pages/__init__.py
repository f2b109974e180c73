"""The report's three pages: for finance, for whoever leads the engineering, for the developer of an agent."""

from tokenomics_plugin.pages.comparison import make_comparison
from tokenomics_plugin.pages.making import PageOptions, make_pages
from tokenomics_plugin.pages.reporter import (
    FORMATS,
    Report,
    Reporter,
    ReportError,
    make_report,
    render,
    write_report,
)

__all__ = [
    "FORMATS",
    "PageOptions",
    "Report",
    "ReportError",
    "Reporter",
    "make_comparison",
    "make_pages",
    "make_report",
    "render",
    "write_report",
]

"""Where views are, as paths of the collector's HTTP server."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

from tokenomics_plugin.report.document import Link

__all__ = ["LISTS", "PAGES", "address"]

PAGES: Final = ("finance", "engineering", "developer")
"""The pages for readers, in the order of the navigation."""
LISTS: Final = ("runs", "tasks", "findings")
"""The lists that figures lead to."""


def address(link: Link) -> str | None:
    """The path of a view with its filters; `None` for a view that is not served."""
    if link.view == "trace":
        return _trace(link)
    if link.view not in (*PAGES, *LISTS):
        return None
    filters = urlencode(dict(link.parameters))
    return f"/{link.view}?{filters}" if filters else f"/{link.view}"


def _trace(link: Link) -> str:
    span_id = link.parameters.get("span_id")
    path = f"/trace/{quote(link.parameters['trace_id'], safe='')}"
    return path if span_id is None else f"{path}?span={quote(span_id, safe='')}"

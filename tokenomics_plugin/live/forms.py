"""The search form above a list, and the way to its other pages."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from tokenomics_plugin.live.listing import Filter, Listing, Window

__all__ = ["form_html", "pager_html"]


def form_html(listing: Listing, parameters: Mapping[str, str], choices: Mapping[str, Sequence[str]]) -> str:
    """The form, filled with what was asked for."""
    fields = "".join(_field(each, parameters.get(each.name, ""), choices.get(each.name)) for each in listing.filters)
    sort = _labelled("Sort by", "sort", _select("sort", list(listing.sorts), parameters.get("sort", ""), first=None))
    return (
        f'<form class="filters" method="get" action="/{listing.id}" role="search" aria-label="{listing.title}">'
        f'{fields}{sort}<div class="actions"><button type="submit">Show</button> '
        f'<a href="/{listing.id}">Clear</a></div></form>'
    )


def pager_html(listing: Listing, parameters: Mapping[str, str], window: Window) -> str:
    """Links to the page before and the page after; empty when there is only one."""
    links = []
    if window.page > 1:
        links.append(_page_link(listing, parameters, window.page - 1, "prev", "Previous"))
    if window.has_next:
        links.append(_page_link(listing, parameters, window.page + 1, "next", "Next"))
    return f'<nav class="pager" aria-label="Pages of the list">{" ".join(links)}</nav>' if links else ""


def _field(each: Filter, value: str, choices: Sequence[str] | None) -> str:
    if choices is None:
        field = (
            f'<input id="filter-{each.name}" name="{each.name}" type="{each.input_type}" '
            f'value="{html.escape(value, quote=True)}">'
        )
    else:
        field = _select(each.name, choices, value, first="all")
    return _labelled(each.label, each.name, field)


def _labelled(label: str, name: str, field: str) -> str:
    return f'<div><label for="filter-{name}">{label}</label>{field}</div>'


def _select(name: str, choices: Sequence[str], value: str, *, first: str | None) -> str:
    # What was asked for stays chosen, also when it is not, or no longer, among the choices.
    offered = [*choices, value] if value and value not in choices else list(choices)
    options = "" if first is None else f'<option value="">{first}</option>'
    for choice in offered:
        chosen, text = " selected" if choice == value else "", html.escape(choice, quote=True)
        options += f'<option value="{text}"{chosen}>{text}</option>'
    return f'<select id="filter-{name}" name="{name}">{options}</select>'


def _page_link(listing: Listing, parameters: Mapping[str, str], page: int, rel: str, text: str) -> str:
    asked = {name: value for name, value in parameters.items() if value and name != "page"} | {"page": str(page)}
    return f'<a rel="{rel}" href="/{listing.id}?{html.escape(urlencode(asked), quote=True)}">{text}</a>'

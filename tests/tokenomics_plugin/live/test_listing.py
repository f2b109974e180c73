"""Lists: what filters leave, how they are sorted, what a page of them shows."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest

from hostile_names import HOSTILE_NAMES
from tokenomics_plugin.analysis import Analysis
from tokenomics_plugin.live.addresses import address
from tokenomics_plugin.live.forms import form_html, pager_html
from tokenomics_plugin.live.listing import PAGE_ROWS, ListingError, Window, day_start_ns
from tokenomics_plugin.live.listings import LISTINGS
from tokenomics_plugin.report.document import Cell, Link, Table
from tokenomics_plugin.report.document_html import page_body


def rows_of(analysis: Analysis, listing: str, **parameters: str) -> tuple[tuple[Cell, ...], ...]:
    page, _ = LISTINGS[listing].page(analysis.rows, parameters)
    table = page.sections[0].blocks[0]
    assert isinstance(table, Table)
    return table.rows


def names_of(analysis: Analysis, listing: str, **parameters: str) -> set[Any]:
    return {row[0].value for row in rows_of(analysis, listing, **parameters)}


def test_without_filters_everything_is_listed_page_by_page(busy: Analysis) -> None:
    first, second = rows_of(busy, "runs"), rows_of(busy, "runs", page="2")
    assert len(first) == PAGE_ROWS
    assert len(first) + len(second) == 60
    assert {row[0].value for row in first}.isdisjoint(row[0].value for row in second)
    assert rows_of(busy, "runs", page="9") == ()


@pytest.mark.parametrize(
    ("parameters", "query"),
    [
        pytest.param({"outcome": "fail"}, "outcome = 'fail'", id="outcome"),
        pytest.param({"agent": "critic"}, "list_contains(agents, 'critic')", id="agent"),
        pytest.param({"tool": "delegate"}, "list_contains(tools, 'delegate')", id="tool"),
        pytest.param({"model": "acme-small"}, "list_contains(models, 'acme-small')", id="model"),
        pytest.param({"group": "group-3"}, "task_group = 'group-3'", id="group"),
        pytest.param({"q": "TASK-1"}, "task_id LIKE 'task-1%'", id="search"),
        pytest.param(
            {"agent": "critic", "outcome": "success"},
            "list_contains(agents, 'critic') AND outcome = 'success'",
            id="two",
        ),
        pytest.param({"since": "2026-02-25", "until": "2026-02-26"}, "TRUE", id="that-day"),
        pytest.param({"since": "2026-02-26"}, "FALSE", id="after-it"),
        pytest.param({"q": ""}, "TRUE", id="empty"),
    ],
)
def test_a_filter_leaves_what_it_says(busy: Analysis, parameters: dict[str, str], query: str) -> None:
    expected = {task_id for (task_id,) in busy.rows(f"SELECT task_id FROM runs WHERE {query}")}
    shown = names_of(busy, "runs", **parameters) | names_of(busy, "runs", **parameters, page="2")
    assert shown == expected


@pytest.mark.parametrize("text", ["%", "_", "\\", "'", "100%_\\"])
def test_what_is_searched_for_is_taken_literally(busy: Analysis, text: str) -> None:
    assert rows_of(busy, "runs", q=text) == ()


@pytest.mark.parametrize(("listing", "sort"), [(name, sort) for name in LISTINGS for sort in LISTINGS[name].sorts])
def test_sorting_moves_rows_and_loses_none(busy: Analysis, listing: str, sort: str) -> None:
    def everything(**parameters: str) -> list[str]:
        pages = (rows_of(busy, listing, **parameters, page=page) for page in ("1", "2"))
        return sorted(str([cell.value for cell in row]) for rows in pages for row in rows)

    assert everything(sort=sort) == everything()


def test_the_dearest_come_first(busy: Analysis) -> None:
    costs = [Decimal(row[2].text.removeprefix("≥ ").removeprefix("$")) for row in rows_of(busy, "runs", sort="dearest")]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"colour": "red"}, "runs has no filter 'colour'; it has q, outcome,"),
        ({"sort": "beauty"}, "sort must be one of newest, dearest,"),
        ({"page": "0"}, "page must be a whole number from 1, got '0'"),
        ({"page": "1; DROP TABLE runs"}, "page must be a whole number from 1"),
        ({"since": "yesterday"}, "since: a day is written as 2026-01-31, got 'yesterday'"),
    ],
)
def test_what_a_list_does_not_know_is_refused_with_the_way_out(
    busy: Analysis, parameters: dict[str, str], message: str
) -> None:
    with pytest.raises(ListingError, match=re.escape(message)):
        LISTINGS["runs"].page(busy.rows, parameters)


def test_a_day_begins_at_midnight_utc() -> None:
    assert day_start_ns("1970-01-02") == 86_400 * 10**9


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("listing", LISTINGS)
def test_hostile_names_and_filters_are_shown_as_text(hostile: Analysis, listing: str, name: str) -> None:
    chosen = LISTINGS[listing]
    sent = name.encode("utf-8", "replace").decode()
    parameters = {"q": sent}
    page, window = chosen.page(hostile.rows, parameters)
    shown = form_html(chosen, parameters, chosen.choices(hostile.rows)) + page_body(page, address)
    shown += pager_html(chosen, parameters, Window(first=1, last=1, total=99, page=2))
    body = shown.partition('<script type="application/json"')[0]
    assert "<script" not in body
    assert "<img" not in body
    assert window.total >= 0


def test_the_form_keeps_what_was_asked_and_names_its_fields(busy: Analysis) -> None:
    listing = LISTINGS["runs"]
    form = form_html(listing, {"agent": "critic", "q": "x"}, listing.choices(busy.rows))
    assert '<option value="critic" selected>' in form
    assert 'name="q" type="search" value="x"' in form
    labels, fields = re.findall(r'<label for="([^"]+)"', form), re.findall(r'<(?:input|select) id="([^"]+)"', form)
    assert labels == fields, "each field has its label"


def test_the_pager_keeps_the_filters() -> None:
    pager = pager_html(LISTINGS["runs"], {"agent": "a&b", "page": "2"}, Window(first=51, last=100, total=150, page=2))
    assert 'rel="prev" href="/runs?agent=a%26b&amp;page=1"' in pager
    assert 'rel="next" href="/runs?agent=a%26b&amp;page=3"' in pager


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (Link(view="runs", parameters={"agent": "a b/c?"}), "/runs?agent=a+b%2Fc%3F"),
        (Link(view="trace", parameters={"trace_id": "ab", "span_id": "cd"}), "/trace/ab?span=cd"),
        (Link(view="trace", parameters={"trace_id": "../x"}), "/trace/..%2Fx"),
        (Link(view="finance"), "/finance"),
        (Link(view="elsewhere"), None),
    ],
)
def test_links_become_paths_of_this_server_only(link: Link, expected: str | None) -> None:
    assert address(link) == expected

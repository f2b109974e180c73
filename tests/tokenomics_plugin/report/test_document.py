"""Pages as data, and their three renderings."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostile_names import HOSTILE_NAMES
from tokenomics_plugin.report.document import (
    Axis,
    Bar,
    BarChart,
    Block,
    Cell,
    Column,
    Fact,
    Facts,
    Icicle,
    Interval,
    IntervalChart,
    Line,
    LineChart,
    Link,
    Node,
    Note,
    Page,
    Part,
    Point,
    Section,
    Shade,
    Table,
)
from tokenomics_plugin.report.document_html import nowhere, page_body, pages_html
from tokenomics_plugin.report.document_json import page_json
from tokenomics_plugin.report.document_text import page_text
from tokenomics_plugin.report.wording import visible

NAMES = st.text(alphabet=st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
"""Short names, which no table of a terminal cuts."""
HARMLESS_TAGS = {
    *("a", "bdi", "div", "p", "header", "footer", "section", "h1", "h2", "h3", "small", "details", "summary"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
}
CELLS = st.builds(lambda name, number: Cell(text=name, value=number), NAMES, st.integers(0, 10**6))


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Block, ...]:
    """One block of each kind, about drawn names."""
    one, two, three = draw(CELLS), draw(CELLS), draw(CELLS)
    columns = (Column(name=""), Column(name="Cost"), Column(name="More"))
    return (
        Note(text=draw(NAMES)),
        Facts(id="facts", facts=(Fact(title=draw(NAMES), figure=one, interval="1 to 2", basis=draw(NAMES)),)),
        Table(id="table", title="Table", columns=columns, rows=((one, two, three),)),
        BarChart(
            id="bars",
            title="Bars",
            description="d",
            bars=(
                Bar(
                    name=one,
                    figure=two,
                    parts=(
                        Part(shade=Shade.INPUT, size=1.0, figure=three, label="a"),
                        Part(shade=Shade.OUTPUT, size=2.0, figure=two, label="b"),
                    ),
                ),
            ),
        ),
        IntervalChart(
            id="intervals",
            title="Intervals",
            description="d",
            axis=Axis(title="USD", form="usd"),
            rows=(Interval(name=one, estimate=1.0, low=0.5, high=None, figure=two),),
        ),
        LineChart(
            id="lines",
            title="Lines",
            description="d",
            x=Axis(title="x"),
            y=Axis(title="y"),
            lines=(Line(name="l", points=(Point(x=1.0, y=2.0, name=one, cells=(two, three)),)),),
            columns=columns,
        ),
        Icicle(
            id="icicle",
            title="Icicle",
            description="d",
            columns=columns,
            nodes=(
                Node(id="a", parent=None, name=one, size=2.0, figure=two, shade=Shade.OVERHEAD, cells=(three,)),
                Node(id="b", parent="a", name=two, size=1.0, figure=three, shade=Shade.UNKNOWN, cells=(one,)),
            ),
        ),
    )


def page(*of: Block, page_id: str = "finance") -> Page:
    section = Section(id="one", title="Section", lead="Lead.", blocks=of)
    return Page(id=page_id, title="Page", lead="About.", sections=(section,), sources="Sources.")


def cells_of(block: Block) -> Iterator[Cell]:
    match block:
        case Note():
            return
        case Facts():
            yield from (fact.figure for fact in block.facts)
        case Table():
            yield from (cell for row in block.rows for cell in row)
        case _:
            yield from cells_of(block.table())


def values_of(document: object) -> Iterator[object]:
    if isinstance(document, dict):
        if "text" in document and "value" in document:
            yield document["text"], document["value"]
        for value in document.values():
            yield from values_of(value)
    elif isinstance(document, list):
        for value in document:
            yield from values_of(value)


class Elements(HTMLParser):
    """What a browser would make of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def words(rendered: str) -> str:
    """What a page of HTML says, without its tags."""
    return html.unescape(re.sub(r"<[^>]*>", " ", rendered))


@given(blocks())
def test_every_figure_is_in_the_text_the_json_and_the_html(of: tuple[Block, ...]) -> None:
    shown = page(*of)
    text, said = page_text(shown), words(page_body(shown, nowhere))
    written = set(values_of(json.loads(json.dumps(page_json(shown)))))
    for cell in (cell for block in of for cell in cells_of(block)):
        assert cell.text.strip() in text
        assert cell.text.strip() in said
        assert (cell.text, cell.value) in written


@given(blocks())
def test_no_line_of_the_text_is_wider_than_a_terminal(of: tuple[Block, ...]) -> None:
    assert max(map(len, page_text(page(*of)).splitlines())) <= 100


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_stays_text_in_html(name: str) -> None:
    cell = Cell(text=visible(name), value=None, link=Link(view="runs", parameters={"agent": name}))
    columns = (Column(name=visible(name)),)
    table = Table(id="t", title=visible(name), columns=columns, rows=((cell,),), notes=(visible(name),))
    part = Part(shade=Shade.INPUT, size=1.0, figure=cell, label=visible(name))
    chart = BarChart(
        id="c",
        title=visible(name),
        description=visible(name),
        bars=(Bar(name=cell, figure=cell, parts=(part,)),),
    )
    for rendered in (page_body(page(table, chart), lambda link: "/" + link.view), pages_html([page(table, chart)])):
        found = Elements()
        found.feed(rendered.partition("<article")[2].partition("</article>")[0])
        assert found.tags <= HARMLESS_TAGS
        assert not any(name.startswith("on") for name in found.attributes)


def test_links_are_followed_on_live_pages_and_plain_text_on_static_ones() -> None:
    cell = Cell(text="planner", link=Link(view="runs", parameters={"agent": "planner"}))
    shown = page(Table(id="t", title="T", columns=(Column(name=""),), rows=((cell,),)))
    assert '<a href="/runs">' in page_body(shown, lambda link: f"/{link.view}")
    assert "<a " not in page_body(shown, nowhere)
    assert page_json(shown)["sections"][0]["blocks"][0]["rows"][0][0]["link"] == {
        "view": "runs",
        "parameters": {"agent": "planner"},
    }


def test_a_table_refuses_a_row_of_another_length() -> None:
    with pytest.raises(ValueError, match="table 't' has 2 columns, got a row of 1 cells"):
        Table(id="t", title="T", columns=(Column(name=""), Column(name="b")), rows=((Cell(text="a"),),))


def test_what_is_empty_says_so_or_is_left_out() -> None:
    said = Table(id="t", title="T", columns=(Column(name=""),), rows=(), empty="Nothing yet.")
    silent = Table(id="s", title="Silent", columns=(Column(name=""),), rows=())
    shown = page(said, silent)
    assert "Nothing yet." in page_text(shown)
    assert "Silent" not in page_text(shown)
    assert "Nothing yet." in page_body(shown, nowhere)
    assert "Silent" not in page_body(shown, nowhere)


def test_long_tables_say_how_many_rows_are_left_out() -> None:
    rows = tuple((Cell(text=f"row {number}"),) for number in range(30))
    shown = page(Table(id="t", title="T", columns=(Column(name=""),), rows=rows, hidden=5))
    assert "and 23 more" in page_text(shown)
    assert "and 5 more" in page_body(shown, nowhere)


def test_ids_of_several_pages_in_one_file_do_not_meet() -> None:
    table = Table(id="t", title="T", columns=(Column(name=""),), rows=((Cell(text="a"),),))
    rendered = pages_html([page(table), page(table, page_id="developer")])
    ids = re.findall(r' id="([^"]+)"', rendered.partition("<script")[0])
    assert len(ids) == len(set(ids))
    assert {"finance", "developer", "finance-t", "developer-t"} <= set(ids)

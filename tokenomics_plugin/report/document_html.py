"""Pages as HTML: one file that opens offline, or the body of a live page.

A static page holds everything, and its own policy forbids it to load, send or run anything else: scripts run by
their hash, so that not even a name that got through the escaping could add one. Names come from traces: each is made
visible, then escaped for where it stands. Every chart has its table below it, folded away, for readers who cannot
see the drawing or want the numbers.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any, Final

from plotly.offline import get_plotlyjs

from tokenomics_plugin.report.document import (
    BarChart,
    Block,
    Cell,
    Chart,
    Fact,
    Facts,
    Icicle,
    IntervalChart,
    LineChart,
    Link,
    Note,
    Page,
    Part,
    Section,
    Table,
)
from tokenomics_plugin.report.document_charts import Addresses, chart_data
from tokenomics_plugin.report.wording import count

__all__ = ["asset", "nowhere", "page_body", "pages_html", "script_safe_json"]

_NARROW_COLUMNS: Final = 5


def nowhere(_link: Link) -> str | None:
    """The address of every link on a page that stands for itself."""
    return None


def pages_html(pages: Sequence[Page]) -> str:
    """All pages in one file; about 5 MB, nearly all of it Plotly."""
    plotly, script = get_plotlyjs(), asset("page.js")
    return Template(asset("page.html")).substitute(
        policy=_policy(plotly, script),
        css=asset("page.css"),
        navigation="\n".join(f'<a href="#{page.id}">{_text(page.title)}</a>' for page in pages),
        pages="\n".join(_article(page) for page in pages),
        data=script_safe_json(_drawings(pages, nowhere)),
        plotly=plotly,
        script=script,
    )


def page_body(page: Page, address: Addresses) -> str:
    """One page's HTML and its drawings' data, for a live page around it.

    Args:
        page: The page.
        address: Where its links lead.
    """
    data = script_safe_json(_drawings([page], address))
    return f'{_article(page, address)}\n<script type="application/json" id="data">{data}</script>'


@cache
def asset(name: str) -> str:
    """A file of the page: `page.css`, `page.js`, `page.html` or `live.html`."""
    return files("tokenomics_plugin.report").joinpath("page", name).read_text(encoding="utf-8")


def script_safe_json(document: Any) -> str:
    """JSON that is text to an HTML parser: no tag can begin or end in it."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _policy(*scripts: str) -> str:
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    sources = " ".join(f"'sha256-{digest}'" for digest in digests)
    # Plotly adds style rules of its own; only data: images, its downloads and our icon.
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _drawings(pages: Iterable[Page], address: Addresses) -> dict[str, Any]:
    return {
        f"{page.id}-{block.id}-plot": chart_data(block, address)
        for page in pages
        for section in page.sections
        for block in section.blocks
        if isinstance(block, BarChart | IntervalChart | LineChart | Icicle)
    }


def _article(page: Page, address: Addresses = nowhere) -> str:
    return _Article(page.id, address).render(page)


class _Article:
    """One page; ids in it begin with the page's own, because several may share a file."""

    def __init__(self, page_id: str, address: Addresses) -> None:
        self._page_id = page_id
        self._address = address

    def render(self, page: Page) -> str:
        sections = "\n".join(self._section(section) for section in page.sections)
        sources = f'<footer class="muted"><p>{_text(page.sources)}</p></footer>' if page.sources else ""
        heading = f'<h1 id="{page.id}-title">{_text(page.title)}</h1><p class="muted">{_text(page.lead)}</p>'
        return (
            f'<article class="page" id="{page.id}" aria-labelledby="{page.id}-title">\n'
            f"<header>{heading}</header>\n{sections}\n{sources}\n</article>"
        )

    def _section(self, section: Section) -> str:
        blocks = "\n".join(filter(None, map(self._block, section.blocks)))
        id_ = f"{self._page_id}-{section.id}"
        lead = f"<p>{_text(section.lead)}</p>\n" if section.lead else ""
        return (
            f'<section id="{id_}" aria-labelledby="{id_}-title">\n'
            f'<h2 id="{id_}-title">{_text(section.title)}</h2>\n{lead}{blocks}\n</section>'
        )

    def _block(self, block: Block) -> str:
        match block:
            case Note():
                kind = "notes" if block.is_warning else "muted"
                return f'<div class="{kind}"><p>{_text(block.text)}</p></div>'
            case Facts():
                return (
                    f'<div class="cards" id="{self._page_id}-{block.id}">{"".join(map(self._fact, block.facts))}</div>'
                )
            case Table():
                return self._table(block)
            case BarChart() | IntervalChart() | LineChart() | Icicle():
                return self._chart(block)

    def _fact(self, fact: Fact) -> str:
        withheld = "" if fact.interval or fact.figure.value is not None else " withheld"
        interval = f'<span class="muted">95%:</span> {_text(fact.interval)}' if fact.interval else ""
        lines = (fact.figure.note, fact.meaning, fact.basis, fact.caveat)
        return (
            f'<div class="card{withheld}"><h3>{_text(fact.title)}</h3>\n'
            f'<div class="value">{self._linked(fact.figure)}</div>\n'
            f'<p class="interval">{interval}</p>{"".join(f"<p>{_text(line)}</p>" for line in lines if line)}</div>'
        )

    def _chart(self, chart: Chart) -> str:
        table = chart.table()
        if not table.rows:
            return (
                f'<div class="chart"><h3>{_text(chart.title)}</h3><p class="empty">{_text(chart.empty)}</p></div>'
                * bool(chart.empty)
            )
        id_ = f"{self._page_id}-{chart.id}-plot"
        legend = _legend(chart) if isinstance(chart, BarChart) and chart.has_legend else ""
        return (
            f'<div class="chart"><h3>{_text(chart.title)}</h3>\n{legend}'
            f'<div class="plot" id="{id_}" role="img" aria-label="{_text(chart.description)}"></div>\n'
            f"<details><summary>The same in numbers</summary>{self._table(table, is_captioned=False)}</details></div>"
        )

    def _table(self, table: Table, *, is_captioned: bool = True) -> str:
        if not table.rows:
            return f'<p class="empty">{_text(table.empty)}</p>' if table.empty else ""
        caption = f"<caption>{_text(table.title)}</caption>" if table.title and is_captioned else ""
        kinds = [' class="words"' if column.is_wordy else "" for column in table.columns]
        columns = zip(kinds, table.columns, strict=True)
        head = "".join(f'<th scope="col"{kind}>{_text(column.name)}</th>' for kind, column in columns)
        body = "\n".join(self._row(row, kinds) for row in table.rows)
        box = "table narrow" if len(kinds) <= _NARROW_COLUMNS and not any(kinds) else "table"
        return (
            f'<div class="{box}" id="{self._page_id}-{table.id}" tabindex="0" role="region" '
            f'aria-label="{_text(table.title or table.id)}"><table>{caption}<thead><tr>{head}</tr></thead>'
            f"<tbody>\n{body}\n</tbody></table>{self._below(table)}</div>"
        )

    def _below(self, table: Table) -> str:
        lines = [_text(note) for note in table.notes]
        if table.hidden:
            more = f"and {count(table.hidden)} more"
            lines.insert(0, self._anchor(more, table.more))
        return "".join(f'<p class="more">{line}</p>' for line in lines)

    def _row(self, row: Sequence[Cell], kinds: Sequence[str]) -> str:
        cells = "".join(
            f"<td{kind}>{self._linked(cell)}{_remark(cell)}</td>" for kind, cell in zip(kinds[1:], row[1:], strict=True)
        )
        return f'<tr><th scope="row">{self._linked(row[0])}{_remark(row[0])}</th>{cells}</tr>'

    def _linked(self, cell: Cell) -> str:
        return self._anchor(cell.text, cell.link)

    def _anchor(self, text: str, link: Link | None) -> str:
        # Its own direction: a name in Arabic must not reorder what stands beside it.
        written = f"<bdi>{_text(text)}</bdi>"
        url = None if link is None else self._address(link)
        return written if url is None else f'<a href="{_text(url)}">{written}</a>'


def _remark(cell: Cell) -> str:
    return f"<small>{_text(cell.note)}</small>" if cell.note else ""


def _legend(chart: BarChart) -> str:
    kinds: dict[str, Part] = {}
    for bar in chart.bars:
        for part in bar.parts:
            kinds.setdefault(part.label, part)
    if len(kinds) < 2:
        return ""
    items = "".join(
        f'<li class="{part.shade.value}{" hatched" if part.is_hatched else ""}">{_text(label)}</li>'
        for label, part in kinds.items()
    )
    return f'<ul class="legend">{items}</ul>\n'


def _text(text: str) -> str:
    return html.escape(text, quote=True)

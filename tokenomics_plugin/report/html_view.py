"""The summary as one self-contained page that opens offline.

Everything is inlined, and the page's own policy forbids it to load, send or run anything else: scripts run by their
hash, so that not even a name that got through the escaping could add one. Names come from traces: each is made
visible, then escaped for where it stands.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from string import Template
from typing import Any, Final

from plotly.offline import get_plotlyjs

from tokenomics_plugin.pricing import TOKEN_CLASSES
from tokenomics_plugin.report.conduct_words import ConductTable, conduct_sentence, conduct_tables
from tokenomics_plugin.report.headline import COST_PER_SUCCESS, SUCCESS_RATE, FigureWords, headline, notes
from tokenomics_plugin.report.html_figures import figure_data
from tokenomics_plugin.report.sentences import (
    amounts_line,
    coverage_lines,
    failed_calls_line,
    harm_line,
    opening_line,
    period_line,
    sources_line,
    unpriced_reason,
)
from tokenomics_plugin.report.summary import GroupSummary, Summary
from tokenomics_plugin.report.task import TaskStatus, TaskSummary
from tokenomics_plugin.report.wording import (
    NAMELESS_AGENT,
    NAMELESS_MODEL,
    NAMELESS_TOOL,
    TOKEN_CLASS_NAMES,
    count,
    group_name,
    percent,
    spend_cost,
    spend_tokens,
    visible,
)

__all__ = ["render_html"]

_MAX_ROWS: Final = 25
_NARROW_COLUMNS: Final = 5
_WORDY: Final = frozenset({"Made of", "Why"})
"""Columns of sentences: to the left, and wrapped."""
_GROUP_HEADER: Final = ("", "Spans", "Errors", "Calls", "Tokens", "Cost", "Tasks", "Success rate", "Cost per success")
_TASK_HEADER: Final = ("", "Outcome", "Traces", "Spans", "Errors", "Calls", "Tokens", "Cost", "Value")


def render_html(summary: Summary) -> str:
    """The page; about 5 MB, nearly all of it Plotly."""
    plotly, script = get_plotlyjs(), _page_file("page.js")
    words = headline(summary)
    return Template(_page_file("page.html")).substitute(
        policy=_policy(plotly, script),
        css=_page_file("page.css"),
        period=_text(period_line(summary)),
        opening=_text(opening_line(summary)),
        cards=_cards(words, summary),
        notes=_notes(words),
        status_legend=_status_legend(summary),
        token_legend=_token_legend(summary),
        outcome_notes=_outcome_notes(summary),
        conduct=_conduct(summary),
        coverage=_coverage(summary),
        unpriced=_unpriced(summary),
        tables=_tables(words, summary),
        sources=_text(sources_line(summary)),
        data=_script_safe_json(figure_data(summary)),
        plotly=plotly,
        script=script,
    )


def _page_file(name: str) -> str:
    return files("tokenomics_plugin.report").joinpath("page", name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    sources = " ".join(f"'sha256-{digest}'" for digest in digests)
    # Plotly adds style rules of its own; only data: images, its downloads and our icon.
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _script_safe_json(document: Any) -> str:
    """JSON that is text to an HTML parser: no tag can begin or end in it."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _name(text: str) -> str:
    # Its own direction: a name in Arabic must not reorder what stands beside it.
    return f"<bdi>{_text(text)}</bdi>"


def _cards(words: Sequence[FigureWords], summary: Summary) -> str:
    hero, price, rate, *_ = words
    return "\n".join((_card(hero, kind="card hero"), _card(price), _card(rate), _coverage_card(summary)))


def _card(words: FigureWords, *, kind: str = "card") -> str:
    interval = f'<span class="muted">95%:</span> {_text(words.interval)}' if words.value else _text(words.note)
    open_tasks = f"\n<p>{_text(words.bounds)} once the open tasks end.</p>" if words.bounds else ""
    return (
        f'<article class="{kind}{"" if words.value else " withheld"}">\n<h2>{_text(words.title)}</h2>\n'
        f'<div class="value">{_text(words.value or "not estimated")}</div>\n<p class="interval">{interval}</p>\n'
        f"<p>{_text(words.meaning)}</p>\n<p>{_text(words.basis)}</p>{open_tasks}\n</article>"
    )


def _coverage_card(summary: Summary) -> str:
    coverage = summary.coverage
    share = coverage.judged / coverage.tasks if coverage.tasks else 0
    shown = percent(share) if coverage.tasks else "-"
    return (
        f'<article class="card">\n<h2>Coverage</h2>\n<div class="value">{shown}</div>\n'
        f'<div class="meter"><span style="width: {share:.1%}"></span></div>\n'
        f"<p>{count(coverage.judged)} of {count(coverage.tasks)} tasks are judged; "
        f"{count(summary.total.priced_calls)} of {count(summary.total.calls)} model calls have a known cost.</p>\n"
        "</article>"
    )


def _notes(words: Iterable[FigureWords]) -> str:
    sentences = notes(word for word in words if word.value)  # what is withheld says so itself
    if not sentences:
        return ""
    return f'<div class="notes">{"".join(f"<p>{_text(sentence)}</p>" for sentence in sentences)}</div>'


def _status_legend(summary: Summary) -> str:
    return "\n".join(
        f'<li class="{row.status}">{row.status} '
        f'<span class="muted">{count(row.tasks)} · {spend_cost(row.spend)}</span></li>'
        for row in summary.statuses
    )


def _token_legend(summary: Summary) -> str:
    return "\n".join(
        f'<li class="{name}">{TOKEN_CLASS_NAMES[name]} '
        f'<span class="muted">{count(getattr(summary.total.tokens, name))}</span></li>'
        for name in TOKEN_CLASSES
        if getattr(summary.total.tokens, name)
    )


def _outcome_notes(summary: Summary) -> str:
    lines = [*(amounts_line(amounts) for amounts in summary.amounts), harm_line(summary)]
    return f'<p class="muted">{"<br>".join(_text(line) for line in lines if line)}</p>'


def _coverage(summary: Summary) -> str:
    rows = [
        [_text(what), f"{count(known)} of {count(everything)}", percent(known / everything) if everything else ""]
        for what, known, everything in coverage_lines(summary)
    ]
    return _table("", ("", "Known", "Share"), rows, box="table narrow") + _paragraph(failed_calls_line(summary))


def _paragraph(text: str) -> str:
    return f'<p class="muted">{_text(text)}</p>' if text else ""


def _conduct(summary: Summary) -> str:
    tables = map(_conduct_table, conduct_tables(summary.conduct))
    return "\n".join((*tables, _paragraph(conduct_sentence(summary.conduct))))


def _conduct_table(table: ConductTable) -> str:
    rows = [[_name(name), *map(_text, cells)] for name, *cells in table.rows[:_MAX_ROWS]]
    header = [name.capitalize() for name in table.header]
    box = "table narrow" if len(header) <= _NARROW_COLUMNS else "table"
    return _table(table.title, header, rows, hidden=len(table.rows) - len(rows), notes=table.notes, box=box)


def _unpriced(summary: Summary) -> str:
    if not summary.unpriced:
        return ""
    rows = [
        [_name(group_name(row, nameless=NAMELESS_MODEL)), count(row.calls), _text(unpriced_reason(row))]
        for row in summary.unpriced[:_MAX_ROWS]
    ]
    return _table("Calls without a cost", ("", "Calls", "Why"), rows, hidden=len(summary.unpriced) - len(rows))


def _tables(words: Sequence[FigureWords], summary: Summary) -> str:
    return "\n".join(
        (
            _figures_table(words),
            _groups_table("Agents", summary.agents, NAMELESS_AGENT),
            _groups_table("Models", summary.models, NAMELESS_MODEL),
            _groups_table("Tools", summary.tools, NAMELESS_TOOL),
            _tasks_table(summary.tasks),
        )
    )


def _figures_table(words: Iterable[FigureWords]) -> str:
    rows = [
        [
            f"{_text(word.title)}<small>{_text(word.meaning)}</small>",
            _text(word.value or "-"),
            _text(word.interval),
            _text(word.bounds),
            _text(word.basis) + ("" if word.value else f"<small>{_text(word.note)}</small>"),
        ]
        for word in words
    ]
    return _table("Figures", ("", "Estimate", "95% confidence", "Once open tasks end", "Made of"), rows)


def _groups_table(title: str, groups: Sequence[GroupSummary], nameless: str) -> str:
    if not groups:
        return ""
    rows = [
        [
            _name(group_name(group, nameless=nameless)),
            count(group.spend.spans),
            count(group.spend.errors),
            count(group.spend.calls),
            spend_tokens(group.spend),
            spend_cost(group.spend),
            count(group.tasks),
            SUCCESS_RATE.short(group.success_rate),
            COST_PER_SUCCESS.short(group.cost_per_success),
        ]
        for group in groups[:_MAX_ROWS]
    ]
    return _table(title, _GROUP_HEADER, rows, hidden=len(groups) - len(rows))


def _tasks_table(all_tasks: Sequence[TaskSummary]) -> str:
    if not all_tasks:
        return ""
    rows = [
        [
            _name(visible(task.task_id)),
            _status(task.status),
            count(task.traces),
            count(task.spend.spans),
            count(task.spend.errors),
            count(task.spend.calls),
            spend_tokens(task.spend),
            spend_cost(task.spend),
            "" if task.value is None else _text(f"{task.value:,f} {task.currency}"),
        ]
        for task in all_tasks[:_MAX_ROWS]
    ]
    return _table("Dearest tasks", _TASK_HEADER, rows, hidden=len(all_tasks) - len(rows))


def _status(status: TaskStatus) -> str:
    return f'<span class="status {status}">{status}</span>'


def _row(cells: Sequence[str], kinds: Sequence[str]) -> str:
    rest = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds[1:], cells[1:], strict=True))
    return f'<tr><th scope="row">{cells[0]}</th>{rest}</tr>'


def _table(
    caption: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    hidden: int = 0,
    notes: Iterable[str] = (),
    box: str = "table",
) -> str:
    """A table of cells that are HTML already, the first of each row its name, with sentences of plain text below."""
    title = f"<caption>{caption}</caption>" if caption else ""
    kinds = [' class="words"' if name in _WORDY else "" for name in header]
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for kind, name in zip(kinds, header, strict=True))
    body = "\n".join(_row(row, kinds) for row in rows)
    below = [*([f"and {count(hidden)} more"] if hidden else []), *notes]
    more = "".join(f'<p class="more">{_text(line)}</p>' for line in below)
    return (
        f'<div class="{box}"><table>{title}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>{more}</div>'
    )

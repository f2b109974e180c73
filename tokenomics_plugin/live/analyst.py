"""Answers questions about a store from an analysis of it that is kept in memory.

When a question finds the store changed, it is analysed anew in the background, so a question is answered from what
is there and says of when it is. The pages are made with each analysis, lists and traces when they are asked for; a
trace is read from the store itself, and so always as it is.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Final

from tokenomics_plugin.analysis import Analysis, analyse
from tokenomics_plugin.errors import TokenomicsError
from tokenomics_plugin.live.addresses import LISTS, address
from tokenomics_plugin.live.exchange import Answer, Question, Settings
from tokenomics_plugin.live.forms import form_html, pager_html
from tokenomics_plugin.live.listing import ListingError
from tokenomics_plugin.live.listings import LISTINGS
from tokenomics_plugin.pages import make_pages
from tokenomics_plugin.pages.trace import TraceLook, span_section, trace_page
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report.document import Link, Page
from tokenomics_plugin.report.document_html import asset, page_body
from tokenomics_plugin.report.document_json import page_json
from tokenomics_plugin.store import TraceStore

__all__ = ["Analyst"]

_logger = logging.getLogger(__name__)

_LEAST_PAUSE_S: Final = 2.0
"""Between the end of one look at the store and the start of the next."""
_PAUSE_PER_WORK: Final = 4.0
"""The same as a multiple of the time that the last analysis took, so that it never takes most of a processor."""
_PROCESSES: Final = 2
_FIRST_WAIT_S: Final = 5.0
"""How long the first question waits for the first refresh before it is told to come back."""
_COME_BACK_S: Final = 2
_TITLES: Final = {"finance": "Finance", "engineering": "Engineering", "developer": "Developer"}


@dataclass(frozen=True, kw_only=True)
class _Fresh:
    """An analysis, and what was made of it."""

    analysis: Analysis
    pages: Mapping[str, Page]
    state: tuple[int, int]
    """Time and size of the store's file when it was read."""
    at: float
    """When that was, seconds since the epoch."""


class Analyst:
    """Holds the analysis; questions may come from several threads."""

    def __init__(self, settings: Settings) -> None:
        """Begin without an analysis; the first one is made when the first question comes."""
        self._db = Path(settings.db)
        self._prices = PriceBook.of_file(settings.prices)
        self._fresh: _Fresh | None = None
        self._ready, self._wanted = threading.Event(), threading.Event()
        threading.Thread(target=self._keep_fresh, name="tokenomics-refresh", daemon=True).start()

    def answer(self, question: Question) -> Answer:
        """The view, or what keeps it from being shown."""
        self._wanted.set()
        try:
            if not self._ready.wait(_FIRST_WAIT_S):
                return self._not_ready(question)
            return self._view(question)
        except ListingError as error:
            return self._problem(question, 400, str(error))
        except TokenomicsError as error:
            return self._problem(question, 503, str(error))
        except Exception:
            _logger.exception("cannot answer %s", question)
            return self._problem(question, 500, "The page could not be made; the collector's log says why.")

    def _view(self, question: Question) -> Answer:
        fresh = self._fresh
        assert fresh is not None, "nothing is shown before the first analysis"
        if question.view in LISTS:
            return self._list(question, fresh)
        if question.view == "trace":
            page = self._trace(question, fresh)
            if page is None:
                return self._problem(question, 404, f"There is no trace {question.subject}.")
            return self._answer(question, page)
        return self._answer(question, fresh.pages[question.view])

    def _list(self, question: Question, fresh: _Fresh) -> Answer:
        listing, rows = LISTINGS[question.view], fresh.analysis.rows
        page, window = listing.page(rows, question.parameters)
        if question.is_json:
            return self._answer(question, page)
        above = form_html(listing, question.parameters, listing.choices(rows))
        return self._answer(question, page, above=above, below=pager_html(listing, question.parameters, window))

    def _trace(self, question: Question, fresh: _Fresh) -> Page | None:
        trace_id, span_id, detectors = question.subject, question.parameters.get("span", ""), fresh.analysis.detectors
        with TraceStore(self._db, read_only=True) as store:
            look = TraceLook.read(store, trace_id, self._prices, detectors)
            attributes = store.attributes(trace_id, span_id) if span_id else None
        if look is None:
            return None
        chosen = None if attributes is None else span_section(look, span_id, attributes)
        return trace_page(look, detectors=detectors, chosen=chosen)

    def _answer(self, question: Question, page: Page, *, above: str = "", below: str = "") -> Answer:
        if question.is_json:
            return Answer(number=question.number, status=200, body=json.dumps(page_json(page)), is_json=True)
        body = page_body(page, address)
        return self._html(question, 200, page.title, body, above=above, below=below)

    def _not_ready(self, question: Question) -> Answer:
        sentence = "The traces are being read for the first time. This page asks again by itself."
        return self._problem(question, 503, sentence, again=True)

    def _problem(self, question: Question, status: int, sentence: str, *, again: bool = False) -> Answer:
        if question.is_json:
            return Answer(number=question.number, status=status, body=json.dumps({"error": sentence}), is_json=True)
        refresh = f'<meta http-equiv="refresh" content="{_COME_BACK_S}">' if again else ""
        note = Page(id="problem", title="Not yet" if again else "Not shown", lead=sentence, sections=())
        return self._html(question, status, note.title, refresh + page_body(note, address))

    def _html(
        self, question: Question, status: int, title: str, body: str, *, above: str = "", below: str = ""
    ) -> Answer:
        text = Template(asset("live.html")).substitute(
            title=title,
            navigation=_navigation(question.view),
            above=above,
            body=body,
            below=below,
            freshness=self._freshness(),
        )
        return Answer(number=question.number, status=status, body=text)

    def _freshness(self) -> str:
        if self._fresh is None:
            return "Nothing has been read yet."
        at = datetime.fromtimestamp(self._fresh.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"As of {at}. Pages follow the store; reload to see what came since."

    def _keep_fresh(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            started = time.monotonic()
            try:
                self._refresh_if_changed()
            except Exception:  # the thread must live: without it pages only grow old
                _logger.exception("cannot read %s", self._db)
            time.sleep(max(_LEAST_PAUSE_S, _PAUSE_PER_WORK * (time.monotonic() - started)))

    def _refresh_if_changed(self) -> None:
        file = self._db.stat()
        state = file.st_mtime_ns, file.st_size
        if self._fresh is not None and self._fresh.state == state:
            return
        analysis = analyse(self._db, self._prices, processes=_PROCESSES)
        pages = make_pages(analysis, look_at=lambda trace_id: self._look(trace_id, analysis))
        # What is replaced goes when the last question about it is answered.
        self._fresh = _Fresh(analysis=analysis, pages={page.id: page for page in pages}, state=state, at=time.time())
        self._ready.set()

    def _look(self, trace_id: str, analysis: Analysis) -> TraceLook | None:
        with TraceStore(self._db, read_only=True) as store:
            return TraceLook.read(store, trace_id, self._prices, analysis.detectors)


def _navigation(view: str) -> str:
    titles = {**_TITLES, **{name: LISTINGS[name].title for name in LISTS}}
    return "\n".join(_tab(name, title, is_current=name == view) for name, title in titles.items())


def _tab(view: str, title: str, *, is_current: bool) -> str:
    current = ' aria-current="page"' if is_current else ""
    return f'<a href="{address(Link(view=view))}"{current}>{title}</a>'

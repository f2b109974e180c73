"""Answers questions about a store from an analysis of it that is kept up to date beside it.

The analysis is refreshed in the background when a question finds the store changed, so a question is answered from
what is there and says of when it is. The pages are made at each refresh, lists and traces when they are asked for.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Final

from tokenomics_plugin.analysis import Analysis
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
from tokenomics_plugin.waste import find_detectors

__all__ = ["Analyst"]

_logger = logging.getLogger(__name__)

_LEAST_PAUSE_S: Final = 2.0
"""Between the end of a refresh and the start of the next; ten times as long as the last one took, if that is more."""
_FIRST_WAIT_S: Final = 5.0
"""How long the first question waits for the first refresh before it is told to come back."""
_COME_BACK_S: Final = 2
_TITLES: Final = {"finance": "Finance", "engineering": "Engineering", "developer": "Developer"}


class Analyst:
    """Holds the analysis; questions may come from several threads."""

    def __init__(self, settings: Settings) -> None:
        """Open the analysis beside the store; the first refresh begins with the first question."""
        self._db = Path(settings.db)
        self._prices = PriceBook() if settings.prices is None else PriceBook.from_toml(settings.prices)
        self._detectors = find_detectors().found
        self._analysis = Analysis.open(self._db.with_name(self._db.name + ".analysis"))
        self._pages: dict[str, Page] = {}
        self._ready = threading.Event()
        self._wanted = threading.Event()
        self._refreshed_at = 0.0
        self._seen: tuple[int, int] | None = None
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
        if question.view in LISTS:
            return self._list(question)
        if question.view == "trace":
            page = self._trace(question)
            if page is None:
                return self._problem(question, 404, f"There is no trace {question.subject}.")
            return self._answer(question, page)
        return self._answer(question, self._pages[question.view])

    def _list(self, question: Question) -> Answer:
        listing = LISTINGS[question.view]
        page, window = listing.page(self._analysis.rows, question.parameters)
        if question.is_json:
            return self._answer(question, page)
        above = form_html(listing, question.parameters, listing.choices(self._analysis.rows))
        return self._answer(question, page, above=above, below=pager_html(listing, question.parameters, window))

    def _trace(self, question: Question) -> Page | None:
        trace_id, span_id = question.subject, question.parameters.get("span", "")
        with TraceStore(self._db, read_only=True) as store:
            spans = list(store.spans(traces=(trace_id,)))
            if not spans:
                return None
            trajectories = list(store.trajectories(traces=(trace_id,)))
            attributes = store.attributes(trace_id, span_id) if span_id else None
        look = TraceLook.of(spans, trajectories, self._prices, detectors=self._detectors)
        chosen = None if attributes is None else span_section(look, span_id, attributes)
        return trace_page(look, detectors=self._detectors, chosen=chosen)

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
        if not self._refreshed_at:
            return "Nothing has been read yet."
        at = datetime.fromtimestamp(self._refreshed_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"As of {at}. Pages follow the store; reload to see what came since."

    def _keep_fresh(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            started = time.monotonic()
            try:
                self._refresh_if_changed()
            except Exception:  # the thread must live: without it pages only grow old
                _logger.exception("cannot refresh the analysis of %s", self._db)
            time.sleep(
                max(_LEAST_PAUSE_S, 10 * (time.monotonic() - started)) if self._ready.is_set() else _LEAST_PAUSE_S
            )

    def _refresh_if_changed(self) -> None:
        state = self._db.stat()
        if self._seen == (state.st_mtime_ns, state.st_size):
            return
        with TraceStore(self._db, read_only=True) as store:
            self._analysis.refresh(store, prices=self._prices, detectors=self._detectors)
        self._pages = {page.id: page for page in make_pages(self._analysis)}
        self._seen = state.st_mtime_ns, state.st_size
        self._refreshed_at = time.time()
        self._ready.set()


def _navigation(view: str) -> str:
    titles = {**_TITLES, **{name: LISTINGS[name].title for name in LISTS}}
    return "\n".join(_tab(name, title, is_current=name == view) for name, title in titles.items())


def _tab(view: str, title: str, *, is_current: bool) -> str:
    current = ' aria-current="page"' if is_current else ""
    return f'<a href="{address(Link(view=view))}"{current}>{title}</a>'

"""The page in a real browser: opened from a file, without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page

from page_marks import cut_off
from tokenomics_plugin.pages import Report, write_report

pytestmark = pytest.mark.browser

PLOTS = {
    "finance": {"outcomes", "waterfall"},
    "engineering": {"success-rates", "costs-per-success", "truncation", "success-trend", "token-classes"},
    "developer": {"spans", "labels", "cache", "rent-roles"},
}
"""Figures that the busy report has, page by page."""


@dataclass
class Opened:
    """A page, and all that it tried to do."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def dismiss(self, dialog: Dialog) -> None:
        """Note a dialog; an open one would stop the page."""
        self.dialogs.append(dialog.message)
        dialog.dismiss()


Open = Callable[..., Opened]


@pytest.fixture
def open_report(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Writes a report and opens one of its pages."""
    contexts = []

    def open_(report: Report, *, page: str = "finance", width: int = 1280, color_scheme: str = "light") -> Opened:
        path = tmp_path / "report.html"
        write_report(report, "html", path)
        context = browser.new_context(
            offline=True,
            viewport={"width": width, "height": 900},
            color_scheme=color_scheme,  # type: ignore[arg-type]  # a literal in playwright's types
        )
        contexts.append(context)
        opened = Opened(page=context.new_page())
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.on("console", lambda message: opened.complaints.append(f"{message.type}: {message.text}"))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("dialog", opened.dismiss)
        opened.page.goto(f"{path.as_uri()}#{page}")
        return opened

    yield open_
    for context in contexts:
        context.close()


def drawn(opened: Opened, page: str) -> dict[str, tuple[float, float]]:
    """Width and height of each figure that was drawn on a page."""
    sizes = {}
    for plot in opened.page.locator(f"#{page} .plot").all():
        box = plot.locator("svg.main-svg").first.bounding_box()
        assert box is not None, "a figure that is there is drawn"
        name = (plot.get_attribute("id") or "").removeprefix(f"{page}-").removesuffix("-plot")
        sizes[name] = (box["width"], box["height"])
    return sizes


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("page", PLOTS)
def test_every_figure_is_drawn_whole_and_nothing_is_asked_of_the_network(
    open_report: Open, busy_report: Report, page: str, width: int, color_scheme: str
) -> None:
    opened = open_report(busy_report, page=page, width=width, color_scheme=color_scheme)
    sizes = drawn(opened, page)
    assert set(sizes) >= PLOTS[page] - {"spans", "cache", "rent-roles", "labels", "truncation", "success-trend"}
    assert all(across > 100 and down > 30 for across, down in sizes.values()), sizes
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out to the side"
    assert cut_off(opened.page) == [], "no text of a figure lies outside it"


def test_one_page_is_shown_at_a_time_and_named_to_a_screen_reader(open_report: Open, busy_report: Report) -> None:
    opened = open_report(busy_report)
    assert opened.page.locator("article.page:visible").count() == 1
    opened.page.get_by_role("link", name="Engineering").focus()
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_selector("#engineering", state="visible")
    assert not opened.page.locator("#finance").is_visible()
    assert opened.page.locator("nav [aria-current=page]").inner_text() == "Engineering"


def test_every_figure_has_its_numbers_in_a_table_below_it(open_report: Open, busy_report: Report) -> None:
    opened = open_report(busy_report)
    for chart in opened.page.locator("#finance .chart").all():
        assert not chart.locator("table").is_visible()
        chart.locator("summary").focus()
        opened.page.keyboard.press("Enter")
        assert chart.locator("table").is_visible()


def test_figures_show_marks_for_the_data(open_report: Open, busy_report: Report) -> None:
    opened = open_report(busy_report, page="engineering")
    dots = opened.page.locator("#engineering-success-rates-plot .scatterlayer .points path").count()
    assert dots >= 3  # all tasks, and two agents
    assert "planner" in opened.page.locator("#engineering-success-rates-plot").inner_text()


def test_a_report_without_any_data_opens_too(open_report: Open, empty_report: Report) -> None:
    opened = open_report(empty_report)
    assert drawn(opened, "finance") == {}
    assert opened.complaints == []
    assert "There are no tasks yet." in opened.page.locator("#finance").inner_text()


@pytest.mark.parametrize("page", PLOTS)
def test_hostile_names_stay_text(open_report: Open, hostile_report: Report, page: str) -> None:
    opened = open_report(hostile_report, page=page)
    for name in ("mouseover", "mousemove", "click"):
        opened.page.dispatch_event(f"#{page} tbody th >> nth=0", name)
    opened.page.wait_for_timeout(200)
    assert opened.dialogs == []
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert opened.page.locator("svg a, article img, article script, article iframe").count() == 0
    if page == "engineering":
        shown = opened.page.locator("#engineering").inner_text()
        assert "</script><script>alert(1)</script>" in shown
        assert "\\u202egnp.exe" in shown


def test_the_policy_stops_a_script_that_got_in(open_report: Open, busy_report: Report) -> None:
    opened = open_report(busy_report)
    opened.page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.got_in = true';"
        " document.body.append(script); }"
    )
    assert opened.page.evaluate("window.got_in") is None
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)


def test_figures_follow_the_colour_scheme(open_report: Open, busy_report: Report) -> None:
    opened = open_report(busy_report)
    bar = "#finance-outcomes-plot .bars .point path >> nth=-1"
    light = opened.page.locator(bar).evaluate("element => getComputedStyle(element).fill")
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_function(
        "before => [...document.querySelectorAll('#finance-outcomes-plot .bars .point path')].at(-1) && "
        "getComputedStyle([...document.querySelectorAll('#finance-outcomes-plot .bars .point path')].at(-1)).fill "
        "!== before",
        arg=light,
    )

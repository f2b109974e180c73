"""The page in a real browser: opened from a file, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from tokenomics_plugin.report import Summary, write_report

pytestmark = pytest.mark.browser

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
PLOTS = ("outcomes", "success", "cost-per-success", "agents", "models", "tools", "tokens")


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        pytest.skip(f"the page's tests need a browser: install one of {', '.join(CHROMIUM_NAMES)}")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=executable, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()


Open = Callable[..., Opened]


@pytest.fixture
def open_report(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Writes a summary's page and opens it."""
    contexts = []

    def open_(summary: Summary, *, width: int = 1280, color_scheme: str = "light") -> Opened:
        path = tmp_path / "report.html"
        write_report(summary, "html", path)
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
        opened.page.goto(path.as_uri())
        return opened

    yield open_
    for context in contexts:
        context.close()


def drawn(opened: Opened) -> dict[str, tuple[float, float]]:
    """Width and height of each figure that was drawn."""
    sizes = {}
    for name in PLOTS:
        box = opened.page.locator(f"#plot-{name} svg.main-svg").first
        if box.count():
            found = box.bounding_box()
            assert found is not None
            sizes[name] = (found["width"], found["height"])
    return sizes


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_every_figure_is_drawn_and_nothing_is_asked_of_the_network(
    open_report: Open, busy_summary: Summary, width: int, color_scheme: str
) -> None:
    opened = open_report(busy_summary, width=width, color_scheme=color_scheme)
    sizes = drawn(opened)
    assert set(sizes) == set(PLOTS)
    assert all(across > 100 and down > 40 for across, down in sizes.values()), sizes
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out to the side"


def test_figures_show_marks_for_the_data(open_report: Open, busy_summary: Summary) -> None:
    opened = open_report(busy_summary)
    bars = opened.page.locator("#plot-agents .bars .point path").count()
    assert bars >= len(busy_summary.agents)
    dots = opened.page.locator("#plot-success .scatterlayer .points path").count()
    assert dots >= 3  # all tasks, and two agents
    assert "planner" in opened.page.locator("#plot-agents").inner_text()


def test_a_report_without_any_data_opens_too(open_report: Open, summary_of: Callable[..., Summary]) -> None:
    opened = open_report(summary_of())
    assert drawn(opened) == {}
    assert opened.complaints == []
    assert "No model call has been made yet." in opened.page.locator("#plot-agents").inner_text()


def test_hostile_names_stay_text(open_report: Open, hostile_summary: Summary) -> None:
    opened = open_report(hostile_summary)
    # Plotly catches the mouse with a transparent sheet over the bars.
    opened.page.hover("#plot-agents .bars .point path >> nth=0", force=True)
    opened.page.wait_for_selector("#plot-agents .hoverlayer .hovertext")
    for name in ("mouseover", "mousemove", "click"):
        opened.page.dispatch_event("tbody th >> nth=8", name)
    opened.page.wait_for_timeout(200)
    assert opened.dialogs == []
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert opened.page.locator("svg a, main a, main img, main script, main iframe").count() == 0
    assert set(drawn(opened)) >= {"agents", "models", "tools", "tokens"}
    shown = opened.page.locator("#plot-agents").inner_text() + opened.page.locator("table").all_inner_texts()[-1]
    assert "</script><script>alert(1)</script>" in shown
    assert "\\u202egnp.exe" in shown


def test_the_policy_stops_a_script_that_got_in(open_report: Open, busy_summary: Summary) -> None:
    opened = open_report(busy_summary)
    opened.page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.got_in = true';"
        " document.body.append(script); }"
    )
    assert opened.page.evaluate("window.got_in") is None
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)


def test_figures_follow_the_colour_scheme(open_report: Open, busy_summary: Summary) -> None:
    opened = open_report(busy_summary)
    bar = "#plot-agents .bars .point path >> nth=0"
    light = opened.page.locator(bar).evaluate("element => getComputedStyle(element).fill")
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_function(
        "before => getComputedStyle(document.querySelector('#plot-agents .bars .point path')).fill !== before",
        arg=light,
    )

"""The three pages as a reader sees them, of a small store and of one with a million spans.

The large one takes minutes and is left out of `make test`: `make screenshots` takes both, and leaves the pictures in
`screenshots/`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from page_marks import cut_off
from tokenomics_plugin.pages import make_report, write_report
from tokenomics_plugin.pricing import PriceBook

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[3]
SIZES = [
    pytest.param(2_000, id="2000-spans"),
    pytest.param(1_000_000, id="1000000-spans", marks=[pytest.mark.large, pytest.mark.timeout(1_200)]),
]
PAGES = ("finance", "engineering", "developer")


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The HTML report of a synthetic store of so many spans; made once."""
    folder, made = tmp_path_factory.mktemp("synthetic"), dict[int, Path]()

    def file(spans: int) -> Path:
        if spans not in made:
            store, made[spans] = folder / f"{spans}.duckdb", folder / f"{spans}.html"
            command = [sys.executable, str(ROOT / "benchmarks" / "report.py"), "--spans", str(spans)]
            subprocess.run([*command, "--store", str(store)], check=True)
            write_report(make_report(store, PriceBook()), "html", made[spans])
        return made[spans]

    return file


@pytest.mark.parametrize("spans", SIZES)
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")], ids=["desktop", "phone-in-the-dark"])
def test_no_figure_is_cut_off_and_the_console_is_silent(
    browser: Browser, report_file: Callable[[int], Path], spans: int, page: str, width: int, scheme: str
) -> None:
    context = browser.new_context(
        offline=True,
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]  # a literal in playwright's types
    )
    shown, complaints = context.new_page(), list[str]()
    shown.on("console", lambda message: complaints.append(message.text))
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.goto(f"{report_file(spans).as_uri()}#{page}")
    shown.wait_for_selector(f"#{page} .plot svg.main-svg")
    if folder := os.environ.get("TOKENOMICS_SCREENSHOTS"):
        shown.screenshot(path=Path(folder) / f"{page}-{spans}-{width}.png", full_page=True)
    assert complaints == []
    assert cut_off(shown) == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert all(plot.locator("svg.main-svg").count() for plot in shown.locator(f"#{page} .plot").all())
    context.close()

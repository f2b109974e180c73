"""Reports of real stores, and golden files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import Browser, sync_playwright

from report_stores import CASES, PRICES, ListReader, stored
from tokenomics_plugin.pages import Report, make_report

GOLDEN = Path(__file__).parents[2] / "golden" / "pages"
REWRITE = "REWRITE_GOLDEN"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


def report_on(reader: ListReader) -> Report:
    """The report of a store made of lists."""
    with TemporaryDirectory() as folder:
        return make_report(stored(reader, Path(folder) / "case.duckdb"), PRICES)


@cache
def report_of_case(name: str) -> Report:
    """The report of a case; each is made once."""
    return report_on(CASES[name]())


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[str, Report]:
    """Each of the reports that every view must render, with its name."""
    return request.param, report_of_case(request.param)


@pytest.fixture
def empty_report() -> Report:
    return report_of_case("empty")


@pytest.fixture
def hostile_report() -> Report:
    return report_of_case("hostile")


@pytest.fixture
def busy_report() -> Report:
    return report_of_case("failures_and_pending")


@pytest.fixture
def assert_golden(tmp_path: Path) -> Callable[[str, str], None]:
    """Compares a text with its golden file, which `REWRITE_GOLDEN=1` writes instead."""

    def compare(name: str, actual: str) -> None:
        golden = GOLDEN / name
        if os.environ.get(REWRITE):
            golden.write_text(actual, encoding="utf-8")
        (tmp_path / name).write_text(actual, encoding="utf-8")
        expected = golden.read_text(encoding="utf-8")
        assert actual == expected, f"{tmp_path / name} is not {golden}; if it is right, set {REWRITE}=1"

    return compare


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

"""The page of a comparison says the same in every form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captured_runs import PRICE, CapturedRuns, said
from tokenomics_plugin.pages import make_comparison, render
from tokenomics_plugin.pages.reporter import Report
from tokenomics_plugin.pricing import PriceBook


def stored(path: Path, *, successes: int, tokens: int) -> Path:
    runs = CapturedRuns()
    for number in range(12):
        with runs.task(f"t{number}", value="0.01") as task:
            runs.run(said("3"), tokens=tokens)
            task.succeed() if number < successes else task.fail()
    return runs.stored(path)


@pytest.fixture
def report(tmp_path: Path) -> Report:
    before = stored(tmp_path / "before.duckdb", successes=6, tokens=1_000)
    after = stored(tmp_path / "after.duckdb", successes=9, tokens=500)
    return make_comparison(before, after, PriceBook.from_toml(PRICE))


def test_a_terminal_shows_both_sides_and_the_change_with_its_interval(report: Report) -> None:
    text = render(report, "text")

    assert "12 tasks judged both times." in text
    assert "3 failed before and succeeded after, 0 the other way round (exact McNemar test: p = 0.25)." in text
    assert "Before: 2,000; After: 667; Change: 0.33 times; 95% interval: 0.17 times to 0.50 times" in " ".join(
        text.split()
    )


def test_programs_and_browsers_get_the_same(report: Report) -> None:
    (page,) = json.loads(render(report, "json"))["pages"]
    assert page["id"] == "comparison"
    assert "0.33 times" in render(report, "html")

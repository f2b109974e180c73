from __future__ import annotations

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.report.figure import Figure
from tokenomics_plugin.report.headline import COST_PER_SUCCESS
from tokenomics_plugin.report.table import WIDTH, aligned, display_width
from tokenomics_plugin.report.wording import instant, usd, visible
from tokenomics_plugin.statistics import ConfidenceSet, Range, SetShape


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0"),
        (Decimal("1234567.891"), "$1,234,567.89"),
        (Decimal("2.5"), "$2.50"),
        (Decimal("0.05"), "$0.0500"),
        (0.000012345, "$0.0000123"),
        (0.9999, "$1.00"),
        (-0.0614, "-$0.0614"),
        (-12, "-$12.00"),
        (3.21e-12, "$3.21e-12"),
    ],
)
def test_dollars_keep_three_digits_below_one(amount: Decimal | float, text: str) -> None:
    assert usd(amount) == text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain name", "plain name"),
        ("\x1b[2J", r"\x1b[2J"),
        ("nul\x00", r"nul\x00"),
        ("a\nb\u2028c", r"a\x0ab\u2028c"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\ud800", r"\ud800"),
        ("\U000e0041tag", r"\U000e0041tag"),
        ("שלום 日本 é", "שלום 日本 é"),
    ],
    ids=["plain", "escape", "nul", "lines", "direction", "invisible", "surrogate", "tag", "other scripts"],
)
def test_what_steers_or_hides_is_spelled_out(raw: str, shown: str) -> None:
    assert visible(raw) == shown


@given(st.text(st.characters()))
def test_a_visible_name_can_be_printed_on_one_line(raw: str) -> None:
    shown = visible(raw)
    assert shown.encode().decode() == shown
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(character).startswith("C") for character in shown)


def test_a_long_name_is_cut() -> None:
    assert len(visible("x" * 5000)) == 200


def test_time_is_told_in_utc() -> None:
    assert instant(1_772_000_000 * 10**9) == "2026-02-25 06:13 UTC"
    assert instant(None) == "unknown"


def words(**fields: object) -> str:
    figure = Figure(
        **{  # type: ignore[arg-type]
            "numerator": Decimal(40),
            "denominator": Decimal(20),
            "tasks": 30,
            "clusters": 30,
            "left_out": 0,
            "missing": 0,
            "estimate": 2.0,
            "confidence": ConfidenceSet(shape=SetShape.INTERVAL, low=1.5, high=3.0),
            "withheld": None,
            "caveat": None,
            "bounds": None,
            "bounds_confidence": None,
            **fields,
        }
    )
    found = COST_PER_SUCCESS.words(figure)
    return " | ".join((found.value, found.interval, found.bounds, found.basis, found.note))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "$2.00 | $1.50 to $3.00 |  | $40.00 for 20 successes | "),
        (
            {"confidence": ConfidenceSet(shape=SetShape.DISJOINT, low=1.5, high=-4)},
            "$2.00 | $1.50 or more, no limit |  | $40.00 for 20 successes | ",
        ),
        (
            {"confidence": ConfidenceSet(shape=SetShape.DISJOINT, low=1.5, high=0.25)},
            "$2.00 | up to $0.250, or $1.50 and more |  | $40.00 for 20 successes | ",
        ),
        (
            {"confidence": ConfidenceSet(shape=SetShape.AT_MOST, high=1.5)},
            "$2.00 | $1.50 or less |  | $40.00 for 20 successes | ",
        ),
        (
            {"confidence": ConfidenceSet(shape=SetShape.EVERYTHING)},
            "$2.00 | anything |  | $40.00 for 20 successes | ",
        ),
        (
            {"bounds": Range(low=1, high=None), "missing": 3, "clusters": 12, "left_out": 1},
            "$2.00 | $1.50 to $3.00 | $1.00 or more | $40.00 for 20 successes in 12 groups; 1 task left out, "
            "a side is unknown | ",
        ),
        (
            {"estimate": None, "confidence": None, "withheld": "too few", "tasks": 0},
            " |  |  | no task with both sides known in 30 groups | too few",
        ),
    ],
    ids=["interval", "no limit", "two rays", "at most", "anything", "bounds", "withheld"],
)
def test_a_figure_in_words(fields: dict[str, object], text: str) -> None:
    assert words(**fields) == text


def test_tables_fit_the_screen_and_align_wide_characters() -> None:
    lines = aligned(("name", "cost"), [("日本語" * 40, "$1.00"), ("e\u0301", "$10.00")])
    assert [display_width(line) for line in lines[1:]] == [WIDTH, WIDTH]
    assert lines[1].endswith("…    $1.00")

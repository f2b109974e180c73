"""The documentation says what the code does, or this fails."""

from __future__ import annotations

import re
from pathlib import Path

from tokenomics_plugin import semconv

ROOT = Path(__file__).parent.parent
SEMCONV_PAGE = (ROOT / "docs" / "semconv.md").read_text(encoding="utf-8")


def test_the_semconv_page_lists_every_name_of_ours_and_no_other() -> None:
    ours = {value for value in vars(semconv).values() if isinstance(value, str) and value.startswith("tokenomics.")}
    listed = set(re.findall(r"^\| `(tokenomics\.[a-z_.]+)`", SEMCONV_PAGE, flags=re.MULTILINE))

    assert listed == ours


def test_the_semconv_page_lists_every_earlier_spelling() -> None:
    rows = dict(re.findall(r"^\| `(gen_ai\.[a-z_.]+)` \| (`gen_ai\.[^|]+) \|$", SEMCONV_PAGE, flags=re.MULTILINE))
    listed = {today: tuple(re.findall(r"`([^`]+)`", spellings)) for today, spellings in rows.items()}

    assert listed == semconv.OLD_NAMES


def test_the_semconv_page_names_the_pinned_commit() -> None:
    assert f"commit `{semconv.CONVENTIONS_COMMIT}`" in SEMCONV_PAGE

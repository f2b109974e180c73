"""Pages say the same of the same rows, in whatever order a database hands them out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from report_stores import CASES, PRICES, stored
from tokenomics_plugin.analysis import Analysis, analyse
from tokenomics_plugin.analysis.analysis import tables_in_memory
from tokenomics_plugin.pages.making import NO_OPTIONS, make_pages
from tokenomics_plugin.report.document import Page


def pages(analysis: Analysis) -> tuple[Page, ...]:
    return make_pages(analysis, NO_OPTIONS, look_at=lambda _: None)


def backwards(analysis: Analysis) -> Analysis:
    """The analysis with each table's rows in the opposite order."""
    with analysis.database.cursor() as cursor:
        names = [name for (name,) in cursor.execute("SHOW TABLES").fetchall()]
        tables = {name: cursor.sql(f"FROM {name} ORDER BY rowid DESC").to_arrow_table() for name in names}
    return replace(analysis, database=tables_in_memory(tables))


@pytest.mark.parametrize("case", CASES)
def test_pages_do_not_depend_on_the_order_of_rows(case: str, tmp_path: Path) -> None:
    analysis = analyse(str(stored(CASES[case](), tmp_path / "case.duckdb")), PRICES)
    assert pages(backwards(analysis)) == pages(analysis)

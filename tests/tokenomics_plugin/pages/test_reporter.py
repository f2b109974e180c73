from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tokenomics_plugin.pages import Report, ReportError, render, write_report


def test_an_unknown_format_names_the_known_ones(busy_report: Report) -> None:
    with pytest.raises(ReportError, match="format must be one of text, json, html, got 'pdf'"):
        render(busy_report, "pdf")


@pytest.mark.parametrize("path", [None, "-"], ids=["none", "dash"])
def test_no_file_or_a_dash_is_stdout(busy_report: Report, capsys: pytest.CaptureFixture[str], path: str | None) -> None:
    write_report(busy_report, "text", path)
    assert capsys.readouterr().out == render(busy_report, "text")


def test_a_terminal_without_unicode_shows_something_else(busy_report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    write_report(busy_report, "text")
    assert b"cost ? $" in raw.getvalue()


def test_a_file_and_its_folder_are_made(busy_report: Report, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    write_report(busy_report, "json", path)
    assert path.read_text(encoding="utf-8") == render(busy_report, "json")
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_earlier_report_and_no_half_one(
    busy_report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.txt"
    path.write_text("earlier")

    def full_disk(self: Path, data: str, encoding: str) -> int:
        self.write_bytes(data.encode(encoding)[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(ReportError, match=r"cannot write the report to .*report\.txt: No space left on device"):
        write_report(busy_report, "text", path)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_is_a_folder_is_refused(busy_report: Report, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot write the report to"):
        write_report(busy_report, "text", tmp_path)


def test_a_report_that_cannot_be_made_writes_nothing(busy_report: Report, tmp_path: Path) -> None:
    with pytest.raises(ReportError):
        write_report(busy_report, "pdf", tmp_path / "report.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_report_can_be_had_page_by_page(busy_report: Report) -> None:
    assert busy_report.page_ids == ("finance", "engineering", "developer")
    assert busy_report.only("engineering").page_ids == ("engineering",)
    with pytest.raises(ReportError, match="page must be one of finance, engineering, developer, got 'sales'"):
        busy_report.only("sales")

"""Which view a format is, and where its output goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from tokenomics_plugin.errors import TokenomicsError
from tokenomics_plugin.report.json_view import render_json
from tokenomics_plugin.report.summary import Summary
from tokenomics_plugin.report.text_view import render_text

__all__ = ["FORMATS", "ReportError", "Reporter", "render", "write_report"]

_STDOUT: Final = "-"


class ReportError(TokenomicsError, ValueError):
    """A report that cannot be made as asked."""


class Reporter(Protocol):
    """A view: turns a summary into text, and computes nothing."""

    def __call__(self, summary: Summary, /) -> str:
        """The whole output."""
        ...


def _html(summary: Summary) -> str:
    from tokenomics_plugin.report.html_view import render_html  # needs plotly, which the others do not

    return render_html(summary)


FORMATS: Final[Mapping[str, Reporter]] = {"text": render_text, "json": render_json, "html": _html}
"""Format -> its view."""


def render(summary: Summary, form: str) -> str:
    """The report in a format.

    Raises:
        ReportError: If there is no such format.
    """
    try:
        reporter = FORMATS[form]
    except KeyError:
        raise ReportError(f"format must be one of {', '.join(FORMATS)}, got {form!r}") from None
    return reporter(summary)


def write_report(summary: Summary, form: str, path: str | os.PathLike[str] | None = None) -> None:
    """Write the report to a file, whose folder is made, or to stdout (`None` or `-`).

    The file appears whole or not at all: an earlier report stays until then.

    Raises:
        ReportError: If there is no such format, or the file cannot be written.
    """
    output = render(summary, form)
    if path is None or os.fspath(path) == _STDOUT:
        _print(output)
    else:
        _replace(Path(path), output)


def _print(output: str) -> None:
    # A terminal that lacks a character shows another in its place; that is no reason to fail.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(output.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _replace(path: Path, output: str) -> None:
    half_written = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half_written.write_text(output, encoding="utf-8")
        half_written.replace(path)
    except OSError as error:
        raise ReportError(f"cannot write the report to {path}: {error.strerror or error}") from error
    finally:
        half_written.unlink(missing_ok=True)

"""The summary and the pages as one JSON document, for programs.

`summary.schema.json`, beside this module, describes it. Exact amounts are decimal strings, estimates are numbers,
what is unknown is null, and the text is ASCII: every other character is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Final

from tokenomics_plugin.report.document import Page
from tokenomics_plugin.report.document_json import page_json
from tokenomics_plugin.report.summary import Summary

__all__ = ["SCHEMA_VERSION", "render_json", "schema"]

SCHEMA_VERSION: Final = "1.2"
"""Raised in the second place when a key is added, in the first when one changes or goes."""


def render_json(summary: Summary, pages: Sequence[Page]) -> str:
    """The document, indented, with a newline at its end."""
    written = [page_json(page) for page in pages]
    document = {"schema_version": SCHEMA_VERSION, **_plain(summary), "pages": written}
    return json.dumps(document, default=_plain, indent=2, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document."""
    text = files("tokenomics_plugin.report").joinpath("summary.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value else "0"
    if is_dataclass(value) and not isinstance(value, type):
        return {name: getattr(value, name) for name in _field_names(type(value))}
    raise TypeError(f"a summary holds no {type(value).__name__}")


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))

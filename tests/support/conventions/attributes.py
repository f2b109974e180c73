"""The rules that hold for attributes wherever they are: known names, types, words, and content only where asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from conventions import tables
from conventions.findings import Finding, violation
from conventions.values import problems_of_value

__all__ = ["findings_of_attributes"]

_PROMPT_VARIABLE = "gen_ai.prompt.variable."


def findings_of_attributes(
    subject: str, attributes: Mapping[str, object], *, with_content: bool, known: Mapping[str, str]
) -> Iterator[Finding]:
    """Check each attribute by itself.

    Args:
        subject: What carries them.
        attributes: Them.
        with_content: Whether content was asked for.
        known: Name -> type of those that the place allows beyond the general ones.
    """
    for name, value in attributes.items():
        kind = known.get(name) or tables.ATTRIBUTES.get(name) or tables.OWN_ATTRIBUTES.get(name)
        if kind is None and not name.startswith(_PROMPT_VARIABLE):
            yield violation("unknown", subject, f"{name} is an attribute of no convention")
            continue
        for problem in problems_of_value(kind or tables.STRING, value):
            yield violation("type", subject, f"{name} {problem}")
        if name in tables.OWN_VALUES and value not in tables.OWN_VALUES[name]:
            yield violation("value", subject, f"{name} is {value!r}")
        if not with_content and (name in tables.CONTENT or name.startswith(_PROMPT_VARIABLE)):
            yield violation("content", subject, f"{name} tells content that nobody asked for")

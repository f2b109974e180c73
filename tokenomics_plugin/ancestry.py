"""What spans hand down to the spans below them: instrumentations write most names on one span only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

__all__ = ["HasParent", "inherited"]


class HasParent(Protocol):
    """A span of which the parent is known."""

    @property
    def parent_span_id(self) -> str | None:
        """16 hex digits; `None` for a root."""
        ...


_Span = TypeVar("_Span", bound=HasParent)
_Value = TypeVar("_Value")


def inherited(
    spans: Mapping[str, _Span], hand_down: Callable[[_Value, _Span], _Value], *, nothing: _Value
) -> dict[str, _Value]:
    """What the children of each span inherit.

    Args:
        spans: Those of one trace by their ids, in any order; parents may be missing.
        hand_down: What the children of a span inherit, given what the span itself inherits.
        nothing: What a root inherits, and who is its own ancestor.
    """
    values: dict[str, _Value] = {}
    for span_id in spans:
        # A loop, because a hostile trace may be deeper than the stack.
        lineage = []
        link = span_id
        while link in spans and link not in values:
            lineage.append(link)
            values[link] = nothing  # ends a cycle of parents where it began
            link = spans[link].parent_span_id or ""
        value = values.get(link, nothing)
        for descendant in reversed(lineage):
            value = values[descendant] = hand_down(value, spans[descendant])
    return values

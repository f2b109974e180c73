"""Which of several spans of one model call bears its tokens, when instrumentations of two layers saw the call.

A framework's span stands around the provider's, and both name the tokens. Whichever arrives first keeps them: spans
end from the inside out and are exported in that order, so it mostly is the provider's, which knows best. What is
remembered is bounded, and a few words a call.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Nesting"]

_MAX_SPANS: Final = 200_000


class Nesting:
    """Model calls so far, and the spans around and inside them."""

    def __init__(self) -> None:
        self._around: dict[bytes, None] = {}
        self._inside: dict[bytes, None] = {}

    def is_repeat(self, span: bytes, parent: bytes | None, *, is_call: bool, is_border: bool) -> bool:
        """Take a span, and say whether it is a model call that was seen already, from outside or inside.

        Args:
            span: Its trace id and span id.
            parent: The same of its parent; `None` for a root.
            is_call: Whether it is a model call.
            is_border: Whether calls below it are calls of their own: it is a tool or an agent.
        """
        contains = span in self._around
        self._around.pop(span, None)
        lies_inside = parent in self._inside
        if is_call and not contains and not lies_inside:
            _remember(self._inside, span)
        if lies_inside and not is_border:
            _remember(self._inside, span)
        if parent is not None and (contains or is_call) and not is_border:
            _remember(self._around, parent)
        return is_call and (contains or lies_inside)


def _remember(table: dict[bytes, None], span: bytes) -> None:
    table[span] = None
    if len(table) > _MAX_SPANS:
        del table[next(iter(table))]

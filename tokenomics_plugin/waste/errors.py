"""What an error's class says about trying again: whether the same request must fail again, or may pass later.

Spans name the exception's class, as libraries call it, or a status code. The words of such names tell the two kinds
apart. Where they do not, nobody knows, and that is a third answer.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

__all__ = ["is_deterministic", "is_transient"]

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_TRANSIENT_CODES: Final = frozenset({"408", "409", "425", "429"})
_TRANSIENT, _DETERMINISTIC = (
    frozenset(words.split())
    for words in (
        "timeout timed throttled throttling overloaded unavailable connection connect reset refused network socket "
        "transport protocol interrupted aborted exhausted quota busy retryable transient temporary temporarily gateway "
        "dns deadline disconnected os io",
        "validation invalid schema value type key index attribute parse parser parsing syntax decode json argument "
        "arguments bad unprocessable found missing unknown permission forbidden denied unauthorized authentication "
        "authorization unsupported assertion zero arithmetic lookup exists conflict constraint integrity length "
        "import module name unicode overflow",
    )
)
_TRANSIENT_PAIRS: Final = frozenset({("rate", "limit"), ("internal", "server"), ("server", "error")})


def is_transient(error_type: str | None) -> bool:
    """Whether an error may pass by itself: too many requests, a server's fault, a lost connection, a limit of time."""
    return error_type is not None and _kind(error_type) is True


def is_deterministic(error_type: str | None) -> bool:
    """Whether the same request must fail again: it was malformed, unknown or not allowed."""
    return error_type is not None and _kind(error_type) is False


@lru_cache(maxsize=1024)
def _kind(error_type: str) -> bool | None:
    """True for transient, false for deterministic, `None` for unknown."""
    words = [word.lower() for word in _WORD.findall(error_type.rpartition(".")[2])]
    codes = [word for word in words if len(word) == 3 and word.isdecimal()]
    if any(code in _TRANSIENT_CODES or code.startswith("5") for code in codes):
        return True
    if any(code.startswith("4") for code in codes):
        return False
    transient = not _TRANSIENT.isdisjoint(words) or not _TRANSIENT_PAIRS.isdisjoint(pairwise(words))
    deterministic = not _DETERMINISTIC.isdisjoint(words)
    # A name that has words of both kinds proves nothing.
    return transient if transient != deterministic else None

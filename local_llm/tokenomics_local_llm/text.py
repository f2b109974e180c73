"""From tokens to text, piece by piece: whole characters only, and nothing from a stop sequence on.

Both classes hold text back until it is certain, so what they gave out is never taken back: a token may end
inside a character, and a text may end inside a stop sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["Detokenizer", "StopSequences"]

_UNFINISHED: Final = "\ufffd"
# An unfinished character lacks at least its last byte; some tokenizers show each byte of it as U+FFFD, some all as one.
_LONGEST_UNFINISHED: Final = 3


class Detokenizer:
    """Decodes tokens as they come; `decode` turns a whole list of tokens into text."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        """Those whose text is not all out, after some whose text is: tokenizers that strip a leading space decode a
        token differently at the start of a text."""
        self._given = 0
        """How many characters of the text of `_tokens` are out."""

    def push(self, tokens: Sequence[int]) -> str:
        """The text that these tokens complete."""
        self._tokens.extend(tokens)
        text = self._decode(self._tokens)
        unfinished = min(len(text) - len(text.rstrip(_UNFINISHED)), _LONGEST_UNFINISHED)
        piece = self._give(text[: len(text) - unfinished])
        if not unfinished:
            self._tokens = list(tokens)
            self._given = len(self._decode(self._tokens))
        return piece

    def flush(self) -> str:
        """What is left at the end; bytes that never became a character read U+FFFD."""
        return self._give(self._decode(self._tokens))

    def _give(self, text: str) -> str:
        piece, self._given = text[self._given :], max(self._given, len(text))
        return piece


class StopSequences:
    """Cuts a text before whichever of several stop sequences is complete first, wherever its pieces meet."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.reached = False
        """Whether a stop sequence has been seen; nothing comes out after it."""

    def push(self, text: str) -> str:
        """What of the text so far cannot be part of a stop sequence any more."""
        if self.reached:
            return ""
        held = self._held + text
        # The one that is complete first counts, not the one that starts first: so it does not matter how the text
        # was cut into pieces.
        found = [(at + len(stop), at) for stop in self._stop if (at := held.find(stop)) >= 0]
        if found:
            self.reached, self._held = True, ""
            return held[: min(found)[1]]
        certain = len(held) - self._started(held)
        self._held = held[certain:]
        return held[:certain]

    def flush(self) -> str:
        """What was held back for a stop sequence that never came."""
        held, self._held = self._held, ""
        return held

    def _started(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop sequence starts."""
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        lengths = range(min(longest, len(text)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(text[-n:]) for stop in self._stop)), 0)

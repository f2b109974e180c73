"""Whether what users wrote may leave the process, and in which words.

Off by default, as the GenAI conventions ask for. What is captured passes the application's redaction
first; a redaction that fails lets nothing pass.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from tokenomics_langchain.attributes import Attributes
from tokenomics_plugin import semconv

__all__ = ["ContentCapture", "Redaction"]

_LOGGER = logging.getLogger(__name__)

Redaction = Callable[[str, str], str | None]
"""From an attribute's name and its text to the text that may leave the process; `None` leaves it out."""

# `true` is what earlier generations of the variable said.
_ON_SPANS: Final = frozenset({"span_only", "span_and_event", "true"})
_ON_EVENTS: Final = frozenset({"event_only", "span_and_event"})
_OFF: Final = frozenset({"", "no_content", "false"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentCapture:
    """Where content goes."""

    on_spans: bool = False
    """As attributes of spans, error messages included."""
    on_events: bool = False
    """As attributes of the `gen_ai.client.inference.operation.details` event."""
    redact: Redaction | None = None
    """What content passes before it leaves."""

    @classmethod
    def from_environment(cls, redact: Redaction | None = None) -> Self:
        """As `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` says.

        Its values are `NO_CONTENT`, `SPAN_ONLY`, `EVENT_ONLY` and `SPAN_AND_EVENT`. Anything else captures
        nothing, and a warning says so.
        """
        asked = os.environ.get(semconv.CAPTURE_CONTENT_VARIABLE, "").strip().lower()
        if asked not in _ON_SPANS | _ON_EVENTS | _OFF:
            _LOGGER.warning(
                "%s=%s is none of NO_CONTENT, SPAN_ONLY, EVENT_ONLY and SPAN_AND_EVENT: no content is captured",
                semconv.CAPTURE_CONTENT_VARIABLE,
                asked,
            )
        return cls(on_spans=asked in _ON_SPANS, on_events=asked in _ON_EVENTS, redact=redact)

    def __bool__(self) -> bool:
        """Whether content is captured at all."""
        return self.on_spans or self.on_events

    def passed(self, content: Attributes) -> Attributes:
        """Content as it may leave the process."""
        if self.redact is None:
            return dict(content)
        texts = ((name, self._redacted(name, str(text))) for name, text in content.items())
        return {name: text for name, text in texts if text is not None}

    def text(self, name: str, text: str) -> str | None:
        """One text for a span; `None` when it may not leave."""
        return self._redacted(name, text) if self.on_spans else None

    def _redacted(self, name: str, text: str) -> str | None:
        if self.redact is None:
            return text
        try:
            return self.redact(name, text)
        except Exception as error:
            # Not the error's text: it may repeat what was to be redacted.
            _LOGGER.warning("redacting %s failed with %s: left out", name, type(error).__qualname__)
            return None

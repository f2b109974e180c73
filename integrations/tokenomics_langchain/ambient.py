"""The current span while user code runs inside a tool, a node or a branch, without a context that stays behind.

LangChain may report a run's end in another task or thread than its start, or never: what a callback
attaches cannot always be detached. So what is attached here heals by itself. When the run ends, the
context names the span that was current before, in whichever thread, task or generator it is still found.

Only runs whose user code ends before their caller goes on may be made current. A stream that the caller
consumes is none of them: between two chunks, the caller's code would see its span.
"""

from __future__ import annotations

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context

__all__ = ["AmbientSpan", "span_in", "with_span"]

# The key under which OpenTelemetry keeps the current span; it has no public name.
(_CURRENT_SPAN,) = set_span_in_context(INVALID_SPAN, Context())


class AmbientSpan(Context):
    """The context in which a span is current, for as long as it is open."""

    def __init__(self, span: Span, previous: Context) -> None:
        super().__init__(previous)
        dict.__setitem__(self, _CURRENT_SPAN, span)
        self._previous = previous

    @classmethod
    def attach(cls, span: Span) -> AmbientSpan:
        """Make a span current here, and in what is started from here."""
        ambient = cls(span, otel_context.get_current())
        otel_context.attach(ambient)
        return ambient

    def heal(self) -> None:
        """Name the span again that was current before; where this still is the current context, leave it."""
        if otel_context.get_current() is self:
            otel_context.attach(self._previous)
        # One operation each, so that code in another thread sees the one or the other.
        if _CURRENT_SPAN in self._previous:
            dict.__setitem__(self, _CURRENT_SPAN, self._previous[_CURRENT_SPAN])
        else:
            dict.pop(self, _CURRENT_SPAN, None)


def span_in(context: Context) -> object:
    """The span that a context names as the current one; `None` when it names none."""
    return context.get(_CURRENT_SPAN)


def with_span(span: Span, context: Context) -> Context:
    """A context that names a span as the current one."""
    return context if context.get(_CURRENT_SPAN) is span else set_span_in_context(span, context)

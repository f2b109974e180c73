"""The current span while user code runs inside a tool, a node or a branch, without a context that stays behind.

LangChain may report a run's end in another task or thread than its start, or never: what a callback
attaches cannot always be detached. So what is attached here heals by itself. When the run ends, the
context names the span that was current before, in whichever thread, task or generator it is still found.

The run's span need not have been started: whoever looks for the current span has that done.

Only runs whose user code ends before their caller goes on may be made current. A stream that the caller
consumes is none of them: between two chunks, the caller's code would see its span.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Any, Final, Protocol

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context

__all__ = ["AmbientSpan", "Shown", "get_current", "span_in", "with_span", "without_span_of_run"]

# The API's own functions only pass calls on to these, and every run passes here up to four times.
_runtime: Final = getattr(otel_context, "_RUNTIME_CONTEXT", otel_context)
get_current: Final[Callable[[], Context]] = _runtime.get_current
_attach: Final[Callable[[Context], object]] = _runtime.attach

# The key under which OpenTelemetry keeps the current span; it has no public name.
(_CURRENT_SPAN,) = set_span_in_context(INVALID_SPAN, Context())


class Shown(Protocol):
    """What a span shows, or will show."""

    def current_span(self) -> Span | None:
        """The span, started now if it was not; `None` when it is not to be current."""


class AmbientSpan(Context):
    """The context in which a run's span is current, for as long as the run is open."""

    __slots__ = ("_previous", "_rest", "_run")

    def __init__(self, run: Shown, previous: Context) -> None:
        # The dict that this is stays empty; whoever reads it, or copies it, is answered by the methods below.
        self._run: Shown | None = run
        self._previous = previous
        self._rest: Context = previous._rest if isinstance(previous, AmbientSpan) else previous

    @classmethod
    def attach(cls, run: Shown, current: Context | None = None) -> AmbientSpan:
        """Make a run's span current here, and in what is started from here; `current` is what is so far, if known."""
        ambient = cls(run, _behind_healed(get_current() if current is None else current))
        _attach(ambient)
        return ambient

    def shows(self, run: Shown) -> bool:
        """Whether this is the context of a run that is open."""
        return self._run is run

    def heal(self) -> None:
        """Name the span again that was current before; where this still is the current context, leave it."""
        self._run = None
        self._previous = _behind_healed(self._previous)
        if get_current() is self:
            _attach(self._previous)

    # Reading it as a dict, in any way that a copy could be made of it.

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key; of the current span's, whatever is current now."""
        if key != _CURRENT_SPAN:
            return self._rest.get(key, default)
        run = self._run
        span = None if run is None else run.current_span()
        return self._previous.get(key, default) if span is None else span

    def copy(self) -> dict[str, Any]:
        """A plain dict of what it says now."""
        copied, span = self._rest.copy(), self.get(_CURRENT_SPAN)
        if span is None:
            copied.pop(_CURRENT_SPAN, None)
        else:
            copied[_CURRENT_SPAN] = span
        return copied

    def __getitem__(self, key: str) -> Any:
        return self.copy()[key]

    def __contains__(self, key: object) -> bool:
        return key in self.copy()

    def __iter__(self) -> Iterator[str]:
        return iter(self.copy())

    def __len__(self) -> int:
        return len(self.copy())

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """As of a dict."""
        return self.copy().keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """As of a dict."""
        return self.copy().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """As of a dict."""
        return self.copy().items()


def _behind_healed(context: Context) -> Context:
    """The context that healed ones stand for: they must not pile up where nobody takes them away."""
    while isinstance(context, AmbientSpan) and context._run is None:
        context = context._previous
    return context


def span_in(context: Context) -> object:
    """The span that a context names as the current one; `None` when it names none."""
    return context.get(_CURRENT_SPAN)


def without_span_of_run(context: Context) -> Context:
    """A context of the application's, as it would be if no span of a run were current in it."""
    return context._rest if isinstance(context, AmbientSpan) else context


def with_span(span: Span, context: Context) -> Context:
    """A context that names a span as the current one."""
    if isinstance(context, AmbientSpan):  # which would have the span started that it names itself
        return set_span_in_context(span, context._rest)
    return context if context.get(_CURRENT_SPAN) is span else set_span_in_context(span, context)

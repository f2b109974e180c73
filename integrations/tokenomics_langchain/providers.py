"""What the handlers of one tracer provider share, and what ends with the provider.

A run must be recorded once, whichever handlers hear of it, so the table of open runs belongs to the provider.
So does its end: before the provider shuts down, or the process does, the spans that are still open end,
because a span that ends later is lost.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from types import MethodType
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import ProxyTracerProvider, Tracer, TracerProvider

from tokenomics_langchain.backlog import drain_all
from tokenomics_langchain.interrupts import Interruptions
from tokenomics_langchain.runs import Runs
from tokenomics_plugin import semconv
from tokenomics_plugin.version import package_version

__all__ = ["Shared", "shared_by", "tracer_of"]

_LOGGER = logging.getLogger(__name__)
_MAX_INTERRUPTIONS: Final = 1_000
_lock = threading.Lock()


class _Global:
    """Stands for the global provider, which a program may set after its handlers were made."""


_GLOBAL: Final = _Global()


class Shared:
    """What the handlers of one provider share."""

    def __init__(self, provider: Any, *, max_open: int, idle_limit_s: float) -> None:
        self.runs = Runs(max_open=max_open, idle_limit_s=idle_limit_s)
        self.interruptions = Interruptions(limit=_MAX_INTERRUPTIONS)
        self._provider = weakref.ref(provider)
        self._is_watched = False

    def watch_provider(self) -> None:
        """See to it that open spans end before the provider shuts down; does nothing the second time."""
        if self._is_watched:
            return
        provider = self._provider()
        provider = trace.get_tracer_provider() if provider is _GLOBAL else provider
        if provider is not None and not isinstance(provider, ProxyTracerProvider):
            self._is_watched = True
            _sweep_at_shutdown(provider, weakref.ref(self.runs))
            _before(provider, "force_flush", drain_all)


_shared: weakref.WeakKeyDictionary[Any, Shared] = weakref.WeakKeyDictionary()


def shared_by(provider: TracerProvider | None, *, max_open: int, idle_limit_s: float) -> Shared:
    """What the handlers of a provider share; of the global one, if `None`."""
    current = trace.get_tracer_provider()
    key = _GLOBAL if provider is None or provider is current else provider
    try:
        with _lock:
            # A provider that became the global one after its first handler was made keeps that handler's table.
            shared = _shared.get(current if key is _GLOBAL else key) or _shared.get(key)
            if shared is None:
                shared = _shared[key] = Shared(key, max_open=max_open, idle_limit_s=idle_limit_s)
        return shared
    except TypeError:  # not hashable: its handlers share nothing, and record apart
        return Shared(key, max_open=max_open, idle_limit_s=idle_limit_s)


def tracer_of(provider: TracerProvider | None) -> Tracer:
    """Our tracer of a provider."""
    return trace.get_tracer("tokenomics_langchain", package_version(), provider, schema_url=semconv.SCHEMA_URL)


def _sweep_at_shutdown(provider: Any, runs: weakref.ref[Runs]) -> None:
    # The SDK's provider shuts down at exit too; what is registered later is called earlier.
    atexit.register(_sweep, runs)
    _before(provider, "shutdown", partial(_sweep, runs))


def _before(provider: Any, name: str, prepare: Callable[[], None]) -> None:
    """Have something done before a method of a provider runs."""
    method = getattr(provider, name, None)
    if not isinstance(method, MethodType):
        return
    original = weakref.WeakMethod(method)

    @wraps(method)
    def prepare_and_call(*args: Any, **kwargs: Any) -> Any:
        prepare()
        method = original()
        return None if method is None else method(*args, **kwargs)

    with suppress(AttributeError, TypeError):  # a provider that takes no attributes keeps its own method
        setattr(provider, name, prepare_and_call)


def _sweep(runs: weakref.ref[Runs]) -> None:
    if (open_runs := runs()) is None:
        return
    try:
        drain_all()
        open_runs.sweep()
    except Exception as error:
        _LOGGER.warning("ending the spans that were open failed with %s", type(error).__qualname__)

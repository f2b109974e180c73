"""Handlers that hear every LangChain run of the process, though nobody passes them.

LangChain asks the variables of a list for handlers whenever it sets up the callbacks of a run. They are context
variables as a rule, which a new thread does not know; all it does with one is to call `get`, so ours is an object
that answers alike in every thread, task and event loop.

LangGraph tells of interrupts and resumptions by managers that it makes from the configuration alone. The two
functions that make them are wrapped while anybody listens.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache, wraps
from importlib import import_module
from typing import Any, Final, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers import context as hook_module
from langgraph.callbacks import GraphCallbackHandler

__all__ = ["Listener", "listen"]

_LOGGER = logging.getLogger(__name__)
_MANAGER_FACTORIES: Final = (
    "get_sync_graph_callback_manager_for_config",
    "get_async_graph_callback_manager_for_config",
)

# A listener may be stopped by the garbage collector, in any line of a thread that holds the lock.
_lock = threading.RLock()
_hooks: dict[int, _Hook] = {}
_factories: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}


class Listener:
    """Has a handler hear all runs that start before `stop`."""

    def __init__(self, hook: _Hook) -> None:
        self._hook = hook

    def stop(self) -> None:
        """Leave LangChain and LangGraph as they were, unless others listen; does nothing the second time."""
        with _lock:
            self._hook.listeners.discard(self)
            if not self._hook.listeners:
                _remove(self._hook)
            if not _hooks:
                _unwrap_manager_factories()


class _Hook:
    """A handler's place in LangChain's list, and all who want it there."""

    def __init__(self, handler: BaseCallbackHandler) -> None:
        self.handler = handler
        self.listeners: set[Listener] = set()

    def get(self) -> BaseCallbackHandler:
        """The handler; LangChain asks twice in a row and must not be told different things."""
        return self.handler


def listen(handler: BaseCallbackHandler) -> Listener:
    """Have a handler hear every run of the process, in all threads and event loops, until `stop` is called.

    A run hears a handler once, however often it listens and though it is passed to the run as well. The handler is
    kept alive meanwhile.
    """
    with _lock:
        hook = _hooks.get(id(handler)) or _Hook(handler)
        listener = Listener(hook)
        hook.listeners.add(listener)
        # Only now, when no stopping listener can take the hook away any more.
        _add(hook)
        _wrap_manager_factories()
    return listener


def _add(hook: _Hook) -> None:
    if _hooks.setdefault(id(hook.handler), hook) is hook and _place_of(hook) is None:
        hook_module.register_configure_hook(cast("ContextVar[Any]", hook), inheritable=True)


def _remove(hook: _Hook) -> None:
    _hooks.pop(id(hook.handler), None)
    if (place := _place_of(hook)) is not None:
        hook_module._configure_hooks.remove(place)


def _place_of(hook: _Hook) -> Any:
    places = getattr(hook_module, "_configure_hooks", ())
    return next((place for place in list(places) if place[0] is hook), None)


def _wrap_manager_factories() -> None:
    if _factories:
        return
    module = _graph_module()
    for name in _MANAGER_FACTORIES:
        if (original := getattr(module, name, None)) is None:
            _report_absent(name)
            continue
        wrapper = _with_listeners(original)
        _factories[name] = (wrapper, original)
        setattr(module, name, wrapper)


def _unwrap_manager_factories() -> None:
    module = _graph_module()
    while _factories:
        name, (wrapper, original) = _factories.popitem()
        # Where somebody wrapped our wrapper, it stays, and finds no listeners.
        if getattr(module, name, None) is wrapper:
            setattr(module, name, original)


def _graph_module() -> Any:
    try:
        return import_module("langgraph.pregel.main")
    except ImportError:
        return None


@cache
def _report_absent(name: str) -> None:
    _LOGGER.warning("This LangGraph has no %s: handlers that nobody passes miss interrupts and resumptions.", name)


def _with_listeners(make_manager: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(make_manager)
    def make_manager_with_listeners(*args: Any, **kwargs: Any) -> Any:
        manager = make_manager(*args, **kwargs)
        for hook in list(_hooks.values()):
            if isinstance(hook.handler, GraphCallbackHandler):
                manager.add_handler(hook.handler, inherit=False)  # adds none that is there already
        return manager

    return make_manager_with_listeners

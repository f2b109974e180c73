"""Describing what happened a little later than it happens.

A callback comes amid work of the program's, which has pushed our code and data out of the processor's caches:
there, a step costs two to three times of what it costs among its like. So a callback only notes who runs and when,
and makes the run's context current. Spans are started, described and ended in one go, with the times that were
noted: when the outermost run has ended, when somebody asks for a span, when many steps wait, and at the latest
after about a second, by a thread that sleeps while nothing waits.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Backlog", "Report", "Step", "drain_all"]

Report = Callable[[str, Exception], None]
"""Is told the name of a step that failed, and how."""

Step = tuple[Report, Callable[..., None], tuple[Any, ...]]
"""Who is told if it fails, what is called, and with which arguments; a plain tuple, for every event makes one."""

# Enough to be warm, and few enough that what they hold on to is free again before the garbage collector meets it.
_MAX_STEPS: Final = 96
_DELAY_S: Final = 1.0
# A step may run code that logs, and logging may ask for the current span in another thread.
_PATIENCE_S: Final = 1.0


class Backlog:
    """The steps of one tree of runs that are still to be taken, in the order of the events; safe to share."""

    __slots__ = ("_drainer", "_is_watched", "_lock", "_steps")

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()
        self._lock = threading.RLock()
        self._drainer: int | None = None
        self._is_watched = False

    def add(self, step: Step) -> None:
        """Have a step taken later; a step that fails is reported, and keeps none of the others from being taken."""
        self._steps.append(step)
        if not self._is_watched:
            self._is_watched = True
            _watch.begin(self)
        elif len(self._steps) >= _MAX_STEPS:
            self.drain()

    def drain(self) -> None:
        """Take all steps that wait, or see to it that they have been taken.

        Returns at once inside a step, and after a second if another thread is not done with them by then.
        """
        if self._drainer == threading.get_ident() or not self._lock.acquire(timeout=_PATIENCE_S):
            return
        try:
            self._drainer = threading.get_ident()
            # First, so that a step that is added meanwhile is watched again.
            self._is_watched = False
            _watch.end(self)
            while self._steps:
                report, take, args = self._steps.popleft()
                try:
                    take(*args)
                except Exception as error:
                    report(take.__name__, error)
        finally:
            self._drainer = None
            self._lock.release()


def drain_all() -> None:
    """Take the steps of all trees that wait."""
    _watch.drain()


class _Watch:
    """Has steps taken that wait while nothing happens, such as those before a tool that takes an hour."""

    def __init__(self) -> None:
        self._waiting: dict[int, Backlog] = {}
        self._something_waits = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, backlog: Backlog) -> None:
        """Drain a backlog in a second, if it has not been by then."""
        self._waiting[id(backlog)] = backlog
        if not self._something_waits.is_set():
            self._something_waits.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tokenomics-backlog", daemon=True)
            self._thread.start()

    def end(self, backlog: Backlog) -> None:
        """It is being drained."""
        self._waiting.pop(id(backlog), None)

    def drain(self) -> None:
        """Drain what waits now."""
        for backlog in list(self._waiting.values()):
            backlog.drain()

    def reset(self) -> None:
        """Threads do not survive a fork."""
        self._something_waits = threading.Event()
        self._thread = None

    def _run(self) -> None:
        while True:
            self._something_waits.wait()
            waiting = dict(self._waiting)
            time.sleep(_DELAY_S)
            self._something_waits.clear()
            # Those that have begun to wait since then have time; most will be drained by then where they are filled.
            for key, backlog in waiting.items():
                if self._waiting.get(key) is backlog:
                    backlog.drain()
            if self._waiting:
                self._something_waits.set()


_watch: Final = _Watch()
if hasattr(os, "register_at_fork"):
    # Before, so that what the parent has to say is not said by both, and the child knows the spans that it is inside.
    os.register_at_fork(before=_watch.drain, after_in_child=_watch.reset)

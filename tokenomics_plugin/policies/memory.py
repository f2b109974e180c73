"""What policies remember of runs, bounded: an agent that is never heard of again must not stay for ever."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from tokenomics_plugin.policy import Mode

__all__ = ["Recent", "checked_mode", "is_named"]

_State = TypeVar("_State")
_MAX_SCOPES = 10_000


class Recent(Generic[_State]):
    """A state for each of the runs that were asked about last. Not safe by itself: its policy holds a lock."""

    def __init__(self, new: Callable[[], _State], *, most: int = _MAX_SCOPES) -> None:
        """Begin with none.

        Args:
            new: Makes the state of a run that nothing is known of.
            most: How many to keep.
        """
        self._new = new
        self._most = most
        self._states: OrderedDict[Hashable, _State] = OrderedDict()

    def of(self, scope: Hashable) -> _State:
        """The state of a scope."""
        state = self._states.pop(scope, None)
        if state is None:
            state = self._new()
        self._states[scope] = state
        if len(self._states) > self._most:
            self._states.popitem(last=False)
        return state


def is_named(name: str | None, patterns: frozenset[str]) -> bool:
    """Whether one of the patterns (`get_*`) is about a tool; case matters."""
    return name is not None and any(fnmatchcase(name, pattern) for pattern in patterns)


def checked_mode(mode: str) -> Mode:
    """A mode.

    Raises:
        ValueError: If there is no such mode.
    """
    if mode == "shadow":
        return "shadow"
    if mode == "enforce":
        return "enforce"
    raise ValueError(f"mode must be 'shadow' or 'enforce', got {mode!r}; 'shadow' only records what would be done")

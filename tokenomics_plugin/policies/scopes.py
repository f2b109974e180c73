"""What a policy remembers, kept apart by run, task or conversation, with the oldest forgotten."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final, Generic, Literal, TypeVar, get_args

from tokenomics_plugin.policy import Mode, ProposedCall

__all__ = ["Scope", "Scopes", "check_choice", "check_mode", "matches_any", "scope_of"]

Scope = Literal["run", "task", "conversation"]
"""What shares one memory: a run with its sub-agents, all runs of a task, or of a conversation."""
_State = TypeVar("_State")
_MOST: Final = 10_000


class Scopes(Generic[_State]):
    """One state a scope; forgets the scopes that were not used for longest. Its owner holds the lock."""

    def __init__(self, make: Callable[[], _State]) -> None:
        self._make = make
        self._states: OrderedDict[str, _State] = OrderedDict()

    def __getitem__(self, key: str) -> _State:
        """The state of a scope, made if it is new."""
        if (state := self._states.get(key)) is None:
            state = self._states[key] = self._make()
            if len(self._states) > _MOST:
                self._states.popitem(last=False)
        self._states.move_to_end(key)
        return state


def scope_of(call: ProposedCall, scope: Scope) -> str | None:
    """The key of a call's scope; `None` where the call does not say, and nothing can be counted."""
    if scope == "run":
        return call.run_id
    return call.task_id if scope == "task" else call.conversation_id


def matches_any(name: str | None, patterns: tuple[str, ...]) -> bool:
    """Whether a tool's name fits one of the patterns, such as `get_*`."""
    return name is not None and any(fnmatchcase(name, pattern) for pattern in patterns)


def check_mode(mode: Mode) -> Mode:
    """Refuse what is no mode.

    Raises:
        ValueError: If it is neither `shadow` nor `enforce`.
    """
    check_choice("mode", mode, get_args(Mode))
    return mode


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is not among the choices.

    Raises:
        ValueError: If it is not.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")

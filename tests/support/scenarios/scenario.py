"""A scenario: a small program, and the tree of spans that is right for it.

The tree is written beside the program, one line a span, as `tree` draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any, Final

from scenarios.stage import Mode, Stage
from scenarios.ways import Way

__all__ = ["CALLS", "ON_LOOP", "STREAMED", "WITHOUT_LOOP", "Scenario", "Scenarios"]

CALLS: Final = (Mode.INVOKE, Mode.AINVOKE)
"""Results at once."""
STREAMED: Final = (Mode.STREAM, Mode.ASTREAM)
"""Results in chunks."""
WITHOUT_LOOP: Final = (Mode.INVOKE, Mode.STREAM)
"""Without an event loop."""
ON_LOOP: Final = (Mode.AINVOKE, Mode.ASTREAM)
"""On an event loop."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenario:
    """A program and what is right for it."""

    name: str
    """A sentence."""
    family: str
    """What it is about, in one or two words."""
    program: Callable[[Stage], Any]
    """Builds something and runs it; returns what its user would see, or raises it."""
    tree: str
    """The right spans."""
    other_trees: Mapping[str, str] = field(default_factory=dict)
    """The right spans where they differ, by the name of a mode or a way."""
    modes: tuple[Mode, ...] = tuple(Mode)
    """How it can be run."""
    raises: type[BaseException] | None = None
    """What the program ends with, traced or not."""
    shows: frozenset[str] = frozenset()
    """Facts of the tree that only this scenario is about."""
    in_any_order: tuple[str, ...] = ()
    """What the names of spans begin with that come in any order, because they run in parallel."""
    has_agent_or_graph: bool = True
    """Whether a middleware or `trace_graph` has anything to go into."""
    is_possible: bool = True
    """Whether these versions of the frameworks let it happen."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the handler is told about the program."""
    is_kept_open: bool = False
    """Whether it leaves something open that only the end of the process can end."""
    has_stragglers: bool = False
    """Whether threads of the program go on when its run is over."""

    def right_tree(self, mode: Mode, way: Way) -> str:
        """The spans that are right for one run."""
        return cleandoc(self.other_trees.get(mode.value) or self.other_trees.get(way.name) or self.tree)

    def is_open_to(self, way: Way) -> bool:
        """Whether a way applies."""
        return self.is_possible and (self.has_agent_or_graph or not way.needs_agent_or_graph)


class Scenarios:
    """The scenarios of one family, collected as they are written.

    Args:
        family: What they are about.
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self.all: list[Scenario] = []

    def __call__(
        self, name: str, tree: str, *, shows: Iterable[str] = (), **more: Any
    ) -> Callable[[Callable[[Stage], Any]], Callable[[Stage], Any]]:
        """Make a scenario of a program."""

        def collect(program: Callable[[Stage], Any]) -> Callable[[Stage], Any]:
            self.all.append(
                Scenario(name=name, family=self.family, program=program, tree=tree, shows=frozenset(shows), **more)
            )
            return program

        return collect

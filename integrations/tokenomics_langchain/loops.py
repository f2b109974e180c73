"""Noticing that an agent does again what it has done: single actions that come back, and cycles of two to four.

An action is known by its key alone: what was done, with which arguments, in which state. Whoever builds the key
decides what counts as the same; with the state left out, every iteration that makes progress looks like a loop.

A cycle is found without looking back over the history: for each possible period it is enough to count how many
visits in a row had the same key as the visit one period before.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from opentelemetry.trace import SpanContext

from tokenomics_langchain.attributes import Attributes, known
from tokenomics_plugin import semconv

__all__ = ["LoopDetector", "LoopKind", "Repetition"]

LoopKind = Literal["revisit", "alternation"]

_LONGEST_PERIOD: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Repetition:
    """An action that was done before."""

    kind: LoopKind
    """`alternation` when it belongs to a cycle that came round in full, such as A-B-A-B; else `revisit`."""
    repeats: int
    """How many times it was done before, 1 for the first repeat; in an alternation, since the cycle began."""
    period: int | None
    """Actions in one round of the cycle; `None` for a revisit."""
    first: SpanContext
    """Where it was done first; in an alternation, at the same place of the cycle's first round."""

    def attributes(self) -> Attributes:
        """What the span of the repeat says about it."""
        return known(
            (semconv.LOOP_KIND, self.kind),
            (semconv.LOOP_REPEATS, self.repeats),
            (semconv.LOOP_PERIOD, self.period),
        )


class LoopDetector:
    """Finds the repeated actions of one agent or graph run, in constant time a visit and bounded memory.

    Not safe to use from several threads at once: the caller holds a lock.

    Args:
        key_limit: Distinct keys that are remembered. The one not visited for longest makes room, and counts as
            new when it comes back.
    """

    def __init__(self, *, key_limit: int = 10_000) -> None:
        self._key_limit = key_limit
        self._visited: OrderedDict[str, _Visits] = OrderedDict()
        self._recent: deque[_Visit] = deque(maxlen=_LONGEST_PERIOD)
        self._cycles = tuple(_Cycle(period) for period in range(1, _LONGEST_PERIOD + 1))

    def visit(self, key: str, where: SpanContext) -> Repetition | None:
        """Take note of an action.

        Args:
            key: The action in full: node or tool, fingerprint of the arguments, fingerprint of state or result.
            where: The span that shows it.

        Returns:
            What it repeats; `None` when it is new.
        """
        revisit = self._count(key, where)
        if revisit is None:  # breaks every cycle
            for cycle in self._cycles:
                cycle.matches = 0
        else:
            for cycle in self._cycles:
                cycle.advance(key, self._recent)
        self._recent.append((key, where))
        return revisit and (self._alternation() or revisit)

    def _count(self, key: str, where: SpanContext) -> Repetition | None:
        visits = self._visited.get(key)
        if visits is not None:
            visits.repeats += 1
            self._visited.move_to_end(key)
            return Repetition(kind="revisit", repeats=visits.repeats, period=None, first=visits.first)
        self._visited[key] = _Visits(where)
        if len(self._visited) > self._key_limit:
            self._visited.popitem(last=False)
        return None

    def _alternation(self) -> Repetition | None:
        """The cycle with the shortest period that has come round, unless it is one key over and over."""
        same, *cycles = self._cycles
        for cycle in cycles:
            if cycle.matches >= cycle.period and same.matches < cycle.period - 1:
                return cycle.repetition()
        return None


_Visit = tuple[str, SpanContext]


@dataclass(slots=True)
class _Visits:
    """The visits of one key."""

    first: SpanContext
    repeats: int = 0


class _Cycle:
    """How long the visits have been going in a cycle of one period."""

    __slots__ = ("_first_round", "matches", "period")

    def __init__(self, period: int) -> None:
        self.period = period
        self.matches = 0
        """Visits in a row with the key of the visit one period before."""
        self._first_round: tuple[SpanContext, ...] = ()

    def advance(self, key: str, recent: Sequence[_Visit]) -> None:
        """Count a visit, given those before it."""
        if len(recent) < self.period or recent[-self.period][0] != key:
            self.matches = 0
            return
        if self.matches == 0:
            self._first_round = tuple(where for _, where in recent)[-self.period :]
        self.matches += 1

    def repetition(self) -> Repetition:
        """What the last visit repeats."""
        rounds, place = divmod(self.matches - 1, self.period)
        return Repetition(kind="alternation", repeats=rounds + 1, period=self.period, first=self._first_round[place])

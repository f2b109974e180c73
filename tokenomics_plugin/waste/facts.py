"""What several detectors ask of one trajectory, worked out once: who carried what, what changed, who asked for what.

The detectors of one scan read the same trajectory one after the other, so the facts of the last one are kept, a
thread each. Two trajectories never mix: what is kept is known by the object.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cached_property

from tokenomics_plugin.trajectory import ModelCall, SideEffect, Step, ToolCall, Trajectory
from tokenomics_plugin.waste.carriage import Carriage, Carry
from tokenomics_plugin.waste.errors import is_transient
from tokenomics_plugin.waste.finding import BlockRange

__all__ = ["Facts", "StateChanges", "end_of", "facts_of", "has_completed", "is_named", "ranges"]


class Facts:
    """What follows from a trajectory. Everything is worked out at its first use.

    Args:
        trajectory: One task's work in one trace.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory

    @cached_property
    def carriage(self) -> Carriage:
        """Which calls carried which block."""
        return Carriage(self.trajectory)

    @cached_property
    def writes(self) -> StateChanges:
        """Calls that changed something, or may have: of unknown effect, or broken off."""
        return StateChanges(call for call in self.trajectory.tool_calls if _may_have_written(call))

    @cached_property
    def declared_writes(self) -> StateChanges:
        """Calls that completed and were declared to write."""
        return StateChanges(
            call for call in self.trajectory.tool_calls if call.side_effect is SideEffect.WRITE and has_completed(call)
        )

    @cached_property
    def completed_writes(self) -> StateChanges:
        """Calls of unknown effect and writes that completed."""
        return StateChanges(
            call for call in self.trajectory.tool_calls if call.side_effect.may_write and has_completed(call)
        )

    @cached_property
    def asked_by(self) -> dict[str, str]:
        """Span id of a tool call to that of the model call that asked for it, where that is certain.

        Later contexts show it, or both lie in the same run of an agent and the model call was the last to end before.
        """
        return self._asked_within_a_run | self.carriage.asked_by

    @cached_property
    def asked(self) -> dict[str, list[str]]:
        """Span id of a model call to those of all tool calls that it asked for, or may have asked for."""
        asked: defaultdict[str, list[str]] = defaultdict(list)
        by_time = _last_before((call.agent, call) for call in self.trajectory.model_calls)
        for tool in self.trajectory.tool_calls:
            asker = self.asked_by.get(tool.span_id) or by_time(tool.agent, tool)
            if asker is not None:
                asked[asker].append(tool.span_id)
        return dict(asked)

    @cached_property
    def _asked_within_a_run(self) -> dict[str, str]:
        calls = self.trajectory.model_calls
        by_time = _last_before(((call.agent, call.parent_span_id), call) for call in calls if call.parent_span_id)
        found = ((tool, by_time((tool.agent, tool.parent_span_id), tool)) for tool in self.trajectory.tool_calls)
        return {tool.span_id: asker for tool, asker in found if asker is not None}

    def knew(self, asker: str, tool: str) -> bool:
        """Whether a model call was sent what a tool call had returned."""
        context = self.carriage.contexts.get(asker)
        return context is not None and any(carry.is_in(context) for carry in self.carriage.of_producer.get(tool, ()))

    def needless_requests(self, repeats: Iterable[tuple[ToolCall, ToolCall]]) -> set[str]:
        """Model calls that asked for nothing but what they had been sent already.

        Args:
            repeats: Needless tool calls, each with the one that it repeats.
        """
        known: defaultdict[str, set[str]] = defaultdict(set)
        for tool, earlier in repeats:
            asker = self.asked_by.get(tool.span_id)
            if asker is not None and self.knew(asker, earlier.span_id):
                known[asker].add(tool.span_id)
        return {asker for asker, tools in known.items() if tools.issuperset(self.asked.get(asker, ()))}

    def rent(self, producers: Iterable[str], *, after_unix_nano: int | None = None) -> tuple[BlockRange, ...]:
        """Everywhere that the blocks of some calls were carried.

        Args:
            producers: Span ids of the calls that produced them.
            after_unix_nano: Leave out calls that started before.
        """
        carries = [carry for producer in producers for carry in self.carriage.of_producer.get(producer, ())]
        return tuple(
            BlockRange(call=call.span_id, start=together[0].position, stop=together[-1].position + 1)
            for together in _side_by_side(carries)
            for call in together[0].uses()
            if after_unix_nano is None or call.started_unix_nano >= after_unix_nano
        )

    def is_ensemble(self, one: ModelCall, other: ModelCall) -> bool:
        """Whether some call was sent the answers of both: a vote, whose price samples of one prompt are."""
        return any(
            mine.calls is its.calls and _overlap(mine, its)
            for mine in self.carriage.of_producer.get(one.span_id, ())
            for its in self.carriage.of_producer.get(other.span_id, ())
        )


class StateChanges:
    """When the state of the world changed, as far as a trajectory shows.

    Args:
        calls: What changed it, at some moment from its start to its end.
    """

    def __init__(self, calls: Iterable[ToolCall]) -> None:
        self._moments = sorted(moment for call in calls for moment in (call.started_unix_nano, end_of(call)))

    def any_between(self, earlier: ToolCall | ModelCall, later: ToolCall | ModelCall) -> bool:
        """Whether a change began or ended after one call started and before another ended."""
        first = bisect_right(self._moments, earlier.started_unix_nano)
        return bisect_left(self._moments, end_of(later)) > first

    def last(self) -> int | None:
        """When the last change ended, nanoseconds since the epoch."""
        return self._moments[-1] if self._moments else None


_kept = threading.local()


def facts_of(trajectory: Trajectory) -> Facts:
    """The facts of a trajectory."""
    facts: Facts | None = getattr(_kept, "facts", None)
    if facts is None or facts.trajectory is not trajectory:
        facts = _kept.facts = Facts(trajectory)
    return facts


def end_of(step: Step) -> int:
    """When a step ended, nanoseconds since the epoch; its start where its end is unknown."""
    return step.started_unix_nano if step.ended_unix_nano is None else step.ended_unix_nano


def has_completed(call: ToolCall | ModelCall) -> bool:
    """Whether a call came to a good end."""
    return call.error_type is None and call.run_state is None


def is_named(name: str | None, patterns: Collection[str]) -> bool:
    """Whether one of the patterns (`poll_*`) is about a name; case matters."""
    return name is not None and any(fnmatchcase(name, pattern) for pattern in patterns)


def ranges(call: str, positions: Iterable[int]) -> Iterator[BlockRange]:
    """Ascending positions of a call's blocks as ranges, as few as there can be."""
    start = stop = -1
    for position in positions:
        if position != stop:
            if stop > start:
                yield BlockRange(call=call, start=start, stop=stop)
            start = position
        stop = position + 1
    if stop > start:
        yield BlockRange(call=call, start=start, stop=stop)


def _last_before(calls: Iterable[tuple[Hashable, ModelCall]]) -> Callable[[Hashable, ToolCall], str | None]:
    """Answers which of the calls of a key was the last to end before a tool call started; ask in order of start."""
    ended = sorted(((end_of(call), key, call.span_id) for key, call in calls), key=lambda entry: entry[0])
    last: dict[Hashable, str] = {}
    index = 0

    def ask(key: Hashable, tool: ToolCall) -> str | None:
        nonlocal index
        while index < len(ended) and ended[index][0] <= tool.started_unix_nano:
            last[ended[index][1]] = ended[index][2]
            index += 1
        return last.get(key)

    return ask


def _may_have_written(call: ToolCall) -> bool:
    """Whether nothing that was read before a call can be relied on after it.

    A call that said what was wrong has changed nothing. One that broke off, or ran into a limit of time, may have.
    """
    if not call.side_effect.may_write or call.answered_by is not None:
        return False
    return has_completed(call) or call.run_state is not None or is_transient(call.error_type)


def _side_by_side(carries: list[Carry]) -> Iterator[list[Carry]]:
    """Carries of neighbouring blocks by the same calls, together: a request and its result mostly are."""
    carries.sort(key=lambda carry: (id(carry.calls), carry.first, carry.position))
    together: list[Carry] = []
    for carry in carries:
        if together and not _is_beside(together[-1], carry):
            yield together
            together = []
        together.append(carry)
    if together:
        yield together


def _is_beside(one: Carry, other: Carry) -> bool:
    is_together = one.calls is other.calls and (one.first, one.last) == (other.first, other.last)
    return is_together and one.position + 1 == other.position


def _overlap(one: Carry, other: Carry) -> bool:
    """Whether some call carried both, of one conversation."""
    starts, ends = (one.first, other.first), (one.last, other.last)
    return max(starts) <= min(len(one.calls) - 1 if end is None else end for end in ends)

"""What is known of one run's flow of information from its trajectory: who asked for what, who had what in sight.

Hashes tell that a block stood in a context, not that it was used. So a context is a *may* edge, and what is certain is
control: the model call that chose a tool. What the run delivered is its last answer and each completed write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tokenomics_plugin.credit.slices import Evidence, Flow, Slice, backward_slice
from tokenomics_plugin.trajectory import ModelCall, SideEffect, ToolCall, Trajectory
from tokenomics_plugin.waste.facts import end_of, facts_of, has_completed

__all__ = ["RunFlow", "evidence_of", "run_flow"]


@dataclass(frozen=True, kw_only=True)
class RunFlow:
    """Steps of a run, by span id, and what went between them."""

    steps: tuple[str, ...]
    """Model and tool calls, by start."""
    flows: tuple[Flow, ...]
    """What one used, or may have used, of another."""
    results: tuple[str, ...]
    """What was delivered."""

    def slice(self) -> Slice:
        """What the results rest on."""
        return backward_slice(self.steps, self.flows, results=self.results)


def run_flow(trajectory: Trajectory) -> RunFlow:
    """The flow of a trajectory; grows with the square of its turns, because every context is looked at whole."""
    steps = tuple(step.span_id for step in trajectory.steps if isinstance(step, ModelCall | ToolCall))
    known = frozenset(steps)
    flows = (*_asked(trajectory, known), *_in_sight(trajectory, known))
    return RunFlow(steps=steps, flows=flows, results=_results(trajectory))


def evidence_of(trajectory: Trajectory) -> frozenset[str]:
    """The steps that must be in the slice, `run_flow(trajectory).slice().must`, in linear time: no context is read."""
    asked_by, results = facts_of(trajectory).asked_by, _results(trajectory)
    return frozenset(results) | {asked_by[result] for result in results if result in asked_by}


def _asked(trajectory: Trajectory, known: frozenset[str]) -> Iterator[Flow]:
    for tool, asker in facts_of(trajectory).asked_by.items():
        if tool in known and asker in known:
            yield Flow(sources=(asker,), target=tool, evidence=Evidence.CONTROL)


def _in_sight(trajectory: Trajectory, known: frozenset[str]) -> Iterator[Flow]:
    for call in trajectory.model_calls:
        producers = {block.producer for block in call.context or () if block is not None}
        for producer in sorted(filter(None, producers)):
            if producer in known and producer != call.span_id:
                yield Flow(sources=(producer,), target=call.span_id, evidence=Evidence.CONTEXT)


def _results(trajectory: Trajectory) -> tuple[str, ...]:
    answers = [call for call in trajectory.model_calls if has_completed(call)]
    writes = (call for call in trajectory.tool_calls if call.side_effect is SideEffect.WRITE and has_completed(call))
    return (*_last(answers), *(call.span_id for call in writes))


def _last(answers: list[ModelCall]) -> Iterator[str]:
    if answers:
        yield max(answers, key=end_of).span_id

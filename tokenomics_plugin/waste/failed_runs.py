"""What failed runs cost, in parts, and none of it called avoidable: part of it is waste, the most of it is trying.

The parts are phases of a run, laid over the cell ledger as flags of their own. They go into a ledger of their own too:
in the one that a report shows, they would make waste of what is none. How much could have been saved by stopping
somewhere only a replay of that rule on all runs can say, the successful ones among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tokenomics_plugin.cells import Amount, Cause, CellRef, CellSummary, Flags, Part, RunOutcome, Tier
from tokenomics_plugin.trajectory import Trajectory
from tokenomics_plugin.waste.facts import end_of
from tokenomics_plugin.waste.finding import Finding

__all__ = ["FailedRunParts", "failed_run_parts", "first_warning", "phase_flags"]

_AFTER_WARNING: Final = Cause("after the first warning", Tier.C)
_AFTER_DECISIVE_ERROR: Final = Cause("after the decisive error", Tier.C)
_PHASES: Final = frozenset({_AFTER_WARNING, _AFTER_DECISIVE_ERROR})
_REPEATS: Final = frozenset({"D1", "D3", "D5"})
"""Causes that a running program could notice at once: the same call again."""
_FAILED: Final = (RunOutcome.FAIL, RunOutcome.PARTIAL, RunOutcome.HARMFUL)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedRunParts:
    """What failed runs cost, each cent in one part."""

    structural: Amount
    """Waste that the trace shows, provable or likely."""
    after_decisive_error: Amount
    """Of the rest: calls after the error that somebody annotated as decisive; 0 where nobody did."""
    after_warning: Amount
    """Of the rest: calls after the first warning that a running program could have noticed."""
    trying: Amount
    """The rest: what it costs to try."""

    @property
    def total(self) -> Amount:
        """All of it."""
        return self.structural + self.after_decisive_error + self.after_warning + self.trying


def first_warning(trajectory: Trajectory, findings: Iterable[Finding]) -> int | None:
    """When a run first showed a sign of trouble, nanoseconds since the epoch; `None` when it never did.

    Signs are a tool call that failed, and a call that was made before (D1, D3, D5). A warning is no verdict: many runs
    recover.
    """
    repeated = {span for finding in findings if finding.cause in _REPEATS for span in finding.spans}
    return min(
        (end_of(call) for call in trajectory.tool_calls if call.error_type is not None or call.span_id in repeated),
        default=None,
    )


def phase_flags(trajectory: Trajectory, findings: Iterable[Finding], *, decisive_error: str | None = None) -> Flags:
    """Flags of the calls that came after a warning, and after a decisive error.

    Args:
        trajectory: A failed run.
        findings: What detectors found in it.
        decisive_error: Span id of the step that doomed the run, where somebody annotated it.

    Raises:
        ValueError: If that span is no step of the trajectory.
    """
    marks = [(_AFTER_WARNING, first_warning(trajectory, findings))]
    if decisive_error is not None:
        marks.append((_AFTER_DECISIVE_ERROR, _end_of_span(trajectory, decisive_error)))
    cells = {}
    for call in trajectory.model_calls:
        causes = frozenset(cause for cause, since in marks if since is not None and call.started_unix_nano >= since)
        if causes:
            cells[CellRef(call.span_id, Part.CALL)] = causes
    return Flags(cells=cells)


def failed_run_parts(summary: CellSummary) -> FailedRunParts:
    """The parts, from a ledger to which failed runs were added with `flags_of(findings) | phase_flags(...)`."""
    structural = decisive = warned = Amount()
    for (causes, outcome), amount in summary.causes.items():
        if outcome not in _FAILED:
            continue
        if any(cause.tier is not Tier.C for cause in causes - _PHASES):
            structural += amount
        elif _AFTER_DECISIVE_ERROR in causes:
            decisive += amount
        elif _AFTER_WARNING in causes:
            warned += amount
    failed = [amount for group, amount in summary.groups.items() if group.outcome in _FAILED]
    total = sum(failed, Amount())
    claimed = structural + decisive + warned
    return FailedRunParts(
        structural=structural,
        after_decisive_error=decisive,
        after_warning=warned,
        trying=Amount(tokens=total.tokens - claimed.tokens, usd=total.usd - claimed.usd),
    )


def _end_of_span(trajectory: Trajectory, span_id: str) -> int:
    for step in trajectory.steps:
        if step.span_id == span_id:
            return end_of(step)
    raise ValueError(f"the decisive error must be a step of trace {trajectory.trace_id}, got span {span_id!r}")

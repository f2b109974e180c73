"""All runs side by side, call by call, in flat arrays: what rules are evaluated on.

Runs differ in length, so they lie end to end, and `offsets` says where each begins. A rule that stops a run keeps its
first calls; which ones is a comparison over the whole array and a difference of running counts. Three million calls
take tens of milliseconds, so a family of fifty rules takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.resampling import cluster_codes
from tokenomics_plugin.simulation.logged_run import NO_KEY, LoggedRun

__all__ = ["RunTable"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunTable:
    """Runs as columns. A call is a model call with the steps that followed it; R runs, C calls, S steps."""

    runs: tuple[LoggedRun, ...]
    """What it was made of."""
    offsets: Integers
    """Index of each run's first call, and the number of calls at the end, (R + 1,)."""
    step_offsets: Integers
    """The same of steps, (R + 1,)."""
    call_starts: Integers
    """Index of each call's first step, and the number of steps at the end, (C + 1,)."""
    step_costs: Floats
    """Cost of each step, (S,)."""
    cluster_of: NDArray[np.intp]
    """Cluster of each run, (R,)."""

    @classmethod
    def of(cls, runs: Sequence[LoggedRun]) -> RunTable:
        """Lay runs end to end.

        Raises:
            ValueError: If there is no run, or one does not begin with a model call.
        """
        if not runs:
            raise ValueError("there is nothing to simulate: no run was given")
        begins = [
            np.ones(len(run.step_costs), bool) if run.begins_call is None else np.asarray(run.begins_call, bool)
            for run in runs
        ]
        strange = next((run for run, flags in zip(runs, begins, strict=True) if not flags[0]), None)
        if strange is not None:
            raise ValueError(
                f"a run's first step must begin a model call, task {strange.task_id!r} has begins_call[0]=False"
            )
        return cls(
            runs=tuple(runs),
            offsets=_offsets([int(flags.sum()) for flags in begins]),
            step_offsets=_offsets([len(flags) for flags in begins]),
            call_starts=np.append(np.flatnonzero(np.concatenate(begins)), sum(map(len, begins))).astype(np.int64),
            step_costs=np.concatenate([np.asarray(run.step_costs, float) for run in runs]),
            cluster_of=cluster_codes(
                ("task", run.task_id) if run.cluster is None else ("cluster", run.cluster) for run in runs
            ),
        )

    def select(self, keep: Flags) -> RunTable:
        """The same of some of the runs, (R,)."""
        return RunTable.of([run for run, kept in zip(self.runs, keep, strict=True) if kept])

    def __len__(self) -> int:
        return len(self.runs)

    @cached_property
    def calls(self) -> Integers:
        """Calls of each run, (R,)."""
        return np.diff(self.offsets)

    @cached_property
    def call_costs(self) -> Floats:
        """Cost of each call, (C,)."""
        costs: Floats = np.add.reduceat(self.step_costs, self.call_starts[:-1])
        return costs

    @cached_property
    def spend(self) -> Floats:
        """Cost of each run, (R,)."""
        return self.run_sums(self.call_costs)

    @cached_property
    def spent_before(self) -> Floats:
        """What its run had spent when each call began, (C,)."""
        return self.before(self.call_costs)

    @cached_property
    def errors_before(self) -> Floats | None:
        """Steps that had failed in its run when each call began, (C,); `None` when a run did not record errors."""
        return self._before("step_errors", lambda flags: flags)

    @cached_property
    def call_attempts(self) -> Integers:
        """The attempt that each call belongs to, (C,)."""
        columns = [
            np.ones(len(run.step_costs), np.int64) if run.attempts is None else run.attempts for run in self.runs
        ]
        attempts: Integers = np.concatenate(columns)[self.call_starts[:-1]]
        return attempts

    @cached_property
    def most_repeats_before(self) -> Integers | None:
        """How often its run's most frequent action had occurred when each call began, (C,)."""
        ranks = self.occurrence("action_keys")
        if ranks is None:
            return None
        # Counts of different runs must not mix: each run's are lifted above those of the runs before it.
        lift = np.repeat(np.arange(len(self), dtype=np.int64), self.calls) * (int(ranks.max()) + 1)
        most = np.maximum.reduceat(ranks, self.call_starts[:-1])
        running: Integers = np.maximum.accumulate(most + lift) - lift
        before = np.concatenate([[0], running[:-1]])
        before[self.offsets[:-1]] = 0
        return before

    @cached_property
    def is_success(self) -> Flags:
        """Runs known to have succeeded, (R,)."""
        return np.array([run.is_success is True for run in self.runs])

    @cached_property
    def is_failure(self) -> Flags:
        """Runs known to have failed, (R,)."""
        return ~(self.is_success | self.is_unlabelled)

    @cached_property
    def is_unlabelled(self) -> Flags:
        """Runs of which nobody knows, (R,)."""
        return np.array([run.is_success is None for run in self.runs])

    @cached_property
    def value(self) -> Floats:
        """Worth of each run's outcome, not a number where nobody said, (R,)."""
        return np.array([np.nan if run.value is None else run.value for run in self.runs])

    @cached_property
    def calls_to_success(self) -> Integers:
        """Calls that a run needs before its success stands, (R,)."""
        last = np.diff(self.step_offsets) - 1
        steps = np.array([-1 if run.success_step is None else run.success_step for run in self.runs])
        step = self.step_offsets[:-1] + np.where(steps < 0, last, steps)
        call: Integers = np.searchsorted(self.call_starts, step, side="right") - self.offsets[:-1]
        return call

    def run_sums(self, per_call: NDArray[Any]) -> Floats:
        """Sum over the calls of each run, (R,)."""
        sums: Floats = np.add.reduceat(per_call, self.offsets[:-1], dtype=float)
        return sums

    def before(self, per_call: NDArray[Any]) -> Floats:
        """Sum over the earlier calls of the same run, (C,)."""
        running: Floats = np.concatenate([[0.0], np.cumsum(per_call, dtype=float)[:-1]])
        earlier: Floats = running - np.repeat(running[self.offsets[:-1]], self.calls)
        return earlier

    def prefix(self, runs_on: Flags) -> Integers:
        """Calls that each run keeps, (R,), when a call is made only where `runs_on` is true, (C,).

        What is true of a call must be true of all before it in its run.
        """
        kept: Integers = np.add.reduceat(runs_on, self.offsets[:-1], dtype=np.int64)
        return kept

    def spend_of(self, kept: Integers) -> Floats:
        """Cost of each run's first `kept` calls, (R,)."""
        running = np.concatenate([[0.0], np.cumsum(self.call_costs)])
        spent: Floats = running[self.offsets[:-1] + kept] - running[self.offsets[:-1]]
        return spent

    def occurrence(self, name: str) -> Integers | None:
        """How often each step's key has occurred in its run, itself included, (S,); 0 for `NO_KEY`.

        `None` when a run did not record that column.
        """
        keys = self._steps(name)
        if keys is None:
            return None
        run_of = np.repeat(np.arange(len(self)), np.diff(self.step_offsets))
        order = np.lexsort((keys, run_of))
        same = (np.diff(keys[order]) == 0) & (np.diff(run_of[order]) == 0)
        place = np.arange(len(keys))
        first = np.maximum.accumulate(np.where(np.concatenate([[True], ~same]), place, 0))
        count = np.empty(len(keys), np.int64)
        count[order] = place - first + 1
        return np.where(keys == NO_KEY, 0, count)

    def _steps(self, name: str) -> NDArray[Any] | None:
        columns = [getattr(run, name) for run in self.runs]
        return None if any(column is None for column in columns) else np.concatenate(columns)

    def _before(self, name: str, measure: Callable[[NDArray[Any]], NDArray[Any]]) -> Floats | None:
        steps = self._steps(name)
        if steps is None:
            return None
        return self.before(np.add.reduceat(measure(steps).astype(float), self.call_starts[:-1]))


def _offsets(lengths: Sequence[int]) -> Integers:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

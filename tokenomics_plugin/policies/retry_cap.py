"""How often a whole task may be tried: as often as another try has paid so far.

An attempt is a run that the application starts for a task. A run that goes on after an interrupt is the same attempt.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import fsum
from typing import TYPE_CHECKING, Final, Literal, Self

from tokenomics_plugin.policies.scopes import Scopes, check_choice, check_mode
from tokenomics_plugin.policy import Allowed, CallResult, Decision, Mode, ProposedCall, Refused, Verdict

if TYPE_CHECKING:
    from tokenomics_plugin.marginal import RepeatedTask
    from tokenomics_plugin.simulation import LoggedRun

__all__ = ["RetryCap"]

_RULE: Final = "retry_cap"


@dataclass(slots=True)
class _Task:
    attempts: dict[str, int] = field(default_factory=dict)
    """Number of the attempt that each run belongs to."""
    interrupted: int | None = None
    """The attempt that waits to be resumed."""

    def attempt_of(self, run_id: str) -> int:
        if run_id not in self.attempts:
            latest = max(self.attempts.values(), default=0)
            self.attempts[run_id] = latest + 1 if self.interrupted is None else self.interrupted
            self.interrupted = None
        return self.attempts[run_id]


class RetryCap:
    """Stops the runs of a task beyond so many attempts at it.

    A run that is resumed is known by the interrupt of one of its calls; where a human is asked between calls, the
    resumed run counts as another attempt.

    Args:
        attempts: Attempts that are made, the first included.
        mode: `shadow` records, `enforce` refuses.

    Raises:
        ValueError: If `attempts` is below 1.
    """

    def __init__(self, *, attempts: int, mode: Mode = "shadow") -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts}")
        self.mode = check_mode(mode)
        self.attempts = attempts
        self._tasks = Scopes(_Task)
        self._lock = threading.Lock()

    @classmethod
    def from_history(
        cls,
        runs: Iterable[LoggedRun] | Iterable[RepeatedTask],
        *,
        value: float,
        interval: Literal["lower", "point", "upper"] = "lower",
        harm: float = 0.0,
        most: int | None = None,
        mode: Mode = "shadow",
    ) -> Self:
        """Cap at k*, the last attempt that pays.

        Args:
            runs: Logged runs, those of one task being trials of it, or tasks with their trials. Runs whose outcome
                is unknown are left out.
            value: Worth of a success, in the unit of the costs.
            interval: Which end of the success probability's interval has to pay.
            harm: Expected damage of one attempt.
            most: No more attempts than this.
            mode: As for the policy.

        Raises:
            ValueError: If no run has a known outcome, or not even the first attempt pays.
        """
        from tokenomics_plugin.marginal import attempt_limit, retry_curve  # numpy is no part of the live path

        check_choice("interval", interval, ("lower", "point", "upper"))
        limit = attempt_limit(retry_curve(_tasks(runs)), value=value, harm=harm)
        paying = {"lower": limit.cautious, "point": limit.attempts, "upper": limit.hopeful}[interval]
        if not paying:
            raise ValueError(
                f"not even the first attempt pays at value={value} by the {interval} end: "
                "do not run these tasks, or give interval='point'"
            )
        return cls(attempts=paying if most is None else min(paying, most), mode=mode)

    def ask(self, call: ProposedCall) -> Verdict:
        """Refuse the model calls of an attempt too many."""
        if call.kind != "model" or call.task_id is None or call.run_id is None:
            return Allowed()
        with self._lock:
            attempt = self._tasks[call.task_id].attempt_of(call.run_id)
        if attempt <= self.attempts:
            return Allowed()
        reason = f"The task was given up after {self.attempts} attempt{'s' * (self.attempts > 1)}."
        decision = Decision(rule=_RULE, mode=self.mode, action="stop", reason=reason, estimate=float(attempt))
        if self.mode == "shadow":
            return Allowed((decision,))
        return Refused(reason=reason, rule=_RULE, decisions=(decision,))

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Note an interrupt, after which the next run goes on with the same attempt."""
        if result.state != "interrupted" or call.task_id is None or call.run_id is None:
            return
        with self._lock:
            task = self._tasks[call.task_id]
            task.interrupted = task.attempt_of(call.run_id)


def _tasks(runs: Iterable[LoggedRun] | Iterable[RepeatedTask]) -> list[RepeatedTask]:
    from tokenomics_plugin.marginal import RepeatedTask, Trial

    tasks: list[RepeatedTask] = []
    trials: dict[tuple[str, str | None], list[Trial]] = {}
    for run in runs:
        if isinstance(run, RepeatedTask):
            tasks.append(run)
        elif run.is_success is not None:
            trial = Trial(is_success=run.is_success, cost=fsum(run.step_costs))
            trials.setdefault((run.task_id, run.cluster), []).append(trial)
    return tasks + [
        RepeatedTask(task_id=task, cluster=cluster, trials=tuple(of_task))
        for (task, cluster), of_task in trials.items()
    ]

"""How often a task may be tried: up to the last attempt that pays."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from tokenomics_plugin.marginal import (
    AttemptChain,
    RepeatedTask,
    RetryCurve,
    attempt_limit,
    hazard_curve,
    retry_curve,
)
from tokenomics_plugin.policies.memory import Recent, checked_mode
from tokenomics_plugin.policies.ruling import refusal
from tokenomics_plugin.policy import Allowed, CallResult, ProposedCall, Verdict

__all__ = ["RetryCap"]

Ends = Literal["lower", "point", "upper"]

_RULE: Final = "retry cap"


@dataclass
class _Tries:
    runs: dict[str, int] = field(default_factory=dict)


class RetryCap:
    """Refuses the model calls of a run that is one attempt at its task too many.

    A run is an attempt at the business task that it belongs to (`tokenomics_plugin.task`); work of no task is never
    refused.
    """

    def __init__(self, *, attempts: int, mode: str = "shadow") -> None:
        """Set the cap.

        Args:
            attempts: Runs that a task may take.
            mode: `shadow` or `enforce`.

        Raises:
            ValueError: If `attempts` is below 1.
        """
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts}: a task that is never tried costs nothing")
        self._attempts = attempts
        self._mode = checked_mode(mode)
        self._lock = threading.Lock()
        self._tries: Recent[_Tries] = Recent(_Tries)

    @classmethod
    def from_history(
        cls,
        history: Sequence[RepeatedTask] | Sequence[AttemptChain] | RetryCurve,
        *,
        value: float,
        ci: Ends = "lower",
        k_max: int = 4,
        harm: float = 0.0,
        mode: str = "shadow",
    ) -> Self:
        """The cap k* that past attempts speak for.

        Args:
            history: Tasks that were tried several times, chains of attempts, or the curve made of them.
            value: Worth of a success, in the currency of the costs.
            ci: Which end of the success probabilities to go by: the lower one is the cautious one.
            k_max: Attempts beyond which nothing is believed.
            harm: Expected damage of one attempt.
            mode: `shadow` or `enforce`.

        Raises:
            ValueError: If there is no history, or not even a first attempt pays.
        """
        curve = _curve(history)
        limit = attempt_limit(curve, value=value, harm=harm)
        attempts = {"lower": limit.cautious, "point": limit.attempts, "upper": limit.hopeful}[ci]
        if attempts < 1:
            raise ValueError(
                f"not even a first attempt pays when a success is worth {value:g}, by the {ci} end: do not run the "
                "agent on these tasks, or say what else a success is worth"
            )
        return cls(attempts=min(attempts, k_max), mode=mode)

    @property
    def attempts(self) -> int:
        """Runs that a task may take."""
        return self._attempts

    def ask(self, call: ProposedCall) -> Verdict:
        """Refuse if this run is one attempt too many."""
        if call.kind != "model" or call.task_id is None or call.run_id is None:
            return Allowed()
        with self._lock:
            runs = self._tries.of(call.task_id).runs
            number = runs.setdefault(call.run_id, len(runs) + 1)
        if number <= self._attempts:
            return Allowed()
        reason = f"This is attempt {number} at the task, and {self._attempts} may be made."
        return refusal(_RULE, reason, mode=self._mode, estimate=float(number))

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Nothing is learned from a call's result."""


def _curve(history: Sequence[RepeatedTask] | Sequence[AttemptChain] | RetryCurve) -> RetryCurve:
    if isinstance(history, RetryCurve):
        return history
    repeated = [task for task in history if isinstance(task, RepeatedTask)]
    if repeated:
        return retry_curve(repeated)
    return hazard_curve([chain for chain in history if isinstance(chain, AttemptChain)])

"""Experiments inside the running agent: now and then chance decides, and the odds are on record.

What agents do when a task looks hard says nothing about what doing it is worth. Where a small share of the decisions
is overridden by a coin of known odds, the effect is identified, whatever the agent knew that the log does not. The
price of that is regret: what overridden runs lose. It is bounded beforehand, and the bound is said first.

Source: micro-randomised trials, Klasnja et al., Health Psychology 34, 2015.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from tokenomics_plugin.policies.memory import Recent, checked_mode, is_named
from tokenomics_plugin.policies.ruling import refusal
from tokenomics_plugin.policy import Allowed, CallResult, Decision, ProposedCall, Verdict

__all__ = ["RETRY", "Explore"]

_logger = logging.getLogger(__name__)

RETRY: Final = "retry"
"""The decision to try a task again: drawn at the first model call of each further run of the task."""
_RULE: Final = "explore"
_DAY_S: Final = 86_400.0


@dataclass
class _Draws:
    """What was drawn for a run, by component."""

    on: dict[str, bool] = field(default_factory=dict)


@dataclass
class _Task:
    runs: dict[str, int] = field(default_factory=dict)
    """Run -> which attempt at the task it is, from 1."""


class Explore:
    """Switches components off at random: tools by pattern, and the retry of a task.

    One coin is thrown for each run and component, when the component is first asked for; it stays as it fell for the
    rest of the run. Heads leaves it on. In shadow mode the coin is thrown and recorded, and nothing is switched off:
    such draws identify nothing, and estimates leave them out.
    """

    def __init__(
        self,
        *,
        eps: float,
        decisions: Iterable[str],
        max_daily_regret: float,
        regret_per_override: float,
        seed: int | None = None,
        mode: str = "shadow",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Say what is tried, how often, and what it may cost.

        Args:
            eps: Probability that a component is switched off.
            decisions: `retry`, or patterns of tools (`verify_*`).
            max_daily_regret: USD that overridden decisions may lose in a day of 24 hours; then nothing is overridden
                until the next one begins.
            regret_per_override: USD that one overridden decision loses at most: the worth of a success, for lack of
                a better bound.
            seed: Of the coin; the same seed and calls fall alike.
            mode: `shadow` or `enforce`.
            clock: Tells seconds since the epoch.

        Raises:
            ValueError: If a number is out of range, or nothing is to be decided.
        """
        self._decisions = frozenset([decisions] if isinstance(decisions, str) else decisions)
        if not 0 < eps < 1:
            raise ValueError(f"eps must be strictly between 0 and 1, got {eps}")
        if not self._decisions:
            raise ValueError("decisions must name something to switch: 'retry', or patterns of tools")
        if not (max_daily_regret >= 0 and regret_per_override > 0):
            raise ValueError(
                f"max_daily_regret must be at least 0 and regret_per_override above 0, got {max_daily_regret} and "
                f"{regret_per_override}"
            )
        self._eps, self._random, self._clock = eps, random.Random(seed), clock
        self._most_overrides = int(max_daily_regret / regret_per_override)
        self._regret = max_daily_regret
        self._mode = checked_mode(mode)
        self._lock = threading.Lock()
        self._draws: Recent[_Draws] = Recent(_Draws)
        self._tasks: Recent[_Task] = Recent(_Task)
        self._day, self._overrides = 0.0, 0
        _logger.warning("%s", self.regret_bound)

    @property
    def regret_bound(self) -> str:
        """What it may cost at most, in a sentence; logged before anything is randomised."""
        what = ", ".join(sorted(self._decisions))
        return (
            f"Exploring {what}: at most {self._most_overrides} decisions a day are overridden, which loses at most "
            f"{self._regret:g} USD a day; mode {self._mode}."
        )

    def ask(self, call: ProposedCall) -> Verdict:
        """Throw the coin where the component is first asked for, and keep to it."""
        if call.run_id is None:
            return Allowed()
        with self._lock:
            component = self._component(call)
            if component is None:
                return Allowed()
            draws = self._draws.of(call.run_id).on
            is_first = component not in draws
            if is_first and not self._may_override():
                return Allowed()
            if is_first:
                draws[component] = self._random.random() >= self._eps
                self._overrides += not draws[component] and self._mode == "enforce"
            is_on = draws[component]
        return self._verdict(component, is_on=is_on, is_first=is_first)

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Nothing is learned from a call's result."""

    def _verdict(self, component: str, *, is_on: bool, is_first: bool) -> Verdict:
        probability = 1 - self._eps if is_on else self._eps
        rule = f"{_RULE} {component}"
        if is_on:
            stays = "Chance left it on."
            drawn = Decision(rule=rule, acts=False, mode=self._mode, reason=stays, propensity=probability)
            return Allowed(decisions=(drawn,) if is_first else ())
        return refusal(rule, "Chance switched it off for this run.", mode=self._mode, propensity=probability)

    def _component(self, call: ProposedCall) -> str | None:
        if call.kind == "tool":
            patterns = self._decisions - {RETRY}
            return next((pattern for pattern in sorted(patterns) if is_named(call.name, frozenset({pattern}))), None)
        if RETRY not in self._decisions or call.task_id is None or call.run_id is None:
            return None
        runs = self._tasks.of(call.task_id).runs
        number = runs.setdefault(call.run_id, len(runs) + 1)
        return RETRY if number > 1 else None

    def _may_override(self) -> bool:
        now = self._clock()
        if now - self._day >= _DAY_S:
            self._day, self._overrides = now, 0
        return self._overrides < self._most_overrides

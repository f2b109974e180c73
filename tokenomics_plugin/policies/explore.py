"""Leaves a small share of decisions to chance, so that what a retry or a reflection brings can be measured.

The agent goes on as it would, but with probability eps it is stopped. What that may cost is bounded before it starts:
the bound of a day is used up by every decision that chance took part in, whichever way the coin fell, so the cap
does not depend on the coin and biases nothing.

Source: micro-randomised trials, Klasnja et al., Health Psychology 34, 2015.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from typing import Final

from tokenomics_plugin.policies.scopes import check_mode, matches_any
from tokenomics_plugin.policy import Allowed, CallResult, Decision, Mode, ProposedCall, Refused, Verdict

__all__ = ["Explore", "RegretPlan"]

_RULE: Final = "explore"
_KINDS: Final = frozenset({"retry", "reflect"})
_DAY_S: Final = 86_400


@dataclass(frozen=True, kw_only=True)
class RegretPlan:
    """What an experiment may cost, before it begins."""

    eps: float
    """Probability with which a decision is overruled."""
    regret_per_stop: float
    """The most that one stop may cost: what a success is worth."""
    max_daily_regret: float
    """Bound of the expected regret of a day (UTC), in the same unit."""

    @property
    def decisions_a_day(self) -> int:
        """Decisions that chance may take part in a day."""
        # A billionth, so that 5 / (0.05 * 1.0) are a hundred.
        return int(self.max_daily_regret / (self.eps * self.regret_per_stop) + 1e-9)

    def __str__(self) -> str:
        return (
            f"Stops {self.eps:.1%} of at most {self.decisions_a_day} decisions a day: "
            f"an expected regret of {self.max_daily_regret:g} a day at most, {self.regret_per_stop:g} a stop."
        )


class Explore:
    """Stops retries and reflections at random, and records with which probability it would not have.

    Nothing is left to chance before `start`, which prints what it may cost, nor in shadow mode. Among several policies
    it comes last: a call that it let go on, and another one refused, would count as one that went on.

    Args:
        eps: Probability with which a decision is overruled, above 0 and below 1.
        decisions: What is left to chance: `retry`, a further attempt at a call (the middleware has to be last in the
            agent's list to be asked about these), and `reflect`, a call by an agent or of a tool that reflects.
        max_daily_regret: Bound of the expected regret of a day (UTC); decisions beyond it are left as they are.
        regret_per_stop: The most that one stop may cost, such as what a success is worth.
        reflects: Names or patterns of agents and tools that reflect.
        seed: Of the coins: the same call has the same coin.
        mode: `shadow` records which decisions there would be, `enforce` randomises.
        clock: Seconds since the epoch.

    Raises:
        ValueError: If a number is out of its range, or a decision is unknown.
    """

    def __init__(
        self,
        *,
        eps: float,
        decisions: Collection[str],
        max_daily_regret: float,
        regret_per_stop: float = 1.0,
        reflects: Iterable[str] = ("*reflect*", "*critique*", "*critic*"),
        seed: int = 0,
        mode: Mode = "shadow",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 < eps < 1:
            raise ValueError(f"eps must be above 0 and below 1, got {eps}")
        if not decisions or set(decisions) - _KINDS:
            raise ValueError(f"decisions must be among {', '.join(sorted(_KINDS))}, got {sorted(decisions)}")
        for name, amount in (("max_daily_regret", max_daily_regret), ("regret_per_stop", regret_per_stop)):
            if not (isfinite(amount) and amount > 0):
                raise ValueError(f"{name} must be a finite amount above 0, got {amount}")
        self.mode = check_mode(mode)
        self.plan = RegretPlan(eps=eps, regret_per_stop=regret_per_stop, max_daily_regret=max_daily_regret)
        self._decisions, self._reflects = frozenset(decisions), tuple(reflects)
        self._seed, self._clock = seed, clock
        self._has_started = False
        self._day, self._used = -1, 0
        self._lock = threading.Lock()

    def start(self, write: Callable[[str], object] = print) -> RegretPlan:
        """Say what it may cost, and begin."""
        write(str(self.plan))
        self._has_started = True
        return self.plan

    def stop(self) -> None:
        """Leave nothing to chance any more, at once."""
        self._has_started = False

    def ask(self, call: ProposedCall) -> Verdict:
        """Toss a coin, if the call is a decision of the experiment."""
        kind = self._kind(call)
        if kind is None or not self._may_toss():
            return Allowed()
        propensity = 1 - self.plan.eps
        goes_on = _coin(self._seed, call) < propensity
        reason = f"Left to chance with a probability of {self.plan.eps:g} to be stopped."
        decision = Decision(
            rule=_RULE,
            mode=self.mode,
            action="go_on" if goes_on else "stop",
            reason=reason,
            estimate=self.plan.eps * self.plan.regret_per_stop,
            propensity=propensity,
            kind=kind,
        )
        if goes_on or self.mode == "shadow":
            return Allowed((decision,))
        return Refused(reason="This step was left out, as part of an experiment.", rule=_RULE, decisions=(decision,))

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Nothing: what a decision brought is read from the recorded spans and outcomes."""

    def _kind(self, call: ProposedCall) -> str | None:
        if "retry" in self._decisions and call.attempt > 1:
            return "retry"
        names = call.agent_name if call.kind == "model" else call.name
        if "reflect" in self._decisions and call.attempt == 1 and matches_any(names, self._reflects):
            return "reflect"
        return None

    def _may_toss(self) -> bool:
        with self._lock:
            if not self._has_started:
                return False
            if (day := int(self._clock() // _DAY_S)) != self._day:
                self._day, self._used = day, 0
            if self._used >= self.plan.decisions_a_day:
                return False
            self._used += 1
        return True


def _coin(seed: int, call: ProposedCall) -> float:
    """Uniform on [0, 1), the same for the same call whatever else runs beside it."""
    text = f"{seed}\0{call.operation_id}\0{call.attempt}".encode()
    return int.from_bytes(blake2b(text, digest_size=7).digest()) / 2**56

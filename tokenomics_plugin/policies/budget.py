"""A budget that parallel calls cannot overrun: each reserves its worst case before it is made.

What a call may cost is known before it is made only as a bound: its input, and the most that it may answer. The bound
is held until the call has ended, however it ends; then what it did cost takes its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil, isfinite
from typing import Final, get_args

from tokenomics_plugin import semconv
from tokenomics_plugin.policies.scopes import Scope, Scopes, check_choice, check_mode, scope_of
from tokenomics_plugin.policy import Allowed, CallResult, Decision, Mode, ProposedCall, Refused, Verdict
from tokenomics_plugin.pricing import PriceBook, Rates, billed_tokens
from tokenomics_plugin.usage import TokenUsage

__all__ = ["BudgetPolicy"]

_RULE: Final = "budget"
_CHARACTERS_A_TOKEN: Final = 4
_HOUR_NS: Final = 3_600_000_000_000
_MOST_RATES: Final = 256
_ZERO: Final = Decimal(0)
# A billionth below counts as reached, as in the simulation: sums in another order differ by less.
_NEARLY: Final = Decimal(1) - Decimal("1e-9")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bill:
    """A model call as a price book reads it."""

    provider: str | None
    request_model: str | None
    start_unix_nano: int
    usage: TokenUsage | None = None
    duration_nano: int | None = None
    operation: str | None = semconv.OPERATION_CHAT
    response_model: str | None = None
    reported_cost_usd: Decimal | None = None
    is_cache_hit: bool = False


@dataclass(slots=True)
class _Account:
    spent: Decimal = _ZERO
    calls: int = 0
    reserved: dict[tuple[str, int], Decimal | None] = field(default_factory=dict)
    has_warned: bool = False

    @property
    def held(self) -> Decimal:
        return sum((amount for amount in self.reserved.values() if amount is not None), _ZERO)


class BudgetPolicy:
    """Stops a run, a task or a conversation whose next model call might exceed its budget.

    Args:
        max_cost: USD that a scope may spend.
        max_calls: Model calls that it may make.
        soft: Share of `max_cost` from which a warning is recorded, once a scope.
        scope: What has a budget of its own. A call that does not say its scope is allowed.
        reserve: Whether a call reserves its worst case. Without, the call that reaches the budget is still made, as
            the simulated `CostBudget` counts it. What a call may cost at most is unknown, and not reserved, where its
            request says no most tokens or its model has no price.
        prices: What tokens cost; list prices by default.
        count_tokens: Tokens of a call's input; a quarter of its characters by default, which is no bound.
        mode: `shadow` records, `enforce` refuses.

    Raises:
        ValueError: If there is no limit, or one is not above 0.
    """

    def __init__(
        self,
        *,
        max_cost: float | Decimal | None = None,
        max_calls: int | None = None,
        soft: float | None = None,
        scope: Scope = "run",
        reserve: bool = True,
        prices: PriceBook | None = None,
        count_tokens: Callable[[ProposedCall], int | None] | None = None,
        mode: Mode = "shadow",
    ) -> None:
        if max_cost is None and max_calls is None:
            raise ValueError("a budget needs max_cost, max_calls or both")
        if max_cost is not None and not (isfinite(max_cost) and max_cost > 0):
            raise ValueError(f"max_cost must be a finite amount above 0, got {max_cost}")
        if max_calls is not None and max_calls < 1:
            raise ValueError(f"max_calls must be at least 1, got {max_calls}")
        if soft is not None and not (max_cost is not None and 0 < soft < 1):
            raise ValueError(f"soft must be a share of max_cost between 0 and 1, got {soft} with max_cost={max_cost}")
        check_choice("scope", scope, get_args(Scope))
        self.mode = check_mode(mode)
        self._max_cost = None if max_cost is None else Decimal(str(max_cost))
        self._max_calls, self._soft, self._scope, self._reserve = max_calls, soft, scope, reserve
        self._prices, self._count_tokens = prices or PriceBook(), count_tokens or _a_quarter_of_the_characters
        self._rates: dict[tuple[str | None, str | None, int], Rates | None] = {}
        self._accounts = Scopes(_Account)
        self._lock = threading.Lock()

    def ask(self, call: ProposedCall) -> Verdict:
        """Reserve what a model call may cost; refuse it where that does not fit."""
        key = scope_of(call, self._scope)
        if call.kind != "model" or key is None:
            return Allowed()
        worst = self._worst_case(call) if self._reserve and self._max_cost is not None else None
        with self._lock:
            account = self._accounts[key]
            decisions = self._decisions(account, worst)
            refusal = next((decision for decision in decisions if decision.action == "stop"), None)
            if refusal is not None and self.mode == "enforce":
                return Refused(reason=refusal.reason, rule=_RULE, decisions=decisions)
            account.calls += 1
            account.reserved[call.operation_id, call.attempt] = worst
        return Allowed(decisions)

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Put what the call did cost in the place of what it reserved."""
        key = scope_of(call, self._scope)
        if call.kind != "model" or key is None:
            return
        cost = None if self._max_cost is None else self._cost(call, result)
        with self._lock:
            account = self._accounts[key]
            worst = account.reserved.pop((call.operation_id, call.attempt), None)
            if result.state == "refused":
                account.calls -= 1
                return
            if cost is None and result.state == "completed":
                cost = worst
            account.spent += cost or _ZERO

    def spent(self, scope_key: str) -> Decimal:
        """USD that a run, task or conversation has spent, as far as it is known."""
        with self._lock:
            return self._accounts[scope_key].spent

    def reserved(self, scope_key: str) -> Decimal:
        """USD that its open calls may spend."""
        with self._lock:
            return self._accounts[scope_key].held

    def _decisions(self, account: _Account, worst: Decimal | None) -> tuple[Decision, ...]:
        if self._max_calls is not None and account.calls >= self._max_calls:
            return (self._decide("stop", f"The limit of {self._max_calls} model calls is reached.", account.calls),)
        limit = self._max_cost
        if limit is None:
            return ()
        committed = account.spent + account.held
        if committed >= limit * _NEARLY:
            return (self._decide("stop", f"The budget of {limit} USD is spent.", committed),)
        if worst is not None and committed + worst > limit:
            reason = f"The next call may exceed the budget of {limit} USD."
            return (self._decide("stop", reason, committed + worst),)
        if self._soft is None or account.has_warned or committed < limit * Decimal(str(self._soft)):
            return ()
        account.has_warned = True
        return (self._decide("warn", f"{self._soft:.0%} of the budget of {limit} USD is spent.", committed),)

    def _decide(self, action: str, reason: str, estimate: Decimal | int) -> Decision:
        return Decision(
            rule=_RULE,
            mode=self.mode,
            action="warn" if action == "warn" else "stop",
            reason=reason,
            estimate=float(estimate),
        )

    def _worst_case(self, call: ProposedCall) -> Decimal | None:
        tokens = self._count_tokens(call)
        rates = self._rates_of(call)
        if rates is None or tokens is None or call.max_output_tokens is None:
            return None
        classes = (rates.input, rates.cache_write), (rates.output, rates.reasoning)
        dearest = [max((rate for rate in group if rate is not None), default=None) for group in classes]
        if dearest[0] is None or dearest[1] is None:
            return None
        return (dearest[0] * tokens + dearest[1] * call.max_output_tokens).scaleb(-6) + rates.call

    def _cost(self, call: ProposedCall, result: CallResult) -> Decimal | None:
        if result.usage is not None and result.usage.total_tokens == 0:
            return _ZERO  # nothing was asked of a provider
        bill = _Bill(
            provider=call.provider,
            request_model=call.name,
            start_unix_nano=time.time_ns(),
            usage=result.usage,
            duration_nano=result.duration_ns,
        )
        if (rates := self._rates_of(call)) is None:
            return self._prices.cost(bill)  # a price by the hour, or none
        counts = billed_tokens(bill)
        return None if counts is None else rates.cost(counts)

    def _rates_of(self, call: ProposedCall) -> Rates | None:
        """Looking a list price up takes longer than all else here, and prices do not change within the hour."""
        now = time.time_ns()
        key = call.provider, call.name, now // _HOUR_NS
        if key not in self._rates:
            if len(self._rates) >= _MOST_RATES:
                self._rates.clear()
            bill = _Bill(provider=call.provider, request_model=call.name, start_unix_nano=now)
            self._rates[key] = self._prices.rates(bill)
        return self._rates[key]


def _a_quarter_of_the_characters(call: ProposedCall) -> int | None:
    return None if call.input_characters is None else ceil(call.input_characters / _CHARACTERS_A_TOKEN)

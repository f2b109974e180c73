"""A budget for a run, a task or a conversation: the worst case is reserved before a call, what it cost is booked after.

Without the reservation ten parallel calls would each find the budget untouched. A call whose price is unknown cannot
be reserved for; it is allowed, and the decision says so.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil
from typing import Final, Literal

from tokenomics_plugin.policies.memory import Recent, checked_mode
from tokenomics_plugin.policies.ruling import refusal
from tokenomics_plugin.policy import Allowed, CallResult, Decision, ProposedCall, Verdict
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.trajectory import ModelCall
from tokenomics_plugin.usage import TokenUsage

__all__ = ["BudgetPolicy"]

Scope = Literal["run", "task", "conversation"]

_RULE: Final = "budget"
_CHARACTERS_PER_TOKEN: Final = 2.0
"""Fewer than texts have (about four), so that a reservation is rarely too small."""
_OUTPUT_TOKENS: Final = 4_096
_MAX_RESERVATIONS: Final = 10_000
_NOTHING: Final = Decimal(0)


@dataclass
class _Account:
    spent: Decimal = _NOTHING
    calls: int = 0
    reserved: OrderedDict[tuple[str, int], Decimal] = field(default_factory=OrderedDict)

    @property
    def committed(self) -> Decimal:
        return self.spent + sum(self.reserved.values(), _NOTHING)


class BudgetPolicy:
    """Stops model calls that could take a run beyond its budget.

    Parallel runs of one scope share it. A run that ends without telling of a call keeps its reservation until ten
    thousand later ones push it out.
    """

    def __init__(
        self,
        *,
        max_cost: float | Decimal | None = None,
        max_calls: int | None = None,
        scope: Scope = "run",
        prices: PriceBook | None = None,
        output_tokens: int = _OUTPUT_TOKENS,
        mode: str = "shadow",
    ) -> None:
        """Set the limits.

        Args:
            max_cost: USD that a scope may cost.
            max_calls: Model calls that it may make.
            scope: What the limits are for: the run that the application started, the business task over all of its
                runs, or the conversation.
            prices: What calls cost; list prices by default.
            output_tokens: The most that a model is supposed to answer with, where the request sets no limit.
            mode: `shadow` or `enforce`.

        Raises:
            ValueError: If no limit is given, or one is not positive.
        """
        if max_cost is None and max_calls is None:
            raise ValueError("a budget needs a limit: give max_cost, max_calls or both")
        if max_cost is not None and not Decimal(str(max_cost)) > 0:
            raise ValueError(f"max_cost must be an amount above 0, got {max_cost}")
        if max_calls is not None and max_calls < 1:
            raise ValueError(f"max_calls must be at least 1, got {max_calls}")
        if scope not in ("run", "task", "conversation"):
            raise ValueError(f"scope must be run, task or conversation, got {scope!r}")
        self._max_cost = None if max_cost is None else Decimal(str(max_cost))
        self._max_calls = max_calls
        self._scope: Scope = scope
        self._prices = PriceBook() if prices is None else prices
        self._output_tokens = output_tokens
        self._mode = checked_mode(mode)
        self._lock = threading.Lock()
        self._accounts: Recent[_Account] = Recent(_Account)

    @property
    def max_calls(self) -> int | None:
        """Model calls that a scope may make; `None` for any number."""
        return self._max_calls

    def ask(self, call: ProposedCall) -> Verdict:
        """Reserve the worst case, or refuse."""
        scope = self._scope_of(call)
        if call.kind != "model" or scope is None:
            return Allowed()
        worst = self._worst_case(call)
        with self._lock:
            account = self._accounts.of(scope)
            verdict = self._judge(account, worst)
            if isinstance(verdict, Allowed):
                account.calls += 1
                account.reserved[call.operation_id, call.attempt] = worst or _NOTHING
                if len(account.reserved) > _MAX_RESERVATIONS:
                    account.reserved.popitem(last=False)
        return verdict

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Give the reservation back, and book what the call cost."""
        scope = self._scope_of(call)
        if call.kind != "model" or scope is None:
            return
        cost = None if result.usage is None else self._cost(call, result.usage)
        with self._lock:
            account = self._accounts.of(scope)
            reserved = account.reserved.pop((call.operation_id, call.attempt), _NOTHING)
            if result.state == "refused":
                account.calls -= 1
            elif cost is not None:
                account.spent += cost
            elif result.state == "completed":
                account.spent += reserved  # it cost something, and nobody says what: no more than that

    def _judge(self, account: _Account, worst: Decimal | None) -> Verdict:
        if self._max_calls is not None and account.calls >= self._max_calls:
            reason = f"The {self._scope} has made {account.calls} model calls, which is its limit."
            return refusal(_RULE, reason, mode=self._mode, estimate=float(account.calls))
        if self._max_cost is None:
            return Allowed()
        committed = account.committed
        # A spent budget ends the run also where this call's price is unknown.
        if committed >= self._max_cost or (worst is not None and committed + worst > self._max_cost):
            reason = f"The {self._scope} has {self._max_cost - account.spent:.6f} of {self._max_cost} USD left."
            return refusal(_RULE, reason, mode=self._mode, estimate=float(committed + (worst or 0)))
        if worst is None:
            unknown = "The price of this model is unknown: nothing could be reserved."
            return Allowed(decisions=(Decision(rule=_RULE, acts=False, mode=self._mode, reason=unknown),))
        return Allowed()

    def _worst_case(self, call: ProposedCall) -> Decimal | None:
        characters = call.input_characters
        if characters is None:
            return None
        output = self._output_tokens if call.max_output_tokens is None else call.max_output_tokens
        usage = TokenUsage.from_inclusive(input_tokens=ceil(characters / _CHARACTERS_PER_TOKEN), output_tokens=output)
        return self._cost(call, usage)

    def _cost(self, call: ProposedCall, usage: TokenUsage) -> Decimal | None:
        priced = ModelCall(span_id="", provider=call.provider, model=call.name, request_model=call.name, usage=usage)
        return self._prices.quote(priced).usd

    def _scope_of(self, call: ProposedCall) -> str | None:
        ids = {"run": call.run_id, "task": call.task_id, "conversation": call.conversation_id}
        return ids[self._scope]

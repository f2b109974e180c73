"""Several policies as one."""

from __future__ import annotations

from collections.abc import Iterable

from tokenomics_plugin.policy import Allowed, CallPolicy, CallResult, Decision, ProposedCall, Recalled, Refused, Verdict

__all__ = ["AllOf"]


class AllOf:
    """Allows what all of its policies allow; the first one that refuses, or recalls, settles it.

    Policies that had allowed the call before are told that it was refused, so that nothing stays reserved.
    """

    def __init__(self, *policies: CallPolicy) -> None:
        """Take policies, in the order in which they are asked.

        Raises:
            ValueError: If there is none.
        """
        if not policies:
            raise ValueError("AllOf needs at least one policy")
        self._policies = policies

    def ask(self, call: ProposedCall) -> Verdict:
        """Ask one after the other."""
        decisions: tuple[Decision, ...] = ()
        remember_as: str | None = None
        for place, policy in enumerate(self._policies):
            verdict = policy.ask(call)
            decisions += verdict.decisions
            if isinstance(verdict, Refused):
                _withdraw(self._policies[:place], call)
                return Refused(reason=verdict.reason, rule=verdict.rule, decisions=decisions)
            if isinstance(verdict, Recalled):
                return Recalled(key=verdict.key, decisions=decisions)
            remember_as = remember_as or verdict.remember_as
        return Allowed(decisions=decisions, remember_as=remember_as)

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Tell all of them."""
        for policy in self._policies:
            policy.tell(call, result)


def _withdraw(policies: Iterable[CallPolicy], call: ProposedCall) -> None:
    for policy in policies:
        policy.tell(call, CallResult(state="refused", duration_ns=0))

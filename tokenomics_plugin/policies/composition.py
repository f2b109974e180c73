"""Several policies as one: asked in their order, and the first that does not let a call pass decides."""

from __future__ import annotations

import logging
from dataclasses import replace

from tokenomics_plugin.policy import Allowed, Answered, CallPolicy, CallResult, Decision, ProposedCall, Verdict
from tokenomics_plugin.usage import TokenUsage

__all__ = ["Policies"]

_LOGGER = logging.getLogger(__name__)
_NO_TOKENS = TokenUsage.from_inclusive(input_tokens=0, output_tokens=0)


class Policies:
    """Asks its policies one after the other.

    Those that let a call pass are told what came of it: also that a later one refused it, so that they release what
    they reserved. One that raises is logged once, and is as if it let the call pass; the others go on.
    """

    def __init__(self, *policies: CallPolicy) -> None:
        self._policies = policies
        self._failed: set[int] = set()

    def ask(self, call: ProposedCall) -> Verdict:
        """Ask each policy until one does not let the call pass."""
        decisions: tuple[Decision, ...] = ()
        for index, policy in enumerate(self._policies):
            try:
                verdict = policy.ask(call)
            except Exception as error:
                self._report(index, error)
                continue
            decisions += verdict.decisions
            if not isinstance(verdict, Allowed):
                state = "answered" if isinstance(verdict, Answered) else "refused"
                self._tell(index, call, CallResult(state=state, duration_ns=0, usage=_NO_TOKENS))
                return replace(verdict, decisions=decisions)
        return Allowed(decisions)

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Tell every policy."""
        self._tell(len(self._policies), call, result)

    def _tell(self, count: int, call: ProposedCall, result: CallResult) -> None:
        for index, policy in enumerate(self._policies[:count]):
            try:
                policy.tell(call, result)
            except Exception as error:
                self._report(index, error)

    def _report(self, index: int, error: Exception) -> None:
        if index not in self._failed:
            self._failed.add(index)
            name, kind = type(self._policies[index]).__qualname__, type(error).__qualname__
            _LOGGER.warning("%s failed with %s; calls go on as without it. Logged once.", name, kind)

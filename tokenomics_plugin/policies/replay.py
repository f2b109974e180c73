"""Puts logged calls to a policy, as if they were made now: its decisions before it is ever installed.

The trajectory stays as it was: in shadow mode a policy sees every call, so its first `stop` is where it would have
ended the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tokenomics_plugin.policy import Allowed, CallPolicy, CallResult, ProposedCall, Verdict

__all__ = ["first_refusal", "replay"]


def replay(policy: CallPolicy, calls: Iterable[tuple[ProposedCall, CallResult]]) -> Iterator[Verdict]:
    """Ask and tell a policy of calls that ended one after the other; a call that it would not allow is not told."""
    for call, result in calls:
        verdict = policy.ask(call)
        if isinstance(verdict, Allowed):
            policy.tell(call, result)
        yield verdict


def first_refusal(policy: CallPolicy, calls: Iterable[tuple[ProposedCall, CallResult]]) -> int | None:
    """Index of the first call that a policy stops, or would stop in shadow mode; `None` for none."""
    for index, verdict in enumerate(replay(policy, calls)):
        if any(decision.action in ("stop", "block") for decision in verdict.decisions):
            return index
    return None

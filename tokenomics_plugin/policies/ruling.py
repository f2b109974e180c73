"""From what a rule wants to a verdict: in shadow mode it is recorded, when enforced it is done."""

from __future__ import annotations

from tokenomics_plugin.policy import Allowed, Decision, Mode, Refused, Verdict

__all__ = ["refusal"]


def refusal(
    rule: str, reason: str, *, mode: Mode, estimate: float | None = None, propensity: float | None = None
) -> Verdict:
    """Refuse a call, or only say that it would have been.

    Args:
        rule: Short name of the rule.
        reason: Why, in a sentence without content; also the answer in the call's place.
        mode: Whether to do it.
        estimate: The number that decided it.
        propensity: Probability with which chance decided so.
    """
    decision = Decision(rule=rule, acts=True, mode=mode, reason=reason, estimate=estimate, propensity=propensity)
    if mode == "shadow":
        return Allowed(decisions=(decision,))
    return Refused(reason=reason, rule=rule, decisions=(decision,))

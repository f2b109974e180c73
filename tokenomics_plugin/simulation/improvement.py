"""When a policy may be called an improvement: it must gain value, and must not lose successes.

Cost per success improves when hard tasks are given up early, and so does value per token. On public runs of an
airline agent a cap of 8 calls lowers cost per success by a tenth, and destroys half of the successes. So neither
ratio is looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenomics_plugin.simulation.evaluation import PolicyResult

__all__ = ["Improvement", "judge_improvement"]


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """Whether a policy is one."""

    holds: bool
    """Net value rises, and the success rate does not fall by more than the margin."""
    objections: tuple[str, ...]
    """Why it cannot be claimed, one sentence each; empty when it holds."""


def judge_improvement(result: PolicyResult, *, margin: float) -> Improvement:
    """Judge a policy by its gain and by the most that the success rate may fall.

    Args:
        result: What the policy does.
        margin: Fall of the success rate that counts as none, such as 0.02. Declare it before looking.

    Raises:
        ValueError: If `margin` is not between 0 and 1.
    """
    if not 0 <= margin <= 1:
        raise ValueError(f"margin must be a fall of the success rate between 0 and 1, got {margin}")
    objections = tuple(filter(None, (_no_gain(result), _inferior(result, margin))))
    return Improvement(holds=not objections, objections=objections)


def _no_gain(result: PolicyResult) -> str | None:
    if result.gain_bounds is None:
        return "the gain is unknown: say what a success is worth"
    low = result.gain_bounds.low
    if low is None or low <= 0:
        return f"the gain may be {'anything' if low is None else f'as low as {low:.4g}'}: it must be above 0"
    return None


def _inferior(result: PolicyResult, margin: float) -> str | None:
    if result.success_drop_limit > margin:
        return f"the success rate may fall by {result.success_drop_limit:.1%}, more than the margin of {margin:.1%}"
    return None

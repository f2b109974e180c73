"""Which tasks are worth learning from: those that brought more than they took, the most per token first.

A task is chosen if it is known to have succeeded and its net value, value minus cost minus harm, is positive. Chosen
tasks are ranked by net value per token that they took, failed attempts included, so that of two ways to the same end
the shorter is learned first. Each task that is left out is counted under the first reason that holds, in the order of
`Reason`, so the counts add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from tokenomics_plugin.report import TaskStatus, TaskSummary

__all__ = ["Reason", "Worth", "judge"]

_MILLION = 1_000_000


class Reason(StrEnum):
    """Why a task is left out."""

    UNLABELLED = "without an outcome"
    PENDING = "pending"
    FAILED = "failed or harmful"
    NO_CONTENT = "without content that was captured and can be read"
    VALUE_UNKNOWN = "without a value in USD (see --value)"
    COST_UNKNOWN = "of unknown cost (see --prices)"
    TOKENS_UNKNOWN = "of unknown tokens"
    NOT_WORTH_IT = "not worth the cost"
    NOTHING_WHOLE = "without a whole answer"
    DUPLICATE = "like a better one"
    BEYOND_BUDGET = "beyond the budget"


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What a task brought, against what it took."""

    net_value_usd: Decimal
    """Value minus cost minus harm; positive."""
    tokens: int
    """Tokens of all its model calls; positive."""

    @property
    def per_million_tokens(self) -> Decimal:
        """USD of net value per million tokens."""
        return self.net_value_usd * _MILLION / self.tokens


def judge(task: TaskSummary, *, has_content: bool, value: Decimal | None) -> Worth | Reason:
    """What a task is worth to learn from, or why it is nothing.

    Args:
        task: As the report has it.
        has_content: Whether what some call of it said can be read.
        value: USD that a success is worth which does not say its own.
    """
    spend, worth = task.spend, value if task.value is None else task.value_usd
    if task.status is TaskStatus.UNLABELLED:
        return Reason.UNLABELLED
    if task.status is TaskStatus.PENDING:
        return Reason.PENDING
    if not task.is_success:
        return Reason.FAILED
    if not has_content:
        return Reason.NO_CONTENT
    if worth is None or task.harm_usd is None:
        return Reason.VALUE_UNKNOWN
    if spend.cost_usd is None:
        return Reason.COST_UNKNOWN
    if spend.calls_with_usage < spend.calls or not spend.tokens.total:
        return Reason.TOKENS_UNKNOWN
    net_value = worth - spend.cost_usd - task.harm_usd
    return Worth(net_value_usd=net_value, tokens=spend.tokens.total) if net_value > 0 else Reason.NOT_WORTH_IT

"""One business task as a report sees it: what became of it, and what it took."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from tokenomics_plugin.outcome import Outcome
from tokenomics_plugin.pricing import PRICE_CURRENCY
from tokenomics_plugin.report.spend import Spend

__all__ = ["TaskStatus", "TaskSummary"]


class TaskStatus(StrEnum):
    """How a task stands: an outcome's status, or that there is no outcome."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    HARMFUL = "harmful"
    PENDING = "pending"
    UNLABELLED = "unlabelled"

    @property
    def is_final(self) -> bool:
        """Whether the task has been judged."""
        return self not in (TaskStatus.PENDING, TaskStatus.UNLABELLED)


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """One task. A trace that names no task is a task of its own, under the trace's id."""

    task_id: str
    """The business task; a trace id where no task was named."""
    group: str | None
    """Tasks that are alike: one cluster for intervals."""
    status: TaskStatus
    """What became of it."""
    traces: int
    """Traces that worked on it; 0 when only its outcome is known."""
    spend: Spend
    """What it used."""
    value: Decimal | None
    """What its outcome is worth, in `currency`, as its judge said."""
    harm: Decimal | None
    """Damage that it did, in `currency`, as its judge said."""
    currency: str | None
    """ISO 4217 code; `None` without an outcome."""
    agents: tuple[str, ...]
    """Agents that took part."""
    value_usd: Decimal | None
    """Value in the currency of costs: 0 for a failure that nobody valued; `None` when unknown."""
    harm_usd: Decimal | None
    """Harm in the currency of costs: 0 where none is reported; `None` when its amount is unknown."""

    @classmethod
    def of(
        cls,
        task_id: str,
        *,
        group: str | None,
        traces: int,
        spend: Spend,
        agents: tuple[str, ...],
        outcome: Outcome | None,
    ) -> TaskSummary:
        """Join what a task used with what became of it."""
        status = TaskStatus.UNLABELLED if outcome is None else TaskStatus(outcome.status.value)
        return cls(
            task_id=task_id,
            group=group if group is not None or outcome is None else outcome.group,
            status=status,
            traces=traces,
            # Without spans nobody knows what it used, which is not nothing.
            spend=spend if traces else replace(spend, cost_usd=None, standard_tokens=None),
            value=None if outcome is None else outcome.value,
            harm=None if outcome is None else outcome.harm,
            currency=None if outcome is None else outcome.currency,
            agents=agents,
            value_usd=_value_usd(status, outcome),
            harm_usd=_harm_usd(status, outcome),
        )

    @property
    def cluster(self) -> Hashable:
        """The independent draw that this task is part of."""
        return ("task", self.task_id) if self.group is None else ("group", self.group)

    @property
    def is_success(self) -> bool:
        """Whether it succeeded."""
        return self.status is TaskStatus.SUCCEEDED


def _value_usd(status: TaskStatus, outcome: Outcome | None) -> Decimal | None:
    if outcome is None or not status.is_final:
        return None
    if outcome.value is None:
        # A failure achieves nothing unless somebody says otherwise; what a success achieves must be said.
        return None if status is TaskStatus.SUCCEEDED else Decimal(0)
    return _in_price_currency(outcome.value, outcome.currency)


def _harm_usd(status: TaskStatus, outcome: Outcome | None) -> Decimal | None:
    if outcome is None or not status.is_final:
        return None
    if outcome.harm is None:
        return None if status is TaskStatus.HARMFUL else Decimal(0)
    return _in_price_currency(outcome.harm, outcome.currency)


def _in_price_currency(amount: Decimal, currency: str) -> Decimal | None:
    # No exchange rates here: only nothing is the same in every currency.
    return amount if currency == PRICE_CURRENCY or amount == 0 else None

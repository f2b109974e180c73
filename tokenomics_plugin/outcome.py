"""What became of a task: the judgement that spend is divided by.

An outcome is known at once or weeks later, and may be revised (a refund, a reverted merge): the one
observed last counts, its `version` breaking ties. Money is `Decimal`, time is integer nanoseconds, and
what nobody said is `None`.

The attributes follow `gen_ai.evaluation.result` of the GenAI conventions where it has a place for them,
and `tokenomics.*` where it has none (task, value, harm, version).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from tokenomics_plugin import semconv

__all__ = ["Outcome", "OutcomeStatus", "as_money", "latest_outcomes", "tasks_by_trace"]

_MONEY_DIGITS = 18
"""Amounts beyond this are mistakes, and would overflow the sums of a whole report."""


class OutcomeStatus(StrEnum):
    """How a task ended, as far as is known."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    HARMFUL = "harmful"
    PENDING = "pending"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One judgement of one task."""

    task_id: str
    """The business task, as given to `tokenomics_plugin.task`."""
    status: OutcomeStatus
    """succeeded | failed | harmful | pending."""
    score: float | None = None
    """Graded result, in the evaluator's own unit; `None` when it only says yes or no."""
    value: Decimal | None = None
    """What this outcome is worth, in `currency`; `None` when nobody said."""
    harm: Decimal | None = None
    """Damage done, in `currency`, not negative; kept apart from `value`."""
    currency: str = "USD"
    """ISO 4217 code of `value` and `harm`."""
    evaluator: str = "user"
    """Who judged: a test suite, a person, a model."""
    evidence: str | None = None
    """Why, in a sentence or a link. It leaves the process: put no private text here."""
    observed_time_unix_nano: int = field(default_factory=time.time_ns)
    """When the judgement was made."""
    version: int = 0
    """Count of revisions by the same judge; breaks ties of time."""
    group: str | None = None
    """Cluster of tasks that are alike (same template, repository, customer); intervals respect it."""
    trace_id: str | None = None
    """Trace that was judged, 32 hex digits, when known."""

    def __post_init__(self) -> None:
        if not self.task_id:
            raise ValueError("task_id must not be empty: it is what joins an outcome to its spans")
        object.__setattr__(self, "status", _status(self.status))
        for name in ("value", "harm"):
            object.__setattr__(self, name, as_money(name, getattr(self, name)))
        if self.score is not None and not (isinstance(self.score, int | float) and math.isfinite(self.score)):
            raise ValueError(f"score must be a finite number, got {self.score!r}; use None when there is none")
        if self.harm is not None and self.harm < 0:
            raise ValueError(f"harm must not be negative, got {self.harm}; a benefit belongs in value")
        if len(self.currency) != 3 or not self.currency.isalpha() or not self.currency.isupper():
            raise ValueError(f"currency must be an ISO 4217 code such as 'USD', got {self.currency!r}")

    @property
    def is_final(self) -> bool:
        """Whether the task has ended: everything but pending."""
        return self.status is not OutcomeStatus.PENDING

    @property
    def is_success(self) -> bool:
        """Whether the task counts as a success."""
        return self.status is OutcomeStatus.SUCCEEDED

    def to_attributes(self) -> dict[str, str | int | float]:
        """Attributes of the evaluation event and of its carrier span; what is unknown is left out."""
        pairs: tuple[tuple[str, str | int | float | None], ...] = (
            (semconv.GEN_AI_EVALUATION_NAME, self.evaluator),
            (semconv.GEN_AI_EVALUATION_SCORE_LABEL, self.status.value),
            (semconv.GEN_AI_EVALUATION_SCORE_VALUE, self.score),
            (semconv.GEN_AI_EVALUATION_EXPLANATION, self.evidence),
            (semconv.TASK_ID, self.task_id),
            (semconv.TASK_GROUP, self.group),
            (semconv.OUTCOME_STATUS, self.status.value),
            (semconv.OUTCOME_VALUE, _text(self.value)),
            (semconv.OUTCOME_HARM, _text(self.harm)),
            (semconv.OUTCOME_CURRENCY, self.currency),
            (semconv.OUTCOME_EVALUATOR, self.evaluator),
            (semconv.OUTCOME_EVIDENCE, self.evidence),
            (semconv.OUTCOME_OBSERVED_TIME, self.observed_time_unix_nano),
            (semconv.OUTCOME_VERSION, self.version),
        )
        return {name: value for name, value in pairs if value is not None}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], *, trace_id: str | None = None) -> Outcome:
        """Read back what `to_attributes` wrote; numbers may have become strings on the way.

        Raises:
            ValueError: If the task id or the status is missing, or a value breaks its rule.
        """
        missing = [name for name in (semconv.TASK_ID, semconv.OUTCOME_STATUS) if not attributes.get(name)]
        if missing:
            raise ValueError(f"not an outcome: {', '.join(missing)} missing")
        score = attributes.get(semconv.GEN_AI_EVALUATION_SCORE_VALUE)
        return cls(
            task_id=str(attributes[semconv.TASK_ID]),
            status=_status(attributes[semconv.OUTCOME_STATUS]),
            score=None if score is None else float(score),
            value=attributes.get(semconv.OUTCOME_VALUE),
            harm=attributes.get(semconv.OUTCOME_HARM),
            currency=str(attributes.get(semconv.OUTCOME_CURRENCY, "USD")),
            evaluator=str(attributes.get(semconv.OUTCOME_EVALUATOR, "user")),
            evidence=attributes.get(semconv.OUTCOME_EVIDENCE),
            observed_time_unix_nano=_integer(semconv.OUTCOME_OBSERVED_TIME, attributes),
            version=_integer(semconv.OUTCOME_VERSION, attributes),
            group=attributes.get(semconv.TASK_GROUP),
            trace_id=trace_id,
        )


def latest_outcomes(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """The outcome that counts for each task: observed last, then the highest version."""
    latest: dict[str, Outcome] = {}
    for outcome in outcomes:
        known = latest.get(outcome.task_id)
        if known is None or _recency(outcome) > _recency(known):
            latest[outcome.task_id] = outcome
    return latest


def tasks_by_trace(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """Trace id -> task, for the traces that outcomes of one task only name."""
    named: defaultdict[str, set[str]] = defaultdict(set)
    for outcome in outcomes:
        if outcome.trace_id is not None:
            named[outcome.trace_id].add(outcome.task_id)
    return {trace_id: next(iter(tasks)) for trace_id, tasks in named.items() if len(tasks) == 1}


def _recency(outcome: Outcome) -> tuple[int, int, bool]:
    # The event and its carrier span say the same thing; the one that knows its trace says more.
    return outcome.observed_time_unix_nano, outcome.version, outcome.trace_id is not None


def _status(value: Any) -> OutcomeStatus:
    try:
        return OutcomeStatus(value)
    except ValueError:
        allowed = ", ".join(OutcomeStatus)
        raise ValueError(f"status must be one of {allowed}, got {value!r}") from None


def as_money(name: str, value: Decimal | int | float | str | None) -> Decimal | None:
    """An exact amount of money; a float counts as the decimal it prints as.

    Raises:
        ValueError: If it is not a finite number; `name` says which field was wrong.
    """
    if value is None:
        return None
    try:
        # str() first: Decimal(0.1) would keep the float's binary noise.
        amount = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{name} must be an amount of money, got {value!r}") from None
    if not amount.is_finite():
        raise ValueError(f"{name} must be finite, got {value!r}; use None when it is unknown")
    if amount and not -_MONEY_DIGITS <= amount.adjusted() <= _MONEY_DIGITS:
        raise ValueError(f"{name} must be between 1e-{_MONEY_DIGITS} and 1e{_MONEY_DIGITS}, got {value!r}")
    return amount


def _integer(name: str, attributes: Mapping[str, Any]) -> int:
    try:
        return int(attributes.get(name, 0))
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{name} must be an integer, got {attributes[name]!r}") from error


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin import semconv
from tokenomics_plugin.outcome import Outcome, OutcomeStatus, latest_outcomes

amounts = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9)
outcomes = st.builds(
    Outcome,
    task_id=st.text(min_size=1),
    status=st.sampled_from(OutcomeStatus),
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    value=st.none() | amounts,
    harm=st.none() | amounts.map(abs),
    currency=st.sampled_from(["USD", "EUR"]),
    evaluator=st.text(min_size=1),
    evidence=st.none() | st.text(),
    observed_time_unix_nano=st.integers(0, 2**63 - 1),
    version=st.integers(0, 100),
    group=st.none() | st.text(min_size=1),
    trace_id=st.none() | st.just("ab" * 16),
)


@given(outcomes)
def test_an_outcome_reads_back_from_its_attributes(outcome: Outcome) -> None:
    assert Outcome.from_attributes(outcome.to_attributes(), trace_id=outcome.trace_id) == outcome


@given(outcomes)
def test_numbers_may_become_strings_on_the_way(outcome: Outcome) -> None:
    attributes = {name: str(value) for name, value in outcome.to_attributes().items()}

    assert Outcome.from_attributes(attributes, trace_id=outcome.trace_id) == outcome


def test_the_evaluation_event_has_the_conventions_names() -> None:
    outcome = Outcome(task_id="t", status=OutcomeStatus.SUCCEEDED, score=0.5, evaluator="unit-tests", evidence="3/3")
    attributes = outcome.to_attributes()

    assert attributes[semconv.GEN_AI_EVALUATION_NAME] == "unit-tests"
    assert attributes[semconv.GEN_AI_EVALUATION_SCORE_VALUE] == 0.5
    assert attributes[semconv.GEN_AI_EVALUATION_SCORE_LABEL] == "succeeded"
    assert attributes[semconv.GEN_AI_EVALUATION_EXPLANATION] == "3/3"


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"task_id": ""}, "task_id must not be empty"),
        ({"status": "done"}, "status must be one of succeeded, failed, harmful, pending, got 'done'"),
        ({"value": "much"}, "value must be an amount of money, got 'much'"),
        ({"value": float("nan")}, "value must be finite"),
        ({"value": "1e99999999"}, "value must be between 1e-18 and 1e18"),
        ({"score": float("nan")}, "score must be a finite number, got nan"),
        ({"score": "high"}, "score must be a finite number, got 'high'"),
        ({"harm": -1}, "harm must not be negative, got -1"),
        ({"currency": "dollars"}, "currency must be an ISO 4217 code such as 'USD', got 'dollars'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_bad_field_is_named_with_its_rule(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match="^" + rule.replace("(", r"\(")):
        Outcome(**({"task_id": "t", "status": "succeeded"} | fields))


def test_a_float_is_the_decimal_that_it_prints_as() -> None:
    assert Outcome(task_id="t", status=OutcomeStatus.SUCCEEDED, value=0.1).value == Decimal("0.1")  # type: ignore[arg-type]


def test_attributes_without_a_task_are_not_an_outcome() -> None:
    with pytest.raises(ValueError, match=r"not an outcome: tokenomics\.task\.id missing"):
        Outcome.from_attributes({semconv.OUTCOME_STATUS: "failed"})


@pytest.mark.parametrize("time", [(1,), float("inf"), "yesterday"])
def test_a_time_that_is_none_makes_the_outcome_unreadable(time: Any) -> None:
    attributes = Outcome(task_id="t", status=OutcomeStatus.FAILED).to_attributes()

    with pytest.raises(ValueError, match=r"observed_time_unix_nano must be an integer|invalid literal"):
        Outcome.from_attributes(attributes | {semconv.OUTCOME_OBSERVED_TIME: time})


def test_the_outcome_observed_last_counts() -> None:
    paid = Outcome(task_id="t", status=OutcomeStatus.SUCCEEDED, observed_time_unix_nano=1)
    refunded = Outcome(task_id="t", status=OutcomeStatus.HARMFUL, observed_time_unix_nano=2)

    assert latest_outcomes([refunded, paid]) == {"t": refunded}


@given(st.lists(outcomes), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_decide_unless_all_else_is_equal(arrived: list[Outcome], random: Any) -> None:
    shuffled = random.sample(arrived, k=len(arrived))

    def recency(found: dict[str, Outcome]) -> dict[str, tuple[int, int]]:
        return {task: (outcome.observed_time_unix_nano, outcome.version) for task, outcome in found.items()}

    assert recency(latest_outcomes(arrived)) == recency(latest_outcomes(shuffled))

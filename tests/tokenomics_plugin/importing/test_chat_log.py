from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tokenomics_plugin.importing.chat_log import ChatLogError, read_run, usage_of
from tokenomics_plugin.outcome import OutcomeStatus
from tokenomics_plugin.usage import TokenUsage


def line(**fields: Any) -> bytes:
    return json.dumps({"task_id": "t", "messages": [], **fields}).encode()


def classes(usage: TokenUsage) -> tuple[int | None, ...]:
    return (
        usage.fresh_input_tokens,
        usage.cache_write_tokens,
        usage.cache_read_tokens,
        usage.visible_output_tokens,
        usage.reasoning_tokens,
    )


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 20}, (100, 0, 0, 20, 0)),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 60},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            (40, 0, 60, 15, 5),
        ),
        (
            {"input_tokens": 100, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 60}},
            (40, 0, 60, 20, 0),
        ),
        (
            {
                "input_tokens": 40,
                "output_tokens": 20,
                "cache_read_input_tokens": 50,
                "cache_creation_input_tokens": 10,
            },
            (40, 10, 50, 20, 0),
        ),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "cache_read_input_tokens": 50,
                "cache_creation_input_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": None},
            },
            (40, 10, 50, 20, 0),
        ),
        ({"input_tokens": 40, "output_tokens": 20}, (40, 0, 0, 20, 0)),
    ],
    ids=["openai", "openai-details", "openai-responses", "anthropic", "litellm", "plain"],
)
def test_one_request_has_the_same_tokens_in_whatever_convention_it_is_counted(
    usage: dict[str, Any], expected: tuple[int, ...]
) -> None:
    assert classes(usage_of(usage)) == expected


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"success": True}, OutcomeStatus.SUCCEEDED),
        ({"success": False}, OutcomeStatus.FAILED),
        ({"success": None}, OutcomeStatus.PENDING),
        ({"success": True, "harm": 3}, OutcomeStatus.SUCCEEDED),
        ({"success": False, "harm": 3}, OutcomeStatus.HARMFUL),
        ({"harm": "0.01"}, OutcomeStatus.HARMFUL),
        ({"success": False, "harm": 0}, OutcomeStatus.FAILED),
        ({"score": 1.0}, OutcomeStatus.SUCCEEDED),
        ({"score": 0.9}, OutcomeStatus.FAILED),
        ({"score": 0.9, "threshold": 0.5}, OutcomeStatus.SUCCEEDED),
        ({"value": 4}, OutcomeStatus.SUCCEEDED),
        ({"value": 0}, OutcomeStatus.FAILED),
    ],
    ids=str,
)
def test_what_a_log_says_of_an_outcome_becomes_a_status(said: dict[str, Any], status: OutcomeStatus) -> None:
    outcome = read_run(line(outcome=said)).judged(observed=5, trace_id="1" * 32)

    assert outcome is not None
    assert (outcome.status, outcome.observed_time_unix_nano) == (status, 5)


def test_an_outcome_keeps_its_money_its_judge_and_its_time() -> None:
    said = {
        "success": True,
        "score": 2,
        "value": "0.10",
        "harm": 0.2,
        "currency": "EUR",
        "evaluator": "jury",
        "evidence": "case 3",
        "observed": "2026-01-31T12:00:00.000001+01:00",
        "version": 2,
    }

    outcome = read_run(line(trial=3, outcome=said)).judged(observed=0, trace_id="1" * 32)

    assert outcome is not None
    assert (outcome.task_id, outcome.group, outcome.score, outcome.version) == ("t#3", "t", 2.0, 2)
    assert (outcome.value, outcome.harm, outcome.currency) == (Decimal("0.10"), Decimal("0.2"), "EUR")
    assert (outcome.evaluator, outcome.evidence) == ("jury", "case 3")
    assert outcome.observed_time_unix_nano == 1_769_857_200_000_001_000


@pytest.mark.parametrize(
    ("fields", "task_id", "group"),
    [
        ({}, "t", None),
        ({"group": "g"}, "t", "g"),
        ({"trial": 0}, "t#0", "t"),
        ({"run_id": "x"}, "t#x", "t"),
        ({"trial": 0, "group": "g"}, "t#0", "g"),
        ({"task_id": 7, "trial": 1.0}, "7#1", "7"),
    ],
    ids=str,
)
def test_trials_of_one_task_are_judged_apart_and_are_one_group(
    fields: dict[str, Any], task_id: str, group: str | None
) -> None:
    run = read_run(line(**fields))

    assert (run.task_id, run.group) == (task_id, group)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"trial": 1, "run_id": "x"}, "give one of the two"),
        ({"started": "2026-01-31T12:00:00"}, "started must be a time with its offset"),
        ({"started": "yesterday"}, "started must be a time with its offset, as 2026-01-31T12:00:00+00:00, got 'yester"),
        ({"started": -1}, "started must be seconds since 1970"),
        ({"started": 1767268800000}, "started must be seconds since 1970, up to 9000000000, got 1767268800000"),
        ({"cost": -1}, "cost must not be negative"),
        ({"cost": "much"}, "cost must be an amount of money, got 'much'"),
        ({"outcome": {}}, "outcome says nothing; give success, score, value or harm"),
        ({"outcome": {"success": True, "currency": "euro"}}, "currency must be an ISO 4217 code"),
        ({"outcome": {"success": False, "harm": -1}}, "harm must not be negative"),
        ({"messages": [{"role": "assistant", "usage": {"prompt_tokens": 2**60}}]}, "messages[0].usage must count at"),
        (
            {"messages": [{"role": "assistant", "usage": {"prompt_tokens": 1, "prompt_tokens_details": 3}}]},
            "messages[0].usage: its *_details must be objects",
        ),
        ({"messages": [{"role": "user", "timestamp": "noon"}]}, "messages[0].timestamp must be a time"),
        ({"messages": [{}, {}, {}, {}, {}]}, "and 2 more"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_line_that_breaks_a_rule_is_refused_with_field_rule_and_way_out(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ChatLogError) as caught:
        read_run(line(**fields))

    assert problem in str(caught.value)


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 100_000], ids=["torn", "no-text", "too-deep"])
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(ChatLogError, match="not JSON"):
        read_run(text)


def test_seconds_keep_their_microseconds() -> None:
    assert read_run(line(started=1767268800.000001)).started == 1_767_268_800_000_001_000

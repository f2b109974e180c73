from __future__ import annotations

import copy
import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenomics_plugin.importing.json_schema import Checker

SCHEMA = json.loads(files("tokenomics_plugin.importing").joinpath("chat_log.schema.json").read_text(encoding="utf-8"))
CHECKER = Checker(SCHEMA)
REFERENCE = jsonschema.Draft202012Validator(SCHEMA)

RUN: dict[str, Any] = {
    "task_id": "t",
    "trial": 0,
    "run_id": None,
    "group": "g",
    "agent": "a",
    "provider": "openai",
    "model": "m",
    "started": 1.5,
    "ended": "2026-01-01T00:00:00Z",
    "cost": "0.1",
    "tools": [{"type": "function"}],
    "messages": [
        {"role": "user", "content": "hi", "timestamp": 1, "unknown": {}},
        {
            "role": "assistant",
            "content": None,
            "model": "m",
            "id": "r",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 1, "cost": 0.5},
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "name": "f", "content": [{"type": "text", "text": ""}], "error": True},
    ],
    "outcome": {
        "success": True,
        "score": 0.5,
        "threshold": 1,
        "value": 1,
        "harm": "0",
        "currency": "EUR",
        "evaluator": "e",
        "evidence": "x",
        "observed": 3,
        "version": 1,
    },
}
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, 1, -1, 1.0, 1.5, "", "x", [], [0], [{}], {}, {"a": 1}, {"name": ""}, "user"]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document, from the outside in."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


PLACES = places(RUN)[1:]


def test_a_line_with_every_field_is_fine() -> None:
    assert list(CHECKER.problems(RUN)) == []
    REFERENCE.validate(RUN)


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(PLACES), value=VALUES, action=st.sampled_from(["replace", "remove", "add"]))
def test_a_change_breaks_a_rule_here_when_it_does_for_a_full_validator(
    place: tuple[Any, ...], value: Any, action: str
) -> None:
    document = copy.deepcopy(RUN)
    parent = document
    for step in place[:-1]:
        parent = parent[step]
    if action == "remove":
        del parent[place[-1]]
    elif action == "add" and isinstance(parent, dict):
        parent["another"] = value
    else:
        parent[place[-1]] = value

    assert bool(list(CHECKER.problems(document))) == (not REFERENCE.is_valid(document))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"task_id": None}, "task_id must be text or an integer, got None; name the ticket, the pull request or"),
        ({"task_id": ""}, "task_id must have at least 1 characters, got ''"),
        ({"trial": -1}, "trial must be at least 0, got -1"),
        ({"messages": {}}, "messages must be an array, got an object"),
        ({"messages": [{"role": "bot"}]}, "messages[0].role must be one of system, developer, user, assistant, tool"),
        ({"messages": [{"role": "user"}, {}]}, "messages[1].role is missing"),
        ({"outcome": {"scores": 1}}, "outcome.scores is not known; did you mean score?"),
        ({"zzz": 1}, "zzz is not known; known are task_id, trial"),
        ({"messages": [{"role": "assistant", "usage": 3}]}, "messages[0].usage must be an object or null, got 3"),
    ],
    ids=[
        "wrong-type", "too-short", "too-small", "not-a-list", "no-such-role", "missing", "misspelt", "unknown", "usage"
    ],
)  # fmt: skip
def test_a_broken_rule_names_field_rule_and_value(change: dict[str, Any], problem: str) -> None:
    [found] = CHECKER.problems(RUN | change)

    assert found.startswith(problem)


def test_a_line_that_is_no_object_is_named_as_such() -> None:
    assert list(CHECKER.problems([1])) == ["the line must be an object, got an array"]


def test_a_keyword_that_would_go_unchecked_is_refused() -> None:
    with pytest.raises(ValueError, match="'maxItems'"):
        Checker({"type": "array", "maxItems": 3})

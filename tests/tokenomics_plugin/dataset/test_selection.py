"""What is chosen, whatever the tasks: counts add up, order does not matter, a task is on one side for ever."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.dataset import Conversation, DatasetOptions, Material, Selection, Side, select, side_of
from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.report import Spend, TaskSummary, Tokens

SPEND = Spend(
    spans=1,
    errors=0,
    calls=1,
    calls_with_usage=1,
    priced_calls=1,
    tokens=Tokens(input=100, cache_write=0, cache_read=0, output=0, reasoning=0),
    standard_tokens=Decimal(100),
    priced_cost_usd=Decimal(1),
    cost_usd=Decimal(1),
)


def summary(name: str, *, status: OutcomeStatus | None, value: int, group: str | None = None) -> TaskSummary:
    outcome = None if status is None else Outcome(task_id=name, status=status, value=value)  # type: ignore[arg-type]
    return TaskSummary.of(name, group=group, traces=1, spend=SPEND, agents=(), outcome=outcome)


def words(*said: str) -> Material:
    found = [
        Conversation(messages=({"role": "assistant", "content": word},), tools=(), tokens=10 * len(word))
        for word in said
    ]
    return Material(has_content=True, conversations=tuple(("a" * 32, conversation) for conversation in found))


def taken(selection: Selection) -> list[str]:
    return [line.task.task_id for line in selection.lines]


TASKS = st.lists(
    st.tuples(
        st.sampled_from([None, *OutcomeStatus]),
        st.integers(0, 5),
        st.sampled_from([None, "g1", "g2"]),
        st.lists(st.sampled_from("abcdef"), max_size=2),
    ),
    max_size=12,
)


@given(TASKS, st.integers(1, 12), st.integers(1, 100), st.randoms(use_true_random=False))
def test_counts_add_up_and_order_does_not_matter(
    drawn: list[tuple[OutcomeStatus | None, int, str | None, list[str]]],
    max_tasks: int,
    max_tokens: int,
    shuffled: random.Random,
) -> None:
    tasks = [summary(f"t{n}", status=each[0], value=each[1], group=each[2]) for n, each in enumerate(drawn)]
    material = {f"t{n}": words(*each[3]) for n, each in enumerate(drawn)}
    options = DatasetOptions(held_out=0.5, max_tasks=max_tasks, max_tokens=max_tokens)

    selection = select(tasks, material, options)
    shuffled.shuffle(tasks)

    assert selection == select(tasks, dict(reversed(material.items())), options)
    assert selection.tasks == selection.kept + sum(selection.left_out.values()) == len(tasks)
    assert selection.kept == len(set(taken(selection))) <= max_tasks
    assert sum(line.conversation.tokens or 0 for line in selection.lines) <= max_tokens
    assert len({line.conversation.key for line in selection.lines}) == len(selection.lines)
    assert all(line.worth.net_value_usd > 0 and line.task.is_success for line in selection.lines)
    assert len(selection.side(Side.TRAIN)) + len(selection.side(Side.HELD_OUT)) == len(selection.lines)


@given(st.integers(1, 4), st.integers(0, 4))
def test_a_larger_budget_only_adds(tasks: int, more: int) -> None:
    everyone = [summary(f"t{n}", status=OutcomeStatus.SUCCEEDED, value=2 + n) for n in range(6)]
    material = {f"t{n}": words("x" * (1 + 7 * n % 5)) for n in range(6)}

    small, large = (taken(select(everyone, material, DatasetOptions(max_tasks=most))) for most in (tasks, tasks + more))

    assert large[: len(small)] == small


def test_the_most_net_value_per_token_comes_first_and_is_kept_of_two_that_say_the_same() -> None:
    everyone = [
        summary(name, status=OutcomeStatus.SUCCEEDED, value=value) for name, value in zip("abc", (2, 4, 3), strict=True)
    ]
    material = {"a": words("x"), "b": words("y"), "c": words("x")}

    assert taken(select(everyone, material, DatasetOptions())) == ["b", "c"]


def test_a_success_that_says_no_value_is_worth_what_the_caller_says() -> None:
    outcome = Outcome(task_id="t", status=OutcomeStatus.SUCCEEDED)
    task = TaskSummary.of("t", group=None, traces=1, spend=SPEND, agents=(), outcome=outcome)

    (line,) = select([task], {"t": words("x")}, DatasetOptions(value=Decimal(3))).lines

    assert line.worth.net_value_usd == 2
    assert line.worth.per_million_tokens == 20_000


@given(st.text(), st.floats(0, 0.99), st.floats(0, 0.99))
def test_who_is_held_out_stays_held_out_when_more_are(name: str, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert side_of(name, held_out=less) is Side.TRAIN or side_of(name, held_out=more) is Side.HELD_OUT


def test_the_share_is_held_out_and_names_fix_the_side() -> None:
    held_out = [name for name in map(str, range(4_000)) if side_of(name, held_out=0.2) is Side.HELD_OUT]

    assert abs(len(held_out) / 4_000 - 0.2) < 0.02
    assert held_out[:3] == ["2", "6", "17"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"held_out": 1.0}, "below 1, got 1.0"), ({"max_tasks": 0}, "max_tasks must be at least 1, got 0")],
    ids=["share", "budget"],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DatasetOptions(**wrong)  # type: ignore[arg-type]

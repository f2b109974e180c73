"""What the policies decide, asked as an agent asks them."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.marginal import RepeatedTask, Trial
from tokenomics_plugin.policies import AllOf, BudgetPolicy, Explore, LoopBreaker, MemoTools, RetryCap
from tokenomics_plugin.policy import Allowed, CallPolicy, CallResult, ProposedCall, Recalled, Refused, Verdict
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.simulation import Configuration
from tokenomics_plugin.usage import TokenUsage

# 1 USD per million tokens, in and out.
PRICES = PriceBook([Price(provider="toy", model="toy-1", input=Decimal(1), output=Decimal(1))])
COMPLETED = CallResult(state="completed", duration_ns=1)


def call(kind: Any = "model", *, name: str | None = None, **fields: Any) -> ProposedCall:
    defaults: dict[str, Any] = {
        "kind": kind,
        "name": name or ("toy-1" if kind == "model" else "get_order"),
        "provider": "toy" if kind == "model" else None,
        "operation_id": "1",
        "attempt": 1,
        "run_id": "run-1",
        "agent_run_id": "agent-1",
        "agent_name": "agent",
        "task_id": "task-1",
        "conversation_id": None,
        "input_characters": 200_000 if kind == "model" else None,  # at most 100,000 tokens, 0.10 USD
        "max_output_tokens": 100_000 if kind == "model" else None,  # 0.10 USD
        "arguments_fingerprint": None if kind == "model" else "a",
    }
    return ProposedCall(**defaults | fields)


def used(input_tokens: int, output_tokens: int, state: str = "completed") -> CallResult:
    usage = TokenUsage.from_inclusive(input_tokens=input_tokens, output_tokens=output_tokens)
    return CallResult(state=state, duration_ns=1, usage=usage)


def tool(policy: CallPolicy, name: str = "get_order", arguments: str = "a", **fields: Any) -> Verdict:
    """A tool call that is run if the policy lets it."""
    proposed = call("tool", name=name, arguments_fingerprint=arguments, **fields)
    verdict = policy.ask(proposed)
    if isinstance(verdict, Allowed):
        policy.tell(proposed, COMPLETED)
    return verdict


# Modes


POLICIES = [
    pytest.param(lambda mode: BudgetPolicy(max_cost=0.1, prices=PRICES, mode=mode), [call()], id="budget"),
    pytest.param(lambda mode: RetryCap(attempts=1, mode=mode), [call(), call(run_id="run-2")], id="retry-cap"),
    pytest.param(
        lambda mode: LoopBreaker(repeats=2, mode=mode), [call("tool"), call("tool"), call()], id="loop-breaker"
    ),
    pytest.param(
        lambda mode: LoopBreaker(repeats=2, action="block", mode=mode), [call("tool"), call("tool")], id="blocking"
    ),
]


def last_verdict(policy: CallPolicy, calls: Sequence[ProposedCall]) -> Verdict:
    for proposed in calls:
        verdict = policy.ask(proposed)
        if isinstance(verdict, Allowed):
            policy.tell(proposed, COMPLETED)
    return verdict


@pytest.mark.parametrize(("make", "calls"), POLICIES)
def test_shadow_mode_records_what_enforcing_would_do_and_does_nothing(make: Any, calls: Any) -> None:
    shadow, enforced = last_verdict(make("shadow"), calls), last_verdict(make("enforce"), calls)
    assert isinstance(shadow, Allowed)
    assert isinstance(enforced, Refused)
    (would,), (did,) = shadow.decisions, enforced.decisions
    assert (would.rule, would.reason, would.acts, would.mode) == (did.rule, did.reason, True, "shadow")
    assert did.mode == "enforce"


def test_shadow_is_the_default() -> None:
    assert isinstance(BudgetPolicy(max_cost=0.1, prices=PRICES).ask(call()), Allowed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BudgetPolicy(), "a budget needs a limit"),
        (lambda: BudgetPolicy(max_cost=0), "above 0, got 0"),
        (lambda: BudgetPolicy(max_calls=1, mode="on"), "mode must be 'shadow' or 'enforce', got 'on'"),
        (lambda: LoopBreaker(repeats=1), "repeats must be at least 2, got 1"),
        (lambda: RetryCap(attempts=0), "attempts must be at least 1, got 0"),
        (lambda: MemoTools(read_only=[]), "read_only must name a tool"),
        (
            lambda: Explore(eps=1, decisions="retry", max_daily_regret=1, regret_per_override=1),
            "strictly between 0 and 1, got 1",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_rule(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# Budget


def test_a_budget_reserves_the_worst_case_and_books_what_was_used() -> None:
    budget = BudgetPolicy(max_cost=0.50, prices=PRICES, mode="enforce")
    first, second, third = (call(operation_id=str(number)) for number in range(3))
    assert isinstance(budget.ask(first), Allowed)  # 0.20 reserved
    assert isinstance(budget.ask(second), Allowed)  # 0.40 reserved
    assert isinstance(budget.ask(third), Refused)  # 0.60 would be too much
    budget.tell(first, used(1_000, 1_000))  # 0.002 instead of 0.20
    assert isinstance(budget.ask(third), Allowed)


def test_runs_of_one_task_share_its_budget_and_tasks_do_not() -> None:
    budget = BudgetPolicy(max_cost=0.30, scope="task", prices=PRICES, mode="enforce")
    assert isinstance(budget.ask(call()), Allowed)
    assert isinstance(budget.ask(call(run_id="run-2", operation_id="2")), Refused)
    assert isinstance(budget.ask(call(task_id="task-2", operation_id="3")), Allowed)


@pytest.mark.parametrize("state", ["failed", "cancelled", "refused", "completed"])
def test_whatever_becomes_of_a_call_its_reservation_is_given_back(state: str) -> None:
    budget = BudgetPolicy(max_cost=0.25, prices=PRICES, mode="enforce")
    budget.ask(call())
    budget.tell(call(), used(0, 0, state))
    assert isinstance(budget.ask(call(operation_id="2")), Allowed)


def test_a_completed_call_of_unknown_usage_costs_what_was_reserved() -> None:
    budget = BudgetPolicy(max_cost=0.25, prices=PRICES, mode="enforce")
    budget.ask(call())
    budget.tell(call(), COMPLETED)
    assert isinstance(budget.ask(call(operation_id="2")), Refused)


def test_a_model_without_a_price_is_allowed_and_the_decision_says_so() -> None:
    verdict = BudgetPolicy(max_cost=0.25, prices=PRICES, mode="enforce").ask(call(name="unheard-of"))
    assert isinstance(verdict, Allowed)
    assert "price of this model is unknown" in verdict.decisions[0].reason
    assert not verdict.decisions[0].acts


def test_a_cap_of_calls_counts_calls() -> None:
    budget = BudgetPolicy(max_calls=2, mode="enforce")
    verdicts = [type(budget.ask(call(operation_id=str(number)))) for number in range(3)]
    assert verdicts == [Allowed, Allowed, Refused]


@given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 60_000)), max_size=30))
def test_no_order_of_parallel_calls_spends_more_than_the_budget(usages: list[tuple[int, int]]) -> None:
    budget, spent = BudgetPolicy(max_cost=0.5, prices=PRICES, mode="enforce"), Decimal(0)
    calls = [
        call(operation_id=str(place), input_characters=2 * fresh, max_output_tokens=made)
        for place, (fresh, made) in enumerate(usages)
    ]
    allowed = [place for place, proposed in enumerate(calls) if isinstance(budget.ask(proposed), Allowed)]
    for place in reversed(allowed):
        fresh, made = usages[place]
        budget.tell(calls[place], used(fresh, made))
        spent += Decimal(fresh + made) / 1_000_000
    assert spent <= Decimal("0.5")


def test_threads_do_not_overdraw_a_budget() -> None:
    budget, allowed = BudgetPolicy(max_calls=10, mode="enforce"), list[str]()

    def ask(number: int) -> None:
        if isinstance(budget.ask(call(operation_id=str(number))), Allowed):
            allowed.append(str(number))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(allowed) == 10


# Loops


def test_a_loop_ends_at_the_next_model_call() -> None:
    breaker = LoopBreaker(repeats=3, mode="enforce")
    for _ in range(2):
        tool(breaker)
    assert isinstance(breaker.ask(call()), Allowed)
    tool(breaker)
    assert isinstance(breaker.ask(call()), Refused)


@pytest.mark.parametrize(
    ("steps", "is_loop"),
    [
        pytest.param(["get_a", "get_a", "get_a"], True, id="the-same-again"),
        pytest.param(["get_a", "get_b", "get_a", "get_b", "get_a"], True, id="in-turns"),
        pytest.param(["get_a", "put_a", "get_a", "put_a", "get_a"], False, id="a-write-in-between"),
        pytest.param(["put_a", "put_a", "put_a"], False, id="declared-writes"),
        pytest.param(["call_x", "call_x", "call_x"], True, id="undeclared-in-a-row"),
        pytest.param(["call_x", "call_y", "call_x", "call_y", "call_x"], False, id="undeclared-in-turns"),
        pytest.param(["poll_a", "poll_a", "poll_a"], False, id="exempt"),
    ],
)
def test_a_repeat_is_the_same_action_in_the_same_state(steps: list[str], is_loop: bool) -> None:
    breaker = LoopBreaker(repeats=3, read_only=["get_*"], writes=["put_*"], exempt=["poll_*"], mode="enforce")
    for name in steps:
        tool(breaker, name)
    assert isinstance(breaker.ask(call()), Refused) is is_loop


def test_each_run_of_an_agent_loops_by_itself() -> None:
    breaker = LoopBreaker(repeats=2, mode="enforce")
    tool(breaker)
    tool(breaker, agent_run_id="agent-2")
    assert isinstance(breaker.ask(call()), Allowed)


# Retries


def test_a_retry_cap_counts_runs_of_a_task() -> None:
    cap = RetryCap(attempts=2, mode="enforce")
    runs = ["run-1", "run-1", "run-2", "run-3", "run-1"]
    verdicts = [type(cap.ask(call(run_id=run_id))) for run_id in runs]
    assert verdicts == [Allowed, Allowed, Allowed, Refused, Allowed]
    assert isinstance(cap.ask(call(run_id="run-9", task_id=None)), Allowed)


def history(successes: Sequence[int], *, trials: int = 4, cost: float = 1.0) -> list[RepeatedTask]:
    return [
        RepeatedTask(
            task_id=str(number),
            trials=tuple(Trial(is_success=place < wins, cost=cost) for place in range(trials)),
        )
        for number, wins in enumerate(successes)
    ]


def test_the_cap_is_the_last_attempt_that_pays() -> None:
    tasks = history([1] * 60)  # q: 1/4, 1/3, 1/2, 1
    assert RetryCap.from_history(tasks, value=5.0, ci="point").attempts == 4
    assert RetryCap.from_history(tasks, value=5.0, ci="point", k_max=2).attempts == 2
    with pytest.raises(ValueError, match="not even a first attempt pays when a success is worth 3"):
        RetryCap.from_history(tasks, value=3.0, ci="point")


def test_the_cautious_cap_is_never_above_the_hopeful_one() -> None:
    tasks = history([0, 0, 1, 1, 2, 3, 4, 4, 2, 0, 1, 3])
    lower, upper = (RetryCap.from_history(tasks, value=12.0, ci=end).attempts for end in ("lower", "upper"))
    assert lower <= upper


# Memory


def test_a_pure_tool_is_answered_from_memory_until_something_may_have_changed() -> None:
    memo = MemoTools(read_only=["get_*"], mode="enforce")
    assert isinstance(tool(memo), Allowed)
    assert isinstance(tool(memo), Recalled)
    assert isinstance(tool(memo, arguments="b"), Allowed)
    tool(memo, "update_order")
    assert isinstance(tool(memo), Allowed)


@pytest.mark.parametrize("state", ["failed", "cancelled", "interrupted", "refused"])
def test_only_completed_calls_are_remembered(state: str) -> None:
    memo = MemoTools(read_only=["get_*"], mode="enforce")
    memo.ask(call("tool"))
    memo.tell(call("tool"), CallResult(state=state, duration_ns=1))
    assert isinstance(memo.ask(call("tool")), Allowed)


def test_memory_ends_with_its_time_and_its_run() -> None:
    now = [0.0]
    memo = MemoTools(read_only=["get_*"], ttl=60, mode="enforce", clock=lambda: now[0])
    tool(memo)
    assert isinstance(tool(memo, run_id="run-2"), Allowed)
    now[0] = 61.0
    assert isinstance(tool(memo), Allowed)


def test_declared_writes_alone_may_forget() -> None:
    memo = MemoTools(read_only=["get_*"], invalidate_on=["update_*"], mode="enforce")
    tool(memo)
    tool(memo, "think")
    assert isinstance(tool(memo), Recalled)
    tool(memo, "update_order")
    assert isinstance(tool(memo), Allowed)


# Experiments


def test_the_coin_falls_once_a_run_with_the_odds_on_record() -> None:
    explore = Explore(
        eps=0.25, decisions=["verify_*"], max_daily_regret=1e6, regret_per_override=1, seed=1, mode="enforce"
    )
    off = 0
    for number in range(400):
        verdicts = [tool(explore, "verify_answer", run_id=f"run-{number}") for _ in range(3)]
        kinds = {type(verdict) for verdict in verdicts}
        assert len(kinds) == 1, "a component stays as the coin fell"
        drawn = verdicts[0].decisions[0]
        off += drawn.acts
        assert drawn.propensity == (0.25 if drawn.acts else 0.75)
    assert abs(off - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)


def test_exploring_stops_for_the_day_when_its_regret_is_used_up() -> None:
    now = [0.0]
    explore = Explore(
        eps=0.999,
        decisions=["verify"],
        max_daily_regret=2.0,
        regret_per_override=1.0,
        seed=1,
        mode="enforce",
        clock=lambda: now[0],
    )

    def overridden(first: int) -> int:
        verdicts = [tool(explore, "verify", run_id=f"run-{first + number}") for number in range(50)]
        return sum(isinstance(verdict, Refused) for verdict in verdicts)

    assert overridden(0) == 2
    now[0] = 90_000.0
    assert overridden(100) == 2


def test_the_bound_on_regret_is_said_before_anything_is_drawn(caplog: pytest.LogCaptureFixture) -> None:
    explore = Explore(eps=0.1, decisions="retry", max_daily_regret=5.0, regret_per_override=2.0)
    assert explore.regret_bound in caplog.text
    assert "at most 2 decisions a day are overridden, which loses at most 5 USD a day" in explore.regret_bound


def test_only_further_runs_of_a_task_are_retries() -> None:
    explore = Explore(eps=0.5, decisions="retry", max_daily_regret=100, regret_per_override=1, seed=3, mode="enforce")
    assert explore.ask(call(run_id="run-1")) == Allowed()
    assert explore.ask(call(run_id="run-2")).decisions
    assert explore.ask(call(run_id="run-1")) == Allowed()


# Together


def test_what_one_policy_refuses_stays_reserved_with_no_other() -> None:
    budget = BudgetPolicy(max_calls=1, mode="enforce")
    cap = RetryCap(attempts=1, mode="enforce")
    both = AllOf(budget, cap)
    assert isinstance(both.ask(call(task_id="t", run_id="a")), Allowed)
    both.tell(call(task_id="t", run_id="a"), used(1, 1))
    verdict = both.ask(call(task_id="t", run_id="b"))
    assert isinstance(verdict, Refused)
    assert verdict.rule == "retry cap"
    assert isinstance(budget.ask(call(task_id="t2", run_id="b")), Allowed), "the refused call is no call"


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(component="tokenomics_langchain.BudgetPolicy", arguments={"max_cost": 2.0, "mode": "shadow"}),
        Configuration(component="tokenomics_langchain.RetryCap", arguments={"attempts": 2, "mode": "shadow"}),
        Configuration(
            component="tokenomics_langchain.LoopBreaker", arguments={"repeats": 3, "action": "stop", "mode": "shadow"}
        ),
        Configuration(component="tokenomics_langchain.MemoTools", arguments={"read_only": ["get_*"], "mode": "shadow"}),
    ],
    ids=lambda configuration: configuration.component,
)
def test_what_recommendations_name_can_be_made(configuration: Configuration) -> None:
    component = configuration.component.rpartition(".")[2]
    policies = {each.__name__: each for each in (BudgetPolicy, LoopBreaker, MemoTools, RetryCap)}
    made = policies[component](**configuration.arguments)
    assert isinstance(made.ask(call()), Allowed)

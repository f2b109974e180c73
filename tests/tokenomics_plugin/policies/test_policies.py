from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, Literal

import pytest

import tokenomics_langchain
from logged_runs import logged
from tokenomics_plugin.marginal import RepeatedTask, Trial
from tokenomics_plugin.policies import (
    BudgetPolicy,
    Explore,
    LoopBreaker,
    MemoTools,
    Policies,
    RetryCap,
    first_refusal,
)
from tokenomics_plugin.policy import Allowed, Answered, CallPolicy, CallResult, ProposedCall, Refused, Verdict
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.simulation import (
    CostBudget,
    LoggedRun,
    Rule,
    RunTable,
)
from tokenomics_plugin.simulation import LoopBreaker as LoopRule
from tokenomics_plugin.simulation import RetryCap as RetryRule
from tokenomics_plugin.usage import TokenUsage

BOOK = PriceBook([Price(provider="*", model="toy", input=Decimal(1_000_000), output=Decimal(1_000_000))])
"""One dollar a token."""
Pair = tuple[ProposedCall, CallResult]


def model(number: int = 0, *, run: str = "run", most: int | None = 10, **fields: Any) -> ProposedCall:
    defaults: dict[str, Any] = {
        "kind": "model",
        "name": "toy",
        "operation_id": f"{run}:m{number}",
        "attempt": 1,
        "run_id": run,
        "agent_run_id": run,
        "agent_name": None,
        "task_id": "task",
        "conversation_id": None,
        "input_characters": 8,
        "max_output_tokens": most,
    }
    return ProposedCall(**defaults | fields)


def tool(name: str, arguments: str | None = "1", number: int = 0, **fields: Any) -> ProposedCall:
    call = {"kind": "tool", "name": name, "operation_id": f"t{number}", "arguments_fingerprint": arguments}
    return model(**call | {"input_characters": None, "max_output_tokens": None} | fields)


def used(tokens: int) -> CallResult:
    usage = TokenUsage.from_inclusive(input_tokens=0, output_tokens=tokens)
    return CallResult(state="completed", duration_ns=1, usage=usage)


def ended(state: str, answer: object = None) -> CallResult:
    return CallResult(state=state, duration_ns=1, answer=answer)


def done(policy: Any, call: ProposedCall, result: CallResult) -> Verdict:
    verdict: Verdict = policy.ask(call)
    if isinstance(verdict, Allowed):
        policy.tell(call, result)
    return verdict


# Budgets


def test_calls_that_overlap_cannot_overrun_a_budget_together() -> None:
    budget = BudgetPolicy(max_cost=30, prices=BOOK, mode="enforce")  # 12 at most a call: 2 in, 10 out
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda number: budget.ask(model(number)), range(20)))
    assert sum(isinstance(verdict, Allowed) for verdict in verdicts) == 2
    assert budget.reserved("run") == 24


def test_what_a_call_cost_takes_the_place_of_what_it_reserved() -> None:
    budget = BudgetPolicy(max_cost=30, prices=BOOK, mode="enforce")
    assert [done(budget, model(number), used(5)) for number in range(4)] == [Allowed()] * 4
    assert (budget.spent("run"), budget.reserved("run")) == (Decimal(20), Decimal(0))
    refused = budget.ask(model(4))
    assert isinstance(refused, Refused)
    assert refused.decisions[0].estimate == 32.0
    assert isinstance(budget.ask(model(5, run="another")), Allowed)


@pytest.mark.parametrize("state", ["failed", "cancelled", "interrupted", "abandoned", "refused"])
def test_a_reservation_is_released_however_the_call_ends(state: str) -> None:
    budget = BudgetPolicy(max_cost=30, max_calls=9, prices=BOOK, mode="enforce")
    done(budget, model(), ended(state))
    assert (budget.spent("run"), budget.reserved("run")) == (Decimal(0), Decimal(0))


def test_a_completed_call_of_unknown_usage_costs_its_worst_case() -> None:
    budget = BudgetPolicy(max_cost=30, prices=BOOK)
    done(budget, model(), ended("completed"))
    assert budget.spent("run") == 12


def test_a_shadow_stops_nothing_and_says_what_it_would_have_done() -> None:
    budget = BudgetPolicy(max_cost=13, prices=BOOK)
    verdicts = [done(budget, model(number), used(5)) for number in range(3)]
    assert all(isinstance(verdict, Allowed) for verdict in verdicts)
    assert [[(d.action, d.mode) for d in verdict.decisions] for verdict in verdicts] == [
        [],
        [("stop", "shadow")],
        [("stop", "shadow")],
    ]
    assert budget.spent("run") == 15


def test_a_soft_limit_warns_once_and_calls_are_counted() -> None:
    budget = BudgetPolicy(max_cost=100, max_calls=4, soft=0.05, prices=BOOK, scope="task", mode="enforce")
    actions = [[d.action for d in done(budget, model(n, run=f"r{n}"), used(5)).decisions] for n in range(5)]
    assert actions == [[], ["warn"], [], [], ["stop"]]


@pytest.mark.parametrize(
    "arguments",
    [{}, {"max_cost": 0}, {"max_calls": 0}, {"max_calls": 1, "soft": 0.5}, {"max_cost": 1, "scope": "day"}],
    ids=str,
)
def test_a_budget_that_makes_no_sense_is_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|needs"):
        BudgetPolicy(**arguments)


# Loops


def loop(policy: LoopBreaker, *calls: ProposedCall) -> bool:
    """Whether the model call after these tool calls would be stopped."""
    pairs = [(call, ended("completed")) for call in calls]
    return first_refusal(policy, [*pairs, (model(99), used(1))]) is not None


READ, WRITE, OTHER = tool("get", number=1), tool("put", number=2), tool("get", "2", number=3)


@pytest.mark.parametrize(
    ("calls", "is_loop"),
    [
        ([READ] * 3, True),
        ([READ] * 2, False),
        ([READ, WRITE, READ, WRITE, READ], False),
        ([READ, OTHER, READ, OTHER, READ], True),
        ([WRITE] * 3, True),
        ([tool("poll_state")] * 9, False),
        ([tool("get", None)] * 9, False),
        ([READ, tool("get", number=1, attempt=2), tool("get", number=1, attempt=3)], False),
        ([READ, READ, tool("get", agent_run_id="another")], False),
    ],
    ids=[
        "thrice",
        "twice",
        "writes between",
        "reads between",
        "writes alike",
        "exempt",
        "unknown",
        "retries",
        "agents",
    ],
)
def test_a_loop_is_one_action_repeated_in_one_state(calls: list[ProposedCall], is_loop: bool) -> None:
    assert loop(LoopBreaker(repeats=3, read_only=["get"], exempt=["poll_*"]), *calls) is is_loop


def test_a_write_after_a_loop_lets_the_run_go_on() -> None:
    breaker = LoopBreaker(repeats=2, read_only=["get"], mode="enforce")
    for call in (READ, READ):
        done(breaker, call, ended("completed"))
    assert isinstance(breaker.ask(model()), Refused)
    done(breaker, WRITE, ended("completed"))
    assert isinstance(breaker.ask(model()), Allowed)


@pytest.mark.parametrize("state", ["interrupted", "cancelled", "refused"])
def test_a_call_that_was_not_made_to_its_end_is_no_repetition(state: str) -> None:
    breaker = LoopBreaker(repeats=2, mode="enforce")
    for _ in range(5):
        done(breaker, READ, ended(state))
    assert isinstance(breaker.ask(model()), Allowed)


def test_a_breaker_that_blocks_answers_the_closing_call_and_lets_the_model_go_on() -> None:
    breaker = LoopBreaker(repeats=3, action="block", mode="enforce")
    verdicts = [done(breaker, READ, ended("completed")) for _ in range(3)]
    assert [type(verdict) for verdict in verdicts] == [Allowed, Allowed, Refused]
    assert isinstance(breaker.ask(model()), Allowed)


# Retries


def test_a_task_is_given_up_after_its_attempts_and_a_resumed_run_is_none() -> None:
    cap = RetryCap(attempts=2, mode="enforce")
    assert isinstance(done(cap, model(run="a"), ended("completed")), Allowed)
    done(cap, tool("ask", run="b"), ended("interrupted"))
    assert isinstance(cap.ask(model(run="resumed")), Allowed)
    assert isinstance(cap.ask(model(run="c")), Refused)
    assert isinstance(cap.ask(model(run="c", task_id="other")), Allowed)


def test_a_cap_from_history_is_the_last_attempt_that_pays() -> None:
    def trials(successes: int) -> tuple[Trial, ...]:
        return tuple(Trial(is_success=number < successes, cost=1.0) for number in range(4))

    tasks = [RepeatedTask(task_id=str(n), trials=trials(n % 5)) for n in range(40)]
    ends: tuple[Literal["lower", "point", "upper"], ...] = ("lower", "point", "upper")
    caps = [RetryCap.from_history(tasks, value=6.0, interval=end).attempts for end in ends]
    assert caps == sorted(caps)
    assert RetryCap.from_history(tasks, value=1e6, most=2).attempts == 2
    runs = [
        logged([trial.cost], task=task.task_id, success=trial.is_success) for task in tasks for trial in task.trials
    ]
    assert RetryCap.from_history(runs, value=6.0).attempts == caps[0]
    with pytest.raises(ValueError, match="not even the first attempt pays"):
        RetryCap.from_history(tasks, value=0.5)


# Memory


def test_a_read_is_answered_until_a_write() -> None:
    memo = MemoTools(read_only=["get"], mode="enforce")
    assert done(memo, READ, ended("completed", "3")) == Allowed()
    remembered = done(memo, READ, ended("completed", "3"))
    assert isinstance(remembered, Answered)
    assert remembered.answer == "3"
    assert done(memo, OTHER, ended("completed", "4")) == Allowed()
    done(memo, WRITE, ended("failed"))
    assert done(memo, READ, ended("completed", "5")) == Allowed()


@pytest.mark.parametrize(
    "result",
    [ended("failed", "x"), ended("interrupted"), ended("completed", None), ended("answered", "x")],
    ids=["error", "interrupt", "command", "already a memory"],
)
def test_what_is_no_plain_answer_is_not_remembered(result: CallResult) -> None:
    memo = MemoTools(read_only=["get"], mode="enforce")
    done(memo, READ, result)
    assert done(memo, READ, result) == Allowed()


def test_a_read_that_overlaps_a_write_is_not_remembered() -> None:
    memo = MemoTools(read_only=["get"], mode="enforce")
    memo.ask(READ)
    memo.ask(WRITE)
    memo.tell(READ, ended("completed", "old"))
    memo.tell(WRITE, ended("completed"))
    assert memo.ask(READ) == Allowed()


def test_answers_grow_old_and_other_runs_and_harmless_tools_do_not_matter() -> None:
    now = [0.0]
    memo = MemoTools(read_only=["get"], ttl=10, invalidate_on=["drop_*"], mode="enforce", clock=lambda: now[0])
    done(memo, READ, ended("completed", "3"))
    done(memo, WRITE, ended("completed"))
    assert isinstance(memo.ask(READ), Answered)
    assert memo.ask(tool("get", run="another")) == Allowed()
    now[0] = 10.0
    assert memo.ask(READ) == Allowed()


def test_a_shadow_memory_calls_the_tool_and_says_that_it_need_not() -> None:
    memo = MemoTools(read_only=["get"])
    done(memo, READ, ended("completed", "3"))
    verdict = done(memo, READ, ended("completed", "3"))
    assert isinstance(verdict, Allowed)
    assert [decision.action for decision in verdict.decisions] == ["answer"]


# Experiments


def test_nothing_is_left_to_chance_before_its_price_is_said() -> None:
    said: list[str] = []
    explore = Explore(eps=0.5, decisions={"retry"}, max_daily_regret=5.0, mode="enforce")
    assert explore.ask(model(attempt=2)) == Allowed()
    assert explore.start(said.append).decisions_a_day == 10
    assert said == ["Stops 50.0% of at most 10 decisions a day: an expected regret of 5 a day at most, 1 a stop."]
    assert explore.ask(model(attempt=1)) == Allowed()
    (decision,) = explore.ask(model(attempt=2)).decisions
    assert (decision.propensity, decision.kind, decision.mode) == (0.5, "retry", "enforce")
    explore.stop()
    assert explore.ask(model(attempt=2)) == Allowed()


def test_the_regret_of_a_day_is_capped_and_begins_anew() -> None:
    now = [0.0]
    explore = Explore(eps=0.1, decisions={"reflect"}, max_daily_regret=1.0, mode="enforce", clock=lambda: now[0])
    explore.start(lambda _: None)

    def tossed() -> int:
        return sum(bool(explore.ask(model(number, agent_name="reflector")).decisions) for number in range(30))

    assert tossed() == 10
    now[0] = 86_400.0
    assert tossed() == 10


def test_coins_fall_as_often_as_they_say_and_the_same_for_the_same_call() -> None:
    explore = Explore(eps=0.2, decisions={"retry"}, max_daily_regret=1e6, seed=3, mode="enforce")
    explore.start(lambda _: None)
    stops = [isinstance(explore.ask(model(number, attempt=2)), Refused) for number in range(5000)]
    assert sum(stops) / 5000 == pytest.approx(0.2, abs=0.02)  # 3.5 standard errors
    assert stops[:50] == [isinstance(explore.ask(model(number, attempt=2)), Refused) for number in range(50)]


# Several


class Broken:
    def ask(self, call: ProposedCall) -> Verdict:
        raise RuntimeError("private")

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        raise RuntimeError("private")


def test_a_later_refusal_releases_what_earlier_policies_reserved(caplog: pytest.LogCaptureFixture) -> None:
    budget = BudgetPolicy(max_cost=30, prices=BOOK, mode="enforce")
    calls = BudgetPolicy(max_calls=1, mode="enforce")
    both = Policies(Broken(), budget, calls)
    with caplog.at_level(logging.WARNING):
        assert done(both, model(0), used(5)) == Allowed()
        refused = done(both, model(1), used(5))
    assert isinstance(refused, Refused)
    assert refused.reason == "The limit of 1 model calls is reached."
    assert (budget.spent("run"), budget.reserved("run")) == (Decimal(5), Decimal(0))
    assert [record.getMessage() for record in caplog.records] == [
        "Broken failed with RuntimeError; calls go on as without it. Logged once."
    ]


# Simulated and live


def live(rule: Rule) -> CallPolicy:
    if isinstance(rule, LoopRule):
        return LoopBreaker(repeats=rule.repeats, read_only=["get", "find"])
    if isinstance(rule, RetryRule):
        return RetryCap(attempts=rule.attempts)
    assert isinstance(rule, CostBudget)
    return BudgetPolicy(max_cost=rule.limit, reserve=False, scope="task", prices=BOOK)


def live_calls(run: LoggedRun, names: list[str]) -> list[Pair]:
    """A model call a step, that costs what the step did, followed by its action."""
    calls: list[Pair] = []
    assert run.attempts is not None
    for step, (name, cost, attempt) in enumerate(zip(names, run.step_costs, run.attempts, strict=True)):
        of = f"attempt {attempt}"
        calls.append((model(step, run=of, agent_run_id="agent"), used(int(cost))))
        if name:
            calls.append((tool(name, number=step, run_id=of, agent_run_id="agent"), ended("completed")))
    return calls


@pytest.mark.parametrize(
    "names",
    [["get"] * 6, ["get", "put", "get", "put", "get", "put"], ["get", "", "get", "find", "get", ""], ["put"] * 6],
    ids=["one read", "reads and writes", "reads apart", "one write"],
)
@pytest.mark.parametrize(
    "rule",
    [
        *(CostBudget(limit=limit) for limit in (1, 4, 6, 7)),
        *(LoopRule(repeats=n) for n in (2, 3)),
        RetryRule(attempts=2),
    ],
    ids=lambda rule: rule.description,
)
def test_the_live_policy_stops_at_the_call_at_which_the_rule_did(rule: Rule, names: list[str]) -> None:
    keys, version = [], 0
    for name in names:  # a write begins a state for all but itself
        keys.append({"": -1, "put": 1_000}.get(name, 10 * version + len(name)))
        version += name == "put"
    run = logged([1.0] * 6, attempts=[1, 1, 2, 2, 3, 3], action_keys=keys, success=False)
    table = RunTable.of([run])
    expected = int(rule.effect(table).first_touched_call[0])
    policy = live(rule)
    calls = live_calls(run, names)
    stopped = first_refusal(policy, calls)
    before = calls if stopped is None else calls[:stopped]
    assert sum(call.kind == "model" for call, _ in before) == expected


@pytest.mark.parametrize(
    "text",
    [
        "BudgetPolicy(max_cost=3.0, mode='shadow')",
        "RetryCap(attempts=2, mode='shadow')",
        "LoopBreaker(repeats=3, read_only=['get_*'], action='stop', mode='shadow')",
        "MemoTools(read_only=['get_*'], mode='shadow')",
        "Explore(eps=0.05, decisions={'retry', 'reflect'}, max_daily_regret=5.0, seed=1)",
    ],
)
def test_configurations_that_are_printed_construct(text: str) -> None:
    names = {name: getattr(tokenomics_langchain, name) for name in tokenomics_langchain.__all__ if name[0] != "t"}
    assert eval(text, names).mode == "shadow"

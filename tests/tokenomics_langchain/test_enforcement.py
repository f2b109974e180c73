from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware
from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.tools import tool
from langgraph.types import Command
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from tokenomics_langchain import BudgetPolicy, Explore, LoopBreaker, MemoTools, Policies, to_langchain
from tokenomics_langchain.middleware import TokenomicsMiddleware
from tokenomics_plugin import Task
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.policies import LoggedDecision, logged_calls, randomised_decisions, replay
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.simulation import Configuration
from tokenomics_plugin.store import Payload, TraceStore

Spans = Callable[..., list[ReadableSpan]]
QUESTION: Any = {"messages": [("user", "go")]}
RUNS = [
    pytest.param(lambda agent: agent.invoke(QUESTION), id="invoke"),
    pytest.param(lambda agent: asyncio.run(agent.ainvoke(QUESTION)), id="ainvoke"),
]


def asking(*names: str, turn: int) -> AIMessage:
    return AIMessage("", tool_calls=[ToolCall(name=name, args={}, id=f"{turn}-{i}") for i, name in enumerate(names)])


def decisions(span: ReadableSpan) -> list[Mapping[str, Any]]:
    return [dict(event.attributes or {}) for event in span.events if event.name == "tokenomics.policy.decision"]


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("mode", ["shadow", "enforce"])
def test_a_repeated_read_is_answered_from_memory_and_the_trace_says_so(
    run: Callable[[Any], Any], mode: Any, scripted: Any, tracer_provider: TracerProvider, spans: Spans
) -> None:
    calls = []

    @tool
    def get_price() -> str:
        """Price."""
        calls.append("get_price")
        return f"answer {len(calls)}"

    script = [asking("get_price", turn=1), asking("get_price", turn=2), AIMessage("done")]
    middleware = TokenomicsMiddleware(tracer_provider, policy=MemoTools(read_only=["get_*"], mode=mode))
    answers = [
        m
        for m in run(create_agent(scripted(script=script), [get_price], middleware=[middleware]))["messages"]
        if isinstance(m, ToolMessage)
    ]
    first, second = sorted(spans("execute_tool"), key=lambda span: span.start_time or 0)
    assert [answer.tool_call_id for answer in answers] == ["1-0", "2-0"]
    assert decisions(first) == []
    (decision,) = decisions(second)
    assert (decision["tokenomics.policy.action"], decision["tokenomics.policy.mode"]) == ("answer", mode)
    if mode == "enforce":
        assert [answer.text for answer in answers] == ["answer 1", "answer 1"]
        assert attributes(second)["tokenomics.answered_by"] == "memory"
        assert attributes(second)["tokenomics.policy.rule"] == "memo"
    else:
        assert [answer.text for answer in answers] == ["answer 1", "answer 2"]
        assert "tokenomics.answered_by" not in attributes(second)


def test_a_command_is_never_answered_from_memory(scripted: Any, tracer_provider: TracerProvider) -> None:
    calls = []

    @tool
    def get_state() -> Any:
        """State."""
        calls.append(1)
        return Command(update={"messages": [ToolMessage("set", tool_call_id=f"{len(calls)}-0")]})

    script = [asking("get_state", turn=1), asking("get_state", turn=2), AIMessage("done")]
    middleware = TokenomicsMiddleware(tracer_provider, policy=MemoTools(read_only=["get_*"], mode="enforce"))
    create_agent(scripted(script=script), [get_state], middleware=[middleware]).invoke(QUESTION)
    assert len(calls) == 2


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("mode", ["shadow", "enforce"])
def test_a_loop_over_parallel_calls_is_recorded_and_stopped(
    run: Callable[[Any], Any], mode: Any, scripted: Any, tracer_provider: TracerProvider, spans: Spans
) -> None:
    @tool
    def get_price() -> str:
        """Price."""
        return "3"

    script = [asking("get_price", "get_price", turn=1), asking("get_price", turn=2), AIMessage("done")]
    policy = Policies(BudgetPolicy(max_calls=9), LoopBreaker(repeats=3, mode=mode))
    middleware = TokenomicsMiddleware(tracer_provider, policy=policy)
    answer = run(create_agent(scripted(script=script), [get_price], middleware=[middleware]))["messages"][-1]
    told = [(span.name.split()[0], d["tokenomics.policy.rule"]) for span in spans() for d in decisions(span)]
    assert told == [("skip_model_call" if mode == "enforce" else "chat", "loop")]
    assert (answer.text == "done") is (mode == "shadow")


async def test_a_cancelled_run_releases_what_it_reserved(scripted: Any, tracer_provider: TracerProvider) -> None:
    started = asyncio.Event()

    class Slow(type(scripted(script=[]))):  # type: ignore[misc]
        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            started.set()
            await asyncio.sleep(60)

    book = PriceBook([Price(provider="*", model="toy-*", input=Decimal(1), output=Decimal(1))])
    budget = BudgetPolicy(max_cost=1, scope="task", prices=book, mode="enforce")
    middleware = TokenomicsMiddleware(tracer_provider, policy=budget)
    agent: Any = create_agent(Slow(script=[], max_tokens=100), [], middleware=[middleware])
    with Task("slow", tracer_provider=tracer_provider):
        running = asyncio.create_task(agent.ainvoke(QUESTION))
        await started.wait()
        assert budget.reserved("slow") > 0
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert (budget.reserved("slow"), budget.spent("slow")) == (Decimal(0), Decimal(0))


def test_an_experiment_is_estimated_from_its_spans(
    scripted: Any, tracer_provider: TracerProvider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    # LangChain's run ids decide the coins, and one draw of them in twenty lies outside of any 95 % interval.
    bits = random.Random(0).getrandbits
    monkeypatch.setattr("langchain_core.callbacks.manager.uuid7", lambda: UUID(int=bits(128)))
    explore = Explore(eps=0.5, decisions={"reflect"}, max_daily_regret=1e3, seed=1, mode="enforce")
    explore.start(lambda _: None)
    agent: Any = create_agent(
        scripted(script=[AIMessage("better")]),
        [],
        middleware=[TokenomicsMiddleware(tracer_provider, policy=explore)],
        name="reflector",
    )
    worth = {}
    for number in range(40):
        with Task(f"task-{number}", tracer_provider=tracer_provider):
            reflected = agent.invoke(QUESTION)["messages"][-1].text == "better"
        worth[f"task-{number}"] = float(number % 2) * 0.25 + 0.5 * reflected  # reflecting is worth a half
    logged = [
        LoggedDecision.from_event({name: str(value) for name, value in event.items()}, attributes(span))
        for span in spans()
        for event in decisions(span)
    ]
    assert len(logged) == 40
    assert {decision.propensity for decision in logged} == {0.5}
    effect = randomised_decisions(logged).effect([worth[decision.task_id or ""] for decision in logged])
    assert effect.interval.low is not None
    assert effect.interval.high is not None
    assert 0 < effect.interval.low < 0.5 < effect.interval.high


def test_a_policy_decides_on_the_stored_spans_as_it_did_live(
    scripted: Any, tracer_provider: TracerProvider, spans: Spans, tmp_path: Path
) -> None:
    @tool
    def get_price() -> str:
        """Price."""
        return "3"

    @tool
    def put_price() -> str:
        """Set the price."""
        return "ok"

    names = ["get_price", "put_price", "get_price", "get_price", "get_price", "put_price", "get_price"]
    usage: Any = {"input_tokens": 20, "output_tokens": 5, "total_tokens": 25}
    script = [asking(name, turn=turn).model_copy(update={"usage_metadata": usage}) for turn, name in enumerate(names)]
    book = PriceBook([Price(provider="*", model="toy-*", input=Decimal(1), output=Decimal(1))])

    def policy() -> Policies:
        return Policies(
            BudgetPolicy(max_cost=0.000_1, reserve=False, prices=book),
            LoopBreaker(repeats=3, read_only=["get_*"]),
            MemoTools(read_only=["get_*"]),
        )

    agent: Any = create_agent(
        scripted(script=[*script, AIMessage("done", usage_metadata=usage)]),
        [get_price, put_price],
        middleware=[TokenomicsMiddleware(tracer_provider, policy=policy())],
    )
    agent.invoke(QUESTION)
    by_start = sorted(spans("chat") + spans("execute_tool"), key=lambda span: span.start_time or 0)
    live = [[(d["tokenomics.policy.rule"], d["tokenomics.policy.action"]) for d in decisions(s)] for s in by_start]
    with TraceStore(tmp_path / "store.duckdb") as store:
        store.load([Payload(Signal.TRACES, encode_spans(spans()).SerializeToString())])
        (trajectory,) = store.trajectories()
    replayed = [[(d.rule, d.action) for d in v.decisions] for v in replay(policy(), logged_calls(trajectory))]
    assert replayed == live
    assert {pair for told in live for pair in told} == {("budget", "stop"), ("loop", "stop"), ("memo", "answer")}


def test_a_configuration_becomes_the_middleware_that_it_names(tracer_provider: TracerProvider) -> None:
    stock = to_langchain(
        Configuration(
            component="langchain.agents.middleware.ModelCallLimitMiddleware",
            arguments={"run_limit": 3, "exit_behavior": "end"},
        )
    )
    assert isinstance(stock, ModelCallLimitMiddleware)
    assert stock.run_limit == 3
    ours = Configuration(component="tokenomics_langchain.LoopBreaker", arguments={"repeats": 3})
    assert ours.text == "LoopBreaker(repeats=3)"
    assert isinstance(to_langchain(ours, tracer_provider=tracer_provider), TokenomicsMiddleware)
    with pytest.raises(ValueError, match=r"got os\.system"):
        to_langchain(Configuration(component="os.system", arguments={"command": "true"}))

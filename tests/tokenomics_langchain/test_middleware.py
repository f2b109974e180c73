from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from inspect import cleandoc
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRetryMiddleware, ToolRetryMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, tool
from langchain_core.tracers import context as hook_module
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from pydantic import BaseModel

from tokenomics_langchain import TokenomicsCallbackHandler
from tokenomics_langchain.middleware import TokenomicsMiddleware
from tokenomics_plugin import Task
from tokenomics_plugin.policy import Allowed, CallResult, ProposedCall, Refused, Verdict

Tree = Callable[[], str]
Spans = Callable[..., list[ReadableSpan]]

QUESTION: Any = {"messages": [("user", "what is 1 + 2?")]}
AGENT_TREE = cleandoc(
    """
    invoke_agent calculator
      chat toy-1
      execute_tool add
      chat toy-1
    """
)


class Clerk:
    """A policy that writes down what it is asked and told, and refuses what it is made to."""

    def __init__(self, refuses: Callable[[ProposedCall], bool] = lambda _call: False) -> None:
        self.refuses = refuses
        self.asked: list[ProposedCall] = []
        self.told: list[tuple[ProposedCall, CallResult]] = []
        self.order: list[str] = []

    def ask(self, call: ProposedCall) -> Verdict:
        self.asked.append(call)
        self.order.append(f"ask {call.name}")
        return Refused(reason="The budget is spent.", rule="budget") if self.refuses(call) else Allowed()

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        self.told.append((call, result))
        self.order.append(f"tell {call.name} {result.state}")


class Bystander(AgentMiddleware):
    """Has the hook around model calls, so that LangChain draws what it draws for any middleware with one."""

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return await handler(request)


async def _drain(agent: Any, **kwargs: Any) -> None:
    async for _ in agent.astream(QUESTION, **kwargs):
        pass


WAYS_TO_RUN = [
    pytest.param(lambda agent: agent.invoke(QUESTION), id="invoke"),
    pytest.param(lambda agent: asyncio.run(agent.ainvoke(QUESTION)), id="ainvoke"),
    pytest.param(lambda agent: list(agent.stream(QUESTION, stream_mode="messages")), id="stream"),
    pytest.param(lambda agent: asyncio.run(_drain(agent, stream_mode="messages")), id="astream"),
]
SYNC_AND_ASYNC = [WAYS_TO_RUN[0], WAYS_TO_RUN[1]]


def calling(name: str, **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[ToolCall(name=name, args=args, id=f"call-{name}")])


# What is recorded


@pytest.mark.parametrize("run", WAYS_TO_RUN)
def test_an_agent_that_carries_the_middleware_is_traced_from_its_start(
    run: Callable[[Any], Any], model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider, tree: Tree
) -> None:
    run(create_agent(model, [add], middleware=[TokenomicsMiddleware(tracer_provider)], name="calculator"))
    assert tree() == AGENT_TREE


def test_what_the_agent_is_part_of_is_traced_too(
    model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider, tree: Tree
) -> None:
    agent = create_agent(model, [add], middleware=[TokenomicsMiddleware(tracer_provider)], name="calculator")
    builder = StateGraph(MessagesState)
    builder.add_node("before", lambda _state: {"messages": []})
    builder.add_node("agent", agent)
    builder.add_edge(START, "before")
    builder.add_edge("before", "agent")
    builder.compile(name="desk").invoke(QUESTION)
    inside = AGENT_TREE.replace("\n", "\n    ")
    assert tree() == f"invoke_workflow desk\n  run_node before\n  run_node agent\n    {inside}"


def test_runs_of_others_are_not_traced(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    middleware = TokenomicsMiddleware(handler=handler)
    create_agent(model, [add], middleware=[Bystander()], name="untraced").invoke(QUESTION)
    RunnableLambda(lambda text: text).invoke("hello")
    assert (tree(), handler.on_demand.waiting) == ("", 0)
    del middleware


@pytest.mark.parametrize("run", WAYS_TO_RUN)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_middlewares_and_the_handler_itself_record_once(
    run: Callable[[Any], Any],
    count: int,
    streaming_model: BaseChatModel,
    add: BaseTool,
    handler: TokenomicsCallbackHandler,
    tree: Tree,
    spans: Spans,
) -> None:
    middlewares = [TokenomicsMiddleware(handler=handler) for _ in range(count)]
    agent = create_agent(streaming_model, [add], middleware=middlewares, name="calculator")
    run(agent.with_config(callbacks=[handler]))
    assert tree() == AGENT_TREE
    (agent_span,) = spans("invoke_agent")
    assert (agent_span.attributes or {})["gen_ai.usage.output_tokens"] == 12


@pytest.mark.parametrize("is_passed", [False, True], ids=["middleware alone", "and the handler"])
def test_chunks_of_a_broken_stream_count_once(
    is_passed: bool, streaming_model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    kind: Any = type(streaming_model)
    broken = kind(script=[AIMessage("It is three")], breaks_with=ConnectionError("gone"))
    agent = create_agent(broken, [], middleware=[TokenomicsMiddleware(handler=handler)])
    with pytest.raises(ConnectionError):
        list(agent.with_config(callbacks=[handler] if is_passed else []).stream(QUESTION, stream_mode="messages"))
    (chat,) = spans("chat")
    assert (chat.attributes or {})["gen_ai.usage.output_tokens"] == 3  # 9 characters, at four a token


def test_middlewares_of_one_provider_share_a_handler(
    model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider, tree: Tree
) -> None:
    gc.collect()
    before = len(hook_module._configure_hooks)
    agents = [
        create_agent(model, [add], middleware=[TokenomicsMiddleware(tracer_provider)], name="calculator")
        for _ in range(10)
    ]
    assert len(hook_module._configure_hooks) == before + 1
    agents[7].invoke(QUESTION)
    assert tree() == AGENT_TREE


@pytest.mark.parametrize("run", WAYS_TO_RUN)
def test_listening_ends_with_the_last_agent(
    run: Callable[[Any], Any], model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider
) -> None:
    gc.collect()
    before = list(hook_module._configure_hooks)
    agents = [create_agent(model, [add], middleware=[TokenomicsMiddleware(tracer_provider)]) for _ in range(2)]
    run(agents[0])
    del agents[0]
    gc.collect()
    assert len(hook_module._configure_hooks) == len(before) + 1
    run(agents[0])
    agents.clear()
    gc.collect()
    assert hook_module._configure_hooks == before


@pytest.mark.parametrize("run", SYNC_AND_ASYNC)
def test_spans_of_tools_and_models_nest_under_their_calls(
    run: Callable[[Any], Any], script: list[AIMessage], tracer_provider: TracerProvider, tree: Tree, scripted: Any
) -> None:
    tracer = tracer_provider.get_tracer("client")

    class OverHttp(scripted):  # type: ignore[misc]
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            with tracer.start_as_current_span("POST"):
                return super()._generate(*args, **kwargs)

    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        with tracer.start_as_current_span("query"):
            return a + b

    run(create_agent(OverHttp(script=script), [add], middleware=[TokenomicsMiddleware(tracer_provider)], name="shop"))
    assert tree() == cleandoc(
        """
        invoke_agent shop
          chat toy-1
            POST
          execute_tool add
            query
          chat toy-1
            POST
        """
    )
    assert not trace.get_current_span().get_span_context().is_valid


def test_an_interrupted_agent_and_its_resumption_are_linked(
    script: list[AIMessage], scripted: Any, tracer_provider: TracerProvider, spans: Spans
) -> None:
    @tool
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(interrupt("sure?"))

    middleware = TokenomicsMiddleware(tracer_provider)
    agent = create_agent(
        scripted(script=script), [add], middleware=[middleware], name="calculator", checkpointer=InMemorySaver()
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    agent.invoke(QUESTION, config)
    agent.invoke(Command(resume="3"), config)
    interrupted, resumed = spans("invoke_agent")
    assert (interrupted.attributes or {})["tokenomics.run.state"] == "interrupted"
    assert [link.context for link in resumed.links] == [interrupted.context]
    assert [event.name for event in resumed.events] == ["tokenomics.resume"]


def test_a_resumed_tool_is_recorded_as_it_runs(
    script: list[AIMessage], scripted: Any, tracer_provider: TracerProvider, spans: Spans
) -> None:
    @tool(return_direct=True)
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        answer = str(interrupt("sure?"))
        with tracer_provider.get_tracer("client").start_as_current_span("query"):
            return answer

    middleware = TokenomicsMiddleware(tracer_provider)
    agent = create_agent(scripted(script=script), [add], middleware=[middleware], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    agent.invoke(QUESTION, config)
    agent.invoke(Command(resume="3"), config)
    (query,) = (span for span in spans() if span.name == "query")
    assert query.parent is not None
    assert query.parent.span_id == spans("execute_tool")[-1].context.span_id
    assert len(spans("invoke_agent")) == 2


# The agent stays what it is


def shape(agent: Any) -> Any:
    return agent.get_graph().to_json()


def test_an_agent_without_tools_stays_the_same_graph(model: BaseChatModel, tracer_provider: TracerProvider) -> None:
    traced = create_agent(model, [], middleware=[TokenomicsMiddleware(tracer_provider)])
    assert shape(traced) == shape(create_agent(model, []))


def test_an_agent_with_tools_has_the_same_nodes_and_the_edges_of_any_middleware(
    model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider
) -> None:
    traced = shape(create_agent(model, [add], middleware=[TokenomicsMiddleware(tracer_provider)]))
    plain = shape(create_agent(model, [add]))
    assert traced["nodes"] == plain["nodes"]
    drawn = {"source": "model", "target": "model", "conditional": True}
    assert all(edge == drawn for edge in traced["edges"] if edge not in plain["edges"])
    assert traced == shape(create_agent(model, [add], middleware=[Bystander()]))


@pytest.mark.parametrize("with_policy", [False, True], ids=["tracing", "policy"])
@pytest.mark.parametrize("run", SYNC_AND_ASYNC)
def test_messages_are_those_of_the_agent_without_it(
    run: Callable[[Any], Any],
    with_policy: bool,
    model: BaseChatModel,
    add: BaseTool,
    tracer_provider: TracerProvider,
) -> None:
    middleware = TokenomicsMiddleware(tracer_provider, policy=Clerk() if with_policy else None)
    traced = run(create_agent(model, [add], middleware=[middleware], name="calculator"))
    plain = run(create_agent(model, [add], name="calculator"))

    def said(result: Any) -> list[Any]:
        return [message.model_dump(exclude={"id"}) for message in result["messages"]]

    assert said(traced) == said(plain)


class Sudden(BaseException):
    """Nothing that a program expects."""


@pytest.mark.parametrize("with_policy", [False, True], ids=["tracing", "policy"])
@pytest.mark.parametrize("kind", [ValueError, Sudden], ids=["Exception", "BaseException"])
@pytest.mark.parametrize("culprit", ["model", "tool"])
def test_exceptions_pass_untouched(
    culprit: str,
    kind: type[BaseException],
    with_policy: bool,
    script: list[AIMessage],
    scripted: Any,
    tracer_provider: TracerProvider,
) -> None:
    error = kind("no")

    class Failing(scripted):  # type: ignore[misc]
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            raise error

    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        raise error

    clerk = Clerk()
    middleware = TokenomicsMiddleware(tracer_provider, policy=clerk if with_policy else None)
    model = (Failing if culprit == "model" else scripted)(script=script)
    with pytest.raises(kind) as caught:
        create_agent(model, [add], middleware=[middleware]).invoke(QUESTION)
    assert caught.value is error
    if with_policy:
        assert clerk.order[-1] == ("tell toy-1 failed" if culprit == "model" else "tell add failed")
        assert clerk.told[-1][1].error_type == kind.__qualname__


def test_middlewares_have_names_that_an_agent_accepts_side_by_side(tracer_provider: TracerProvider) -> None:
    first, second = TokenomicsMiddleware(tracer_provider), TokenomicsMiddleware(tracer_provider)
    assert first.name != second.name
    assert first.name.startswith("TokenomicsMiddleware")


def test_a_handler_and_what_a_new_one_is_made_of_are_refused_together(handler: TokenomicsCallbackHandler) -> None:
    with pytest.raises(ValueError, match="give them to the handler"):
        TokenomicsMiddleware(handler=handler, capture_content=True)


def test_a_failure_of_tracing_is_logged_once_and_harms_nothing(
    model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(TokenomicsCallbackHandler):
        def follow(self, run_id: Any) -> None:
            raise RuntimeError("private text")

    middleware = TokenomicsMiddleware(handler=Broken(tracer_provider))
    result = create_agent(model, [add], middleware=[middleware]).invoke(QUESTION)
    assert result["messages"][-1].text == "It is three"
    (record,) = caplog.records
    assert "RuntimeError" in record.getMessage()
    assert "private" not in caplog.text


# Policies


@pytest.mark.parametrize("run", SYNC_AND_ASYNC)
def test_a_policy_is_asked_before_each_call_and_told_after_it(
    run: Callable[[Any], Any], model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider
) -> None:
    clerk = Clerk()
    run(create_agent(model, [add], middleware=[TokenomicsMiddleware(tracer_provider, policy=clerk)]))
    assert clerk.order == [
        "ask toy-1",
        "tell toy-1 completed",
        "ask add",
        "tell add completed",
        "ask toy-1",
        "tell toy-1 completed",
    ]
    assert all(told is asked for (told, _), asked in zip(clerk.told, clerk.asked, strict=True))


def test_a_proposed_call_says_who_calls_what_for_whom(
    script: list[AIMessage], scripted: Any, add: BaseTool, tracer_provider: TracerProvider
) -> None:
    clerk = Clerk()
    middleware = TokenomicsMiddleware(tracer_provider, policy=clerk)
    model = scripted(script=script, max_tokens=100)
    agent = create_agent(
        model, [add], middleware=[middleware], name="calculator", system_prompt="Add.", checkpointer=InMemorySaver()
    )
    with Task("sum-1", tracer_provider=tracer_provider):
        agent.invoke(QUESTION, {"configurable": {"thread_id": "7"}})
    first, call, last = clerk.asked
    assert {(c.agent_name, c.task_id, c.conversation_id) for c in clerk.asked} == {("calculator", "sum-1", "7")}
    assert len({c.run_id for c in clerk.asked} | {c.agent_run_id for c in clerk.asked}) == 1
    assert len({c.operation_id for c in clerk.asked}) == 3
    assert (first.kind, first.name, first.max_output_tokens) == ("model", "toy-1", 100)
    assert first.input_characters == len("Add.what is 1 + 2?")
    assert last.input_characters == len("Add.what is 1 + 2?3")
    assert (call.kind, call.name, call.tool_call_id) == ("tool", "add", "call-1")
    assert call.arguments_fingerprint is not None


def test_a_sub_agent_has_a_run_of_its_own_in_the_run_of_all(
    script: list[AIMessage], scripted: Any, add: BaseTool, tracer_provider: TracerProvider
) -> None:
    clerk = Clerk()
    inner = create_agent(
        scripted(script=script),
        [add],
        middleware=[TokenomicsMiddleware(tracer_provider, policy=clerk)],
        name="calculator",
    )

    @tool
    def calculate(question: str) -> str:
        """Ask the calculator."""
        asked: Any = {"messages": [("user", question)]}
        return str(inner.invoke(asked)["messages"][-1].text)

    outer_script = [calling("calculate", question="1 + 2?"), AIMessage("three")]
    outer = create_agent(
        scripted(script=outer_script),
        [calculate],
        middleware=[TokenomicsMiddleware(tracer_provider, policy=clerk)],
        name="host",
    )
    outer.invoke(QUESTION)
    by_agent = {call.agent_name: (call.run_id, call.agent_run_id) for call in clerk.asked}
    assert by_agent["host"][0] == by_agent["host"][1] == by_agent["calculator"][0]
    assert by_agent["calculator"][1] != by_agent["host"][1]


@pytest.mark.parametrize("run", SYNC_AND_ASYNC)
def test_a_refused_model_call_ends_the_loop_with_the_reason(
    run: Callable[[Any], Any], model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider, tree: Tree
) -> None:
    clerk = Clerk(refuses=lambda call: call.kind == "model" and len(clerk.told) == 2)
    agent = create_agent(
        model, [add], middleware=[TokenomicsMiddleware(tracer_provider, policy=clerk)], name="calculator"
    )
    answer = run(agent)["messages"][-1]
    assert isinstance(answer, AIMessage)
    assert (answer.text, answer.tool_calls) == ("The budget is spent.", [])
    assert clerk.order[-1] == "ask toy-1"
    assert tree() == AGENT_TREE.removesuffix("chat toy-1") + "skip_model_call"


@pytest.mark.parametrize("run", SYNC_AND_ASYNC)
def test_a_refused_tool_call_is_answered_with_the_reason_as_an_error(
    run: Callable[[Any], Any], model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider, spans: Spans
) -> None:
    clerk = Clerk(refuses=lambda call: call.kind == "tool")
    agent = create_agent(model, [add], middleware=[TokenomicsMiddleware(tracer_provider, policy=clerk)])
    answer = run(agent)["messages"][2]
    assert isinstance(answer, ToolMessage)
    assert (answer.text, answer.status, answer.tool_call_id) == ("The budget is spent.", "error", "call-1")
    (refused,) = spans("execute_tool")
    assert (refused.attributes or {})["tokenomics.policy.refused"] is True
    assert (refused.attributes or {})["tokenomics.policy.rule"] == "budget"
    assert "budget is spent" not in refused.to_json()


class Sum(BaseModel):
    """The answer in a form."""

    total: int


@pytest.mark.parametrize("with_tools", [False, True], ids=["no tools", "tools"])
def test_a_refusal_ends_the_loop_of_an_agent_that_owes_a_structured_answer(
    with_tools: bool, model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider
) -> None:
    clerk = Clerk(refuses=lambda call: call.kind == "model")
    agent = create_agent(
        model,
        [add] if with_tools else [],
        middleware=[TokenomicsMiddleware(tracer_provider, policy=clerk)],
        response_format=ToolStrategy(Sum),
    )
    result = agent.invoke(QUESTION, {"recursion_limit": 5})
    assert result["messages"][-1].text == "The budget is spent."
    assert result.get("structured_response") is None
    assert len(clerk.asked) == 1


@pytest.mark.parametrize(("is_last", "attempts"), [(True, [1, 2, 3]), (False, [1])], ids=["last", "first"])
@pytest.mark.parametrize("kind", ["model", "tool"])
def test_the_place_in_the_list_decides_whether_attempts_are_proposed_one_by_one(
    kind: str, is_last: bool, attempts: list[int], scripted: Any, script: list[AIMessage], tracer_provider: Any
) -> None:
    failures = [ConnectionError("1"), ConnectionError("2")]

    def fail(failing: str) -> None:
        if kind == failing and failures:
            raise failures.pop()

    class Flaky(scripted):  # type: ignore[misc]
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            fail("model")
            return super()._generate(*args, **kwargs)

    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        fail("tool")
        return a + b

    clerk = Clerk()
    ours = TokenomicsMiddleware(tracer_provider, policy=clerk)
    retries = (ModelRetryMiddleware if kind == "model" else ToolRetryMiddleware)(max_retries=2, initial_delay=0.0)
    agent = create_agent(Flaky(script=script), [add], middleware=[retries, ours] if is_last else [ours, retries])
    agent.invoke(QUESTION)
    first = next(call for call in clerk.asked if call.kind == kind)
    proposed = [call for call in clerk.asked if call.operation_id == first.operation_id]
    assert [call.attempt for call in proposed] == attempts
    states = [result.state for call, result in clerk.told if call in proposed]
    assert states == ["failed"] * (len(attempts) - 1) + ["completed"]


def test_an_interrupted_call_has_not_failed(scripted: Any, script: list[AIMessage], tracer_provider: Any) -> None:
    @tool
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(interrupt("sure?"))

    clerk = Clerk()
    middleware = TokenomicsMiddleware(tracer_provider, policy=clerk)
    agent = create_agent(scripted(script=script), [add], middleware=[middleware], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    agent.invoke(QUESTION, config)
    assert (clerk.order[-1], clerk.told[-1][1].error_type) == ("tell add interrupted", None)
    agent.invoke(Command(resume="3"), config)
    assert clerk.order[-3:] == ["tell add completed", "ask toy-1", "tell toy-1 completed"]


async def test_a_policy_is_told_of_a_cancelled_call(
    scripted: Any, script: list[AIMessage], tracer_provider: TracerProvider
) -> None:
    @tool
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        await asyncio.sleep(60)
        return a + b

    clerk = Clerk()
    agent = create_agent(
        scripted(script=script), [add], middleware=[TokenomicsMiddleware(tracer_provider, policy=clerk)]
    )
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(agent.ainvoke(QUESTION), 0.2)
    assert clerk.order[-1] == "tell add cancelled"
    assert clerk.told[-1][1].error_type == "CancelledError"


def test_the_result_of_a_model_call_says_what_it_used(
    model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider
) -> None:
    clerk = Clerk()
    create_agent(model, [add], middleware=[TokenomicsMiddleware(tracer_provider, policy=clerk)]).invoke(QUESTION)
    used = [(r.usage.input_tokens, r.usage.output_tokens) if r.usage else None for _, r in clerk.told]
    assert used == [(20, 5), None, (30, 7)]
    assert all(result.duration_ns > 0 for _, result in clerk.told)


def test_an_outer_policy_is_told_of_an_inner_ones_refusal(
    model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider
) -> None:
    outer, inner = Clerk(), Clerk(refuses=lambda call: True)
    middlewares = [TokenomicsMiddleware(tracer_provider, policy=policy) for policy in (outer, inner)]
    create_agent(model, [add], middleware=middlewares).invoke(QUESTION)
    assert outer.order == ["ask toy-1", "tell toy-1 refused"]
    assert inner.told == []


@pytest.mark.parametrize("method", ["ask", "tell"])
def test_a_policy_that_fails_is_logged_once_and_lets_calls_pass(
    method: str,
    model: BaseChatModel,
    add: BaseTool,
    tracer_provider: TracerProvider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("private text")

    clerk = Clerk()
    monkeypatch.setattr(clerk, method, fail)
    middleware = TokenomicsMiddleware(tracer_provider, policy=clerk)
    with caplog.at_level(logging.WARNING):
        result = create_agent(model, [add], middleware=[middleware]).invoke(QUESTION)
    assert result["messages"][-1].text == "It is three"
    (record,) = caplog.records
    assert "RuntimeError" in record.getMessage()
    assert "private" not in caplog.text


def test_a_subclass_is_not_silently_left_without_its_policy(tracer_provider: TracerProvider) -> None:
    class Mine(TokenomicsMiddleware):
        pass

    with pytest.raises(TypeError, match="takes no policy"):
        Mine(tracer_provider, policy=Clerk())

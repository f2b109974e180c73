"""Graphs that stop to be resumed: no error, a link from the resumed run, and replays of what was done before."""

from __future__ import annotations

from typing import Any

from langchain.agents.middleware import HumanInTheLoopMiddleware, ToolRetryMiddleware, tool_retry
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import RunControl
from langgraph.types import Command, RetryPolicy, interrupt

from scenarios.models import SECRET, calls, says
from scenarios.scenario import Scenarios
from scenarios.stage import QUESTION, Stage

__all__ = ["INTERRUPTS"]

INTERRUPTS = Scenarios("interrupts")

State = MessagesState
_RESUME: Command[Any] = Command(resume=SECRET)


def _ask(_: State) -> Any:
    return {"messages": [("user", interrupt(f"May I tell {SECRET}?"))]}


def _tell(_: State) -> Any:
    return {"messages": [("ai", SECRET)]}


def _office(stage: Stage, **nodes: Any) -> Any:
    return stage.sequence("office", nodes, checkpointer=InMemorySaver())


def _run_and_resume(stage: Stage, graph: Any, *answers: Any) -> list[Any]:
    config = stage.config(has_thread=True)
    return [stage.run(graph, given, config) for given in (QUESTION, *answers)]


@INTERRUPTS(
    "a node asks, and the graph goes on with the answer",
    """
    invoke_workflow office [interrupted] #1
      run_node greet
      run_node ask [interrupted] #2
    invoke_workflow office -> resumes #1
      run_node ask [replay] -> replays #2
      run_node tell
    """,
)
def in_node(stage: Stage) -> Any:
    graph = _office(stage, greet=_tell, ask=_ask, tell=_tell)
    return _run_and_resume(stage, graph, _RESUME)


@INTERRUPTS(
    "what a node did before it asked is done again as a replay",
    """
    invoke_workflow office [interrupted] #1
      run_node ask [interrupted] #2
        chat toy [in 20 out 5] #3
    invoke_workflow office -> resumes #1
      run_node ask [replay] -> replays #2
        chat toy [replay] [in 20 out 5] -> replays #3
        chat other [in 20 out 5]
    """,
    shows={"usage"},
)
def model_before_interrupt(stage: Stage) -> Any:
    model, other = stage.model(says()), stage.model(says(), model="other")

    def ask(state: State) -> Any:
        question = model.invoke(state["messages"]).content
        return {"messages": [other.invoke(str(interrupt(question)))]}

    async def ask_async(state: State) -> Any:
        question = (await model.ainvoke(state["messages"])).content
        return {"messages": [await other.ainvoke(str(interrupt(question)))]}

    return _run_and_resume(stage, _office(stage, ask=stage.either(ask, ask_async)), _RESUME)


@INTERRUPTS(
    "a node asks twice",
    """
    invoke_workflow office [interrupted] #1
      run_node ask [interrupted] #2
    invoke_workflow office [interrupted] #3 -> resumes #1
      run_node ask [interrupted] [replay] #4 -> replays #2
    invoke_workflow office -> resumes #3
      run_node ask [replay] -> replays #4
    """,
)
def twice_in_node(stage: Stage) -> Any:
    def ask(_: State) -> Any:
        return {"messages": [("user", interrupt(f"{SECRET}?") + interrupt(f"{SECRET}, really?"))]}

    return _run_and_resume(stage, _office(stage, ask=ask), _RESUME, _RESUME)


@INTERRUPTS(
    "a node with a retry policy asks, which is no failed attempt",
    """
    invoke_workflow office [interrupted] #1
      run_node ask [interrupted] #2
    invoke_workflow office -> resumes #1
      run_node ask [replay] -> replays #2
    """,
)
def with_retry_policy(stage: Stage) -> Any:
    builder: Any = StateGraph(State)
    builder.add_node("ask", stage.function(_ask), retry_policy=RetryPolicy(initial_interval=0.001))
    builder.add_edge(START, "ask")
    return _run_and_resume(stage, stage.compile(builder, name="office", checkpointer=InMemorySaver()), _RESUME)


@INTERRUPTS(
    "a node of an inner graph asks",
    """
    invoke_workflow office [interrupted] #1
      run_node desk [interrupted] #2
        invoke_workflow desk [interrupted]
          run_node greet
          run_node ask [interrupted] #3
    invoke_workflow office -> resumes #1
      run_node desk [replay] -> replays #2
        invoke_workflow desk
          run_node ask [replay] -> replays #3
      run_node tell
    """,
)
def in_inner_graph(stage: Stage) -> Any:
    desk = stage.sequence("desk", {"greet": _tell, "ask": _ask})
    return _run_and_resume(stage, _office(stage, desk=desk, tell=_tell), _RESUME)


def _confirm(stage: Stage) -> Any:
    def confirm(topic: str) -> str:
        """Ask the user."""
        with stage.span("ask the user"):
            return str(interrupt(f"{topic}?"))

    return stage.tool(confirm)


@INTERRUPTS(
    "a tool asks",
    """
    invoke_agent clerk [interrupted] #1
      chat toy
      execute_tool confirm [interrupted] #2
        ask the user
    invoke_agent clerk -> resumes #1
      execute_tool confirm [replay] -> replays #2
        ask the user
      chat toy
    """,
)
def in_tool(stage: Stage) -> Any:
    agent = stage.agent(stage.model(calls("confirm"), says()), [_confirm(stage)], checkpointer=InMemorySaver())
    return _run_and_resume(stage, agent, _RESUME)


@INTERRUPTS(
    "a tool that a middleware would retry asks, which is no failed attempt",
    """
    invoke_agent clerk [interrupted] #1
      chat toy
      execute_tool confirm [interrupted] #2
        ask the user
    invoke_agent clerk -> resumes #1
      execute_tool confirm [replay] -> replays #2
        ask the user
      chat toy
    """,
    # Before, it took an interrupt for a failure, and swallowed it.
    is_possible=hasattr(tool_retry, "GraphBubbleUp"),
)
def in_retried_tool(stage: Stage) -> Any:
    retry, tools = ToolRetryMiddleware(max_retries=2, initial_delay=0.0), [_confirm(stage)]
    model = stage.model(calls("confirm"), says())
    agent = stage.agent(model, tools, middleware=[retry], checkpointer=InMemorySaver())
    return _run_and_resume(stage, agent, _RESUME)


@INTERRUPTS(
    "a tool asks in an agent that is a node",
    """
    invoke_workflow office [interrupted] #1
      run_node clerk [interrupted] #2
        invoke_agent clerk [interrupted]
          chat toy
          execute_tool confirm [interrupted] #3
            ask the user
    invoke_workflow office -> resumes #1
      run_node clerk [replay] -> replays #2
        invoke_agent clerk
          execute_tool confirm [replay] -> replays #3
            ask the user
          chat toy
    """,
)
def in_tool_of_node(stage: Stage) -> Any:
    clerk = stage.agent(stage.model(calls("confirm"), says()), [_confirm(stage)])
    return _run_and_resume(stage, _office(stage, clerk=clerk), _RESUME)


@INTERRUPTS(
    "a tool asks in a sub-agent that is a tool",
    """
    invoke_agent clerk [interrupted] #1
      chat toy
      execute_tool ask_researcher [interrupted] #2
        invoke_agent researcher [interrupted]
          chat small
          execute_tool confirm [interrupted] #3
            ask the user
    invoke_agent clerk -> resumes #1
      execute_tool ask_researcher [replay] -> replays #2
        invoke_agent researcher
          execute_tool confirm [replay] -> replays #3
            ask the user
          chat small
      chat toy
    """,
)
def in_tool_of_sub_agent(stage: Stage) -> Any:
    researcher = stage.agent(stage.model(calls("confirm"), says(), model="small"), [_confirm(stage)], name="researcher")

    def ask_researcher(topic: str) -> str:
        """Ask somebody who knows."""
        return str(researcher.invoke({"messages": [("user", topic)]})["messages"][-1].content)

    async def ask_researcher_async(topic: str) -> str:
        """Ask somebody who knows."""
        return str((await researcher.ainvoke({"messages": [("user", topic)]}))["messages"][-1].content)

    tool = stage.tool_of(ask_researcher, ask_researcher_async, name="ask_researcher")
    agent = stage.agent(stage.model(calls("ask_researcher"), says()), [tool], checkpointer=InMemorySaver())
    return _run_and_resume(stage, agent, _RESUME)


@INTERRUPTS(
    "two nodes ask at once, and are answered at once",
    """
    invoke_workflow office [interrupted] [2 interrupts] #1
      run_node left [interrupted] #2
      run_node right [interrupted] #3
    invoke_workflow office -> resumes #1
      run_node left [replay] -> replays #2
      run_node right [replay] -> replays #3
    """,
    in_any_order=("run_node",),
)
def two_at_once(stage: Stage) -> Any:
    graph, config = _two_at_once(stage), stage.config(has_thread=True)
    first = stage.run(graph, QUESTION, config)
    answers = {asked.id: SECRET for asked in graph.get_state(config).interrupts}
    return first, stage.run(graph, Command(resume=answers), config)


@INTERRUPTS(
    "two nodes ask at once, and are answered one after the other",
    """
    invoke_workflow office [interrupted] [2 interrupts] #1
      run_node left [interrupted] #2
      run_node right [interrupted] #3
    invoke_workflow office [interrupted] #4 -> resumes #1
      run_node left [replay] -> replays #2
      run_node right [interrupted] [replay] #5 -> replays #3
    invoke_workflow office -> resumes #4
      run_node right [replay] -> replays #5
    """,
    in_any_order=("run_node",),
)
def two_one_by_one(stage: Stage) -> Any:
    graph, config = _two_at_once(stage), stage.config(has_thread=True)
    results = [stage.run(graph, QUESTION, config)]
    for node in ("left", "right"):
        asked = next(task for task in graph.get_state(config).tasks if task.name == node)
        results.append(stage.run(graph, Command(resume={asked.interrupts[0].id: SECRET}), config))
    return results


def _two_at_once(stage: Stage) -> Any:
    builder: Any = StateGraph(State)
    for node in ("left", "right"):
        builder.add_node(node, stage.function(_ask))
        builder.add_edge(START, node)
    return stage.compile(builder, name="office", checkpointer=InMemorySaver())


@INTERRUPTS(
    "a node asks beside one that completes, which is not done again",
    """
    invoke_workflow office [interrupted] #1
      run_node ask [interrupted] #2
      run_node tell
    invoke_workflow office -> resumes #1
      run_node ask [replay] -> replays #2
    """,
    in_any_order=("run_node",),
)
def beside_another(stage: Stage) -> Any:
    builder: Any = StateGraph(State)
    builder.add_node("ask", stage.function(_ask))
    builder.add_node("tell", stage.function(_tell))
    builder.add_edge(START, "ask")
    builder.add_edge(START, "tell")
    return _run_and_resume(stage, stage.compile(builder, name="office", checkpointer=InMemorySaver()), _RESUME)


@INTERRUPTS(
    "a breakpoint stops a graph where no node asks",
    """
    invoke_workflow office [interrupted] #1
      run_node greet
    invoke_workflow office -> resumes #1
      run_node tell
    """,
)
def breakpoint_before(stage: Stage) -> Any:
    nodes = {"greet": _tell, "tell": _tell}
    graph = stage.sequence("office", nodes, checkpointer=InMemorySaver(), interrupt_before=["tell"])
    return _run_and_resume(stage, graph, None)


def _reviewed(stage: Stage, decision: dict[str, Any]) -> Any:
    def send(topic: str) -> str:
        """Send something."""
        return topic

    agent = stage.agent(
        stage.model(calls("send"), says()),
        [stage.tool(send)],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"send": True})],
        checkpointer=InMemorySaver(),
    )
    return _run_and_resume(stage, agent, Command(resume={"decisions": [decision]}))


@INTERRUPTS(
    "a person approves a tool call",
    """
    invoke_agent clerk [interrupted] #1
      chat toy
      run_node HumanInTheLoopMiddleware.after_model [interrupted] #2
    invoke_agent clerk -> resumes #1
      run_node HumanInTheLoopMiddleware.after_model [replay] -> replays #2
      execute_tool send
      chat toy
      run_node HumanInTheLoopMiddleware.after_model
    """,
)
def approved(stage: Stage) -> Any:
    return _reviewed(stage, {"type": "approve"})


@INTERRUPTS(
    "a person rejects a tool call, which a middleware then answers",
    """
    invoke_agent clerk [interrupted] #1
      chat toy
      run_node HumanInTheLoopMiddleware.after_model [interrupted] #2
    invoke_agent clerk -> resumes #1
      run_node HumanInTheLoopMiddleware.after_model [replay] -> replays #2
        execute_tool send !tool_error [by middleware]
      chat toy
      run_node HumanInTheLoopMiddleware.after_model
    """,
)
def rejected(stage: Stage) -> Any:
    return _reviewed(stage, {"type": "reject", "message": f"not {SECRET}"})


@INTERRUPTS(
    "a graph that was asked to stop is drained, and goes on later",
    """
    invoke_workflow office [drained]
      run_node greet
    invoke_workflow office
      run_node tell
    """,
)
def drained(stage: Stage) -> Any:
    control = RunControl()

    def greet(state: State) -> Any:
        control.request_drain(f"no more {SECRET}")
        return _tell(state)

    graph, config = _office(stage, greet=greet, tell=_tell), stage.config(has_thread=True)
    try:
        stage.run(graph, QUESTION, config, control=control)
    except GraphDrained:
        return stage.run(graph, None, config)
    raise AssertionError("the graph was asked to stop")

"""Control that one agent or node gives to another: no error, and a link from who takes over."""

from __future__ import annotations

from typing import Annotated, Any

from langchain.tools import InjectedState, InjectedToolCallId
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command

from scenarios.models import SECRET, calls, says
from scenarios.scenario import Scenarios
from scenarios.stage import QUESTION, Stage

__all__ = ["HAND_OFFS"]

HAND_OFFS = Scenarios("hand-offs")


def _transfer(stage: Stage, target: str) -> Any:
    name = f"transfer_to_{target}"

    def transfer(state: Annotated[Any, InjectedState], call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Hand over."""
        with stage.span("say goodbye"):
            done = ToolMessage(f"{SECRET} is with {target}", name=name, tool_call_id=call_id)
            return Command(goto=target, graph=Command.PARENT, update={"messages": [*state["messages"], done]})

    return stage.tool(transfer, name=name)


@HAND_OFFS(
    "a tool hands over to another agent of the graph around",
    """
    invoke_workflow office
      run_node alice [handed_off to bob]
        invoke_agent alice [handed_off to bob] [in 20 out 5] #1
          chat toy [in 20 out 5]
          execute_tool transfer_to_bob
            say goodbye
      run_node bob -> takes_over #1
        invoke_agent bob [in 20 out 5] -> takes_over #1
          chat toy [in 20 out 5]
    """,
    shows={"usage"},
)
def by_tool(stage: Stage) -> Any:
    builder: Any = StateGraph(MessagesState)
    alice = stage.model(calls(("transfer_to_bob", {})))
    builder.add_node("alice", stage.agent(alice, [_transfer(stage, "bob")], name="alice"), destinations=("bob",))
    builder.add_node("bob", stage.agent(stage.model(says()), name="bob"))
    builder.add_edge(START, "alice")
    return stage.run(stage.compile(builder, name="office"), QUESTION)


@HAND_OFFS(
    "agents hand over and back",
    """
    invoke_workflow office
      run_node alice [handed_off to bob]
        invoke_agent alice [handed_off to bob] #1
          chat a
          execute_tool transfer_to_bob
            say goodbye
      run_node bob [handed_off to alice] -> takes_over #1
        invoke_agent bob [handed_off to alice] #2 -> takes_over #1
          chat b
          execute_tool transfer_to_alice
            say goodbye
      run_node alice -> takes_over #2
        invoke_agent alice -> takes_over #2
          chat a
    """,
)
def there_and_back(stage: Stage) -> Any:
    builder: Any = StateGraph(MessagesState)
    alice = stage.model(calls(("transfer_to_bob", {})), says(), model="a")
    bob = stage.model(calls(("transfer_to_alice", {})), model="b")
    builder.add_node("alice", stage.agent(alice, [_transfer(stage, "bob")], name="alice"), destinations=("bob",))
    builder.add_node("bob", stage.agent(bob, [_transfer(stage, "alice")], name="bob"), destinations=("alice",))
    builder.add_edge(START, "alice")
    return stage.run(stage.compile(builder, name="office"), QUESTION)


@HAND_OFFS(
    "a node of an inner graph hands over to a node of the one around",
    """
    invoke_workflow office
      run_node desk [handed_off to bob]
        invoke_workflow desk [handed_off to bob] #1
          run_node give [handed_off to bob]
      run_node bob -> takes_over #1
    """,
)
def by_inner_node(stage: Stage) -> Any:
    def give(_: MessagesState) -> Any:
        return Command(goto="bob", graph=Command.PARENT, update={"messages": [("ai", SECRET)]})

    builder: Any = StateGraph(MessagesState)
    builder.add_node("desk", stage.sequence("desk", {"give": give}), destinations=("bob",))
    builder.add_node("bob", stage.function(_tell))
    builder.add_edge(START, "desk")
    return stage.run(stage.compile(builder, name="office"), QUESTION)


def _tell(_: MessagesState) -> Any:
    return {"messages": [AIMessage(SECRET, name="worker")]}


@HAND_OFFS(
    "a supervisor names the next worker",
    """
    invoke_workflow office
      run_node supervisor #1
      run_node worker -> takes_over #1
      run_node supervisor
    """,
)
def by_supervisor(stage: Stage) -> Any:
    def supervisor(state: MessagesState) -> Any:
        return Command(goto=END if len(state["messages"]) > 1 else "worker")

    builder: Any = StateGraph(MessagesState)
    builder.add_node("supervisor", stage.function(supervisor), destinations=("worker", END))
    builder.add_node("worker", stage.function(_tell))
    builder.add_edge(START, "supervisor")
    builder.add_edge("worker", "supervisor")
    return stage.run(stage.compile(builder, name="office"), QUESTION)


@HAND_OFFS(
    "a supervisor that asks a model hands over to an agent, which hands back",
    """
    invoke_workflow office
      run_node supervisor #1
        chat boss
      run_node worker -> takes_over #1
        invoke_agent worker #2 -> takes_over #1
          chat toy
      run_node supervisor -> takes_over #2
        chat boss
    """,
)
def supervisor_with_model(stage: Stage) -> Any:
    boss, worker = stage.model(says(), says(), model="boss"), stage.agent(stage.model(says()), name="worker")

    def next_of(state: MessagesState, answer: Any) -> Any:
        is_done = any(message.name == "worker" for message in state["messages"])
        return Command(goto=END if is_done else "worker", update={"messages": [answer]})

    def supervise(state: MessagesState) -> Any:
        return next_of(state, boss.invoke(state["messages"]))

    async def supervise_async(state: MessagesState) -> Any:
        return next_of(state, await boss.ainvoke(state["messages"]))

    def work(state: MessagesState) -> Any:
        return Command(goto="supervisor", update=worker.invoke(state))

    async def work_async(state: MessagesState) -> Any:
        return Command(goto="supervisor", update=await worker.ainvoke(state))

    builder: Any = StateGraph(MessagesState)
    builder.add_node("supervisor", stage.either(supervise, supervise_async), destinations=("worker", END))
    builder.add_node("worker", stage.either(work, work_async), destinations=("supervisor",))
    builder.add_edge(START, "supervisor")
    return stage.run(stage.compile(builder, name="office"), QUESTION)

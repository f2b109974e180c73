"""Plans, what each step is for, and actions that come back."""

from __future__ import annotations

from operator import add
from typing import Annotated, Any, TypedDict

from langchain.agents.middleware import TodoListMiddleware
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from scenarios.models import SECRET, Call, ScriptedModel, calls, says
from scenarios.scenario import Scenarios
from scenarios.stage import QUESTION, Stage
from tokenomics_langchain import Planner, PlanSchema

__all__ = ["PLANS"]

PLANS = Scenarios("plans and loops")


def _todos(*statuses: str) -> Call:
    listed = [{"content": f"step {number} for {SECRET}", "status": status} for number, status in enumerate(statuses)]
    return "write_todos", {"todos": listed}


def _look_up(topic: str) -> str:
    """Look something up."""
    return topic


def _look_up_tool(stage: Stage) -> Any:
    return stage.tool(_look_up, name="look_up")


@PLANS(
    "each writing of a todo list revises a plan, and names what carried out its steps",
    """
    invoke_agent clerk
      chat toy
      run_node TodoListMiddleware.after_model
      plan clerk [revision 0: 2 added, 0 removed, 0 completed] [in_progress pending]
        execute_tool write_todos
      chat toy [step 1] #1
      run_node TodoListMiddleware.after_model
      execute_tool look_up [step 1] #2
      chat toy [step 1] #3
      run_node TodoListMiddleware.after_model
      plan clerk [revision 1: 0 added, 0 removed, 1 completed] [completed in_progress] {carried}
        execute_tool write_todos
      chat toy [step 2] #4
      run_node TodoListMiddleware.after_model
      plan clerk [revision 2: 1 added, 0 removed, 1 completed] [completed completed pending] -> carried_out_by #4
        execute_tool write_todos
      chat toy
      run_node TodoListMiddleware.after_model
    """.replace("{carried}", "-> carried_out_by #1 -> carried_out_by #2 -> carried_out_by #3"),
    shows=("statuses", "step"),
)
def todo_list(stage: Stage) -> Any:
    model = stage.model(
        calls(_todos("in_progress", "pending")),
        calls("look_up"),
        calls(_todos("completed", "in_progress")),
        calls(_todos("completed", "completed", "pending")),
        says(),
    )
    return stage.run(stage.agent(model, [_look_up_tool(stage)], middleware=[TodoListMiddleware()]), QUESTION)


@PLANS(
    "todo lists that are written at once revise no plan, for the middleware refuses both",
    """
    invoke_agent clerk
      chat toy
      run_node TodoListMiddleware.after_model
        execute_tool write_todos !tool_error [by middleware]
        execute_tool write_todos !tool_error [by middleware]
      chat toy
      run_node TodoListMiddleware.after_model
    """,
)
def todo_lists_at_once(stage: Stage) -> Any:
    model = stage.model(calls(_todos("pending"), _todos("in_progress")), says())
    return stage.run(stage.agent(model, middleware=[TodoListMiddleware()]), QUESTION)


class Work(TypedDict):
    """What planner and executor share."""

    plan: list[str]
    done: Annotated[list[str], add]


def _plan_and_execute(stage: Stage, planner: ScriptedModel, worker: ScriptedModel) -> Any:
    def plan(state: Work) -> Any:
        planner.invoke(SECRET)
        return _planned(state)

    async def plan_async(state: Work) -> Any:
        await planner.ainvoke(SECRET)
        return _planned(state)

    def execute(state: Work) -> Any:
        return {"done": [str(worker.invoke(state["plan"][0]).content)]}

    async def execute_async(state: Work) -> Any:
        return {"done": [str((await worker.ainvoke(state["plan"][0])).content)]}

    builder: Any = StateGraph(Work)
    builder.add_node("planner", stage.either(plan, plan_async))
    builder.add_node("execute", stage.either(execute, execute_async))
    builder.add_edge(START, "planner")
    builder.add_conditional_edges("planner", lambda state: "execute" if state["plan"] else END, ["execute", END])
    builder.add_edge("execute", "planner")
    return stage.compile(builder, name="office")


def _planned(state: Work) -> Any:
    return {"plan": [f"find {SECRET}", f"tell {SECRET}"][len(state["done"]) :]}


@PLANS(
    "a planner's node is a plan, and an executor's node carries out a step of it",
    """
    invoke_workflow office
      plan [revision 0: 2 added, 0 removed, 0 completed]
        chat planner
      run_node execute [step 1] #1
        chat worker [step 1] #2
      plan [revision 1: 0 added, 0 removed, 1 completed] -> carried_out_by #1 -> carried_out_by #2
        chat planner
      run_node execute [step 2] #3
        chat worker [step 2] #4
      plan [revision 2: 0 added, 0 removed, 1 completed] -> carried_out_by #3 -> carried_out_by #4
        chat planner
    """,
    shows=("step",),
    options={"planners": (Planner("planner", executor="execute"),)},
)
def plan_and_execute(stage: Stage) -> Any:
    planner, worker = (stage.model(says(), model=name) for name in ("planner", "worker"))
    return stage.run(_plan_and_execute(stage, planner, worker), {"plan": [], "done": []})


@PLANS(
    "nodes that nobody declared are told apart by their names, and plan nothing",
    """
    invoke_workflow office
      run_node planner [plan, name]
        chat planner [plan, name]
      run_node execute [act, name]
        chat worker [act, name]
      run_node planner [plan, name]
        chat planner [plan, name]
      run_node execute [act, name]
        chat worker [act, name]
      run_node planner [plan, name]
        chat planner [plan, name]
    """,
    shows=("step kind",),
)
def undeclared_planner(stage: Stage) -> Any:
    planner, worker = (stage.model(says(), model=name) for name in ("planner", "worker"))
    return stage.run(_plan_and_execute(stage, planner, worker), {"plan": [], "done": []})


class TripPlan(BaseModel):
    """A plan as a model answers it."""

    steps: list[str]


@PLANS(
    "an answer of a declared schema is a plan, around the call that makes it",
    """
    invoke_workflow office
      run_node think
        plan [revision 0: 2 added, 0 removed, 0 completed]
          chat toy
    """,
    options={"planners": (PlanSchema("TripPlan"),)},
)
def structured_plan(stage: Stage) -> Any:
    script = calls(("TripPlan", {"steps": [f"pack {SECRET}", f"leave {SECRET}"]}))
    model = stage.model(script).with_structured_output(TripPlan)

    think = stage.asking(model | (lambda plan: ("ai", str(plan))))
    return stage.run(stage.sequence("office", {"think": think}), QUESTION)


@PLANS(
    "a graph that reflects on its drafts",
    """
    invoke_workflow essay
      run_node draft [act, declared]
        chat toy [act, declared]
      run_node critique [reflect, name]
        chat critic [reflect, name]
      run_node draft [act, declared]
        chat toy [act, declared]
      run_node critique [reflect, name]
        chat critic [reflect, name]
    """,
    shows=("step kind",),
    options={"step_kinds": {"draft": "act"}},
)
def reflection(stage: Stage) -> Any:
    writer, critic = stage.model(says(), says()), stage.model(says(), says(), model="critic")

    builder: Any = StateGraph(MessagesState)
    builder.add_node("draft", stage.asking(writer))
    builder.add_node("critique", stage.asking(critic))
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "critique")
    builder.add_conditional_edges(
        "critique", lambda state: END if len(state["messages"]) > 4 else "draft", ["draft", END]
    )
    return stage.run(stage.compile(builder, name="essay"), QUESTION)


@PLANS(
    "an agent's calls act until one answers",
    """
    invoke_agent clerk
      chat toy [act, structure]
      execute_tool look_up [act, structure]
      chat toy [answer, structure]
    """,
    shows=("step kind",),
)
def agents_steps(stage: Stage) -> Any:
    return stage.run(stage.agent(stage.model(calls("look_up"), says()), [_look_up_tool(stage)]), QUESTION)


@PLANS(
    "a tool that is called again with the same arguments and the same result goes in a loop",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_up #1
      chat toy
      execute_tool look_up [loop revisit 1] -> repeats #1
      chat toy
      execute_tool look_up [loop revisit 2] -> repeats #1
      chat toy
    """,
)
def revisits(stage: Stage) -> Any:
    model = stage.model(calls("look_up"), calls("look_up"), calls("look_up"), says())
    return stage.run(stage.agent(model, [_look_up_tool(stage)]), QUESTION)


@PLANS(
    "two tools that take turns go in a loop",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_up #1
      chat toy
      execute_tool search #2
      chat toy
      execute_tool look_up [loop revisit 1] -> repeats #1
      chat toy
      execute_tool search [loop alternation 1 of 2] -> repeats #2
      chat toy
      execute_tool look_up [loop alternation 2 of 2] -> repeats #1
      chat toy
    """,
)
def alternation(stage: Stage) -> Any:
    turns = [calls("look_up"), calls("search")] * 2 + [calls("look_up")]
    tools = [_look_up_tool(stage), stage.tool(_look_up, name="search")]
    return stage.run(stage.agent(stage.model(*turns, says()), tools), QUESTION)


@PLANS(
    "a tool that answers differently each time makes progress",
    """
    invoke_agent clerk
      chat toy
      execute_tool count
      chat toy
      execute_tool count
      chat toy
    """,
)
def progress(stage: Stage) -> Any:
    numbers = iter(range(9))

    def count(topic: str) -> str:
        """Count."""
        return f"{next(numbers)} {topic}"

    model = stage.model(calls("count"), calls("count"), says())
    return stage.run(stage.agent(model, [stage.tool(count)]), QUESTION)


@PLANS(
    "a node that runs again on the same state goes in a loop",
    """
    invoke_workflow office
      run_node poll #1
      run_node poll [loop revisit 1] -> repeats #1
      run_node poll [loop revisit 2] -> repeats #1
    """,
)
def polling(stage: Stage) -> Any:
    visits: list[None] = []

    def poll(state: MessagesState) -> Any:
        visits.append(None)
        return {"messages": []}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("poll", stage.function(poll))
    builder.add_edge(START, "poll")
    builder.add_conditional_edges("poll", lambda _: "poll" if len(visits) < 3 else END, ["poll", END])
    return stage.run(stage.compile(builder, name="office"), QUESTION)

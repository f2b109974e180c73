"""Following the plans of agents and graphs while they run: who writes one, and which spans carry out its steps.

A plan belongs to the agent or graph in which it is written. A todo list says which step is in progress, so what
runs meanwhile carries that step out; a declared executor carries out one step a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.trace import Link

from tokenomics_langchain.plans import (
    Plan,
    Planners,
    PlanSchema,
    PlanStep,
    Revision,
    steps_of_input,
    steps_of_output,
    steps_of_todos,
)
from tokenomics_langchain.runs import GraphFacts, Run
from tokenomics_langchain.steps import WRITE_TODOS
from tokenomics_plugin import semconv

__all__ = [
    "asked_plan",
    "begin_step",
    "carried_out",
    "end_step",
    "links_of",
    "revise_by_answer",
    "revise_by_node",
    "revise_by_tool",
    "settle",
]


def revise_by_tool(tool: Run, planners: Planners) -> Revision | None:
    """The revision that a tool writes, if it writes a plan: `write_todos`, or a declared schema."""
    arguments = tool.inputs if isinstance(tool.inputs, Mapping) else {}
    fingerprint = tool.tree.fingerprinter.of
    if tool.name == WRITE_TODOS:
        return _revise(tool, steps_of_todos(arguments.get("todos"), fingerprint))
    schema = planners.of_schema(tool.name or "")
    return None if schema is None else _revise(tool, steps_of_output(arguments, schema.steps, fingerprint))


def asked_plan(options: Mapping[str, Any], planners: Planners) -> PlanSchema | None:
    """The declared schema that a model is made to answer with, as `with_structured_output` says."""
    asked = options.get("ls_structured_output_format")
    schema = asked.get("schema") if isinstance(asked, Mapping) else None
    name = schema.get("title", schema.get("name")) if isinstance(schema, Mapping) else getattr(schema, "__name__", None)
    return planners.of_schema(name) if isinstance(name, str) else None


def revise_by_answer(call: Run, tool_calls: Sequence[Any]) -> Revision | None:
    """The revision that a model answered with."""
    if call.plan_schema is None:
        return None
    arguments = next((asked["args"] for asked in tool_calls if asked["name"] == call.plan_schema.name), None)
    fingerprint = call.tree.fingerprinter.of
    return None if arguments is None else _revise(call, steps_of_output(arguments, call.plan_schema.steps, fingerprint))


def revise_by_node(node: Run, outputs: Any) -> Revision | None:
    """The revision that a declared planner returned; without one, what was done since the last."""
    if node.planner is None:
        return None
    steps = steps_of_output(outputs, node.planner.steps, node.tree.fingerprinter.of)
    if steps is not None:
        return _revise(node, steps)
    return None if node.graph is None else settle(node.graph)


def begin_step(run: Run, planners: Planners) -> None:
    """Find out which step a call or a declared executor carries out that starts now.

    What runs inside an executor carries out its step.
    """
    facts = None if run.graph is None or run.step_id is not None else run.graph.as_graph
    if facts is None or facts.plan is None:
        return
    if run.as_node is None:
        run.step_id = facts.plan.active
    elif (planner := planners.of_executor(run.name or "")) is not None:
        given = steps_of_input(run.inputs, planner.steps, run.tree.fingerprinter.of)
        run.step_id, run.is_executor = facts.plan.begin_step(given), True


def carried_out(run: Run) -> None:
    """Remember that the span of a run carries out its step."""
    if run.step_id is None:
        return
    facts, context = _facts(run), run.span_context
    if facts is not None and facts.plan is not None and context is not None:
        facts.plan.carried_out(context, run.step_id)


def end_step(run: Run, *, is_done: bool) -> None:
    """An executor stops working on its step."""
    facts = _facts(run)
    if run.is_executor and run.step_id is not None and facts is not None and facts.plan is not None:
        facts.plan.end_step(run.step_id, is_done=is_done)


def settle(graph: Run) -> Revision | None:
    """What was done since the plan was last revised, when the graph ends that made it."""
    facts = graph.as_graph
    if facts is None or facts.plan is None:
        return None
    return facts.plan.settle()


def links_of(revision: Revision) -> list[Link]:
    """From a revision to the spans that carried out the steps which it found completed."""
    return [
        Link(where, {semconv.LINK_KIND: semconv.LINK_CARRIED_OUT_BY, semconv.PLAN_STEP_ID: step})
        for step, spans in revision.carried_out_by.items()
        for where in spans
    ]


def _revise(run: Run, steps: Sequence[PlanStep] | None) -> Revision | None:
    facts = _facts(run)
    if steps is None or facts is None:
        return None
    if facts.plan is None:
        facts.plan = Plan()
    return facts.plan.revise(steps)


def _facts(run: Run) -> GraphFacts | None:
    return None if run.graph is None else run.graph.as_graph

"""Telling chain runs apart: a workflow, an agent, a node of a graph, a branch, or a part that gets no span.

LangChain calls all of them chains and marks none, so this reads what LangGraph and `create_agent` leave in
tags and metadata:

- A node carries the tag `graph:step:N`, which its children do not inherit; a task of the functional API
  has a checkpoint namespace that its parent does not have.
- An agent carries `ls_integration` and, when it has a name, `lc_agent_name`. Everything inside the agent
  inherits both, so what counts is a change from the parent.
- A graph inside another run, and so an agent without a name, shows itself only by its first node. Until
  then it passes for a part.
- A branch of a `RunnableParallel` carries the tag `map:key:NAME`.
- The nodes in which an agent calls its model and its tools are parts: their calls say all that there is to say.
- Sequences, prompts, parsers, lambdas, retry wrappers and conditional edges are parts. A span for each would
  bury the calls that cost money; their children attach to the nearest ancestor that has a span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from langchain_core.runnables import Runnable

from tokenomics_langchain.runs import NodeRole, Run, RunKind

__all__ = [
    "agent_name",
    "branch_name",
    "chain_kind",
    "graph_kind",
    "is_fallbacks",
    "is_step",
    "is_surely_agent",
    "node_role",
    "workflow_name",
]

# What `create_agent` and deepagents' `create_deep_agent` call themselves.
_AGENT_INTEGRATIONS: Final = frozenset({"langchain_create_agent", "deepagents"})
_AGENT_NODES: Final = frozenset({"model", "tools", "before_agent", "before_model", "after_model", "after_agent"})
_UNNAMED_GRAPH: Final = "LangGraph"
_HIDDEN: Final = "langsmith:hidden"
_NAMESPACE: Final = "langgraph_checkpoint_ns"
_STEP_TAG: Final = "graph:step:"
_BRANCH_TAG: Final = "map:key:"
_FALLBACKS: Final = "RunnableWithFallbacks"
_ROLES: Final = {role.value: role for role in NodeRole}


def chain_kind(run: Run) -> RunKind:
    """What a chain run is, as far as its start tells."""
    if _HIDDEN in run.tags:
        return RunKind.PART
    if is_step(run.tags) or _is_task(run):
        return RunKind.NODE
    if _starts_agent(run):
        return RunKind.AGENT
    if branch_name(run.tags) is not None:
        return RunKind.BRANCH
    return RunKind.WORKFLOW if run.parent is None else RunKind.PART


def node_role(run: Run) -> NodeRole | None:
    """What a node is for, if it is an agent's own: the one of its model or of its tools."""
    is_agents = run.parent is not None and run.parent.kind is RunKind.AGENT
    return _ROLES.get(run.name or "") if is_agents else None


def graph_kind(graph: Run, *, first_node: str | None) -> RunKind:
    """What a part turns out to be when its first node starts: an agent without a name, or a workflow."""
    is_agent = (
        graph.name == _UNNAMED_GRAPH
        and graph.metadata.get("ls_integration") in _AGENT_INTEGRATIONS
        and (first_node or "").rpartition(".")[2] in _AGENT_NODES  # middleware nodes are called "Name.hook"
    )
    return RunKind.AGENT if is_agent else RunKind.WORKFLOW


def is_step(tags: Sequence[str]) -> bool:
    """Whether a graph scheduled the run that carries these tags as one of its nodes, hidden ones included."""
    for tag in tags:  # noqa: SIM110  # twice as fast as any(), and every run passes here
        if tag.startswith(_STEP_TAG):
            return True
    return False


def is_surely_agent(name: str | None, tags: Sequence[str], metadata: Mapping[str, Any], *, is_outermost: bool) -> bool:
    """Whether a run that is no node can be told to be an agent before what is around it has been recorded."""
    if metadata.get("ls_integration") not in _AGENT_INTEGRATIONS or _HIDDEN in tags:
        return False
    if is_outermost:
        return _NAMESPACE not in metadata
    # A task of the functional API is called as its own namespace's node, whatever it runs.
    return name == _declared_agent_name(metadata) and name != metadata.get("langgraph_node")


def is_fallbacks(run: Run) -> bool:
    """Whether a run tries one runnable after another."""
    return run.name == _FALLBACKS


def branch_name(tags: Sequence[str]) -> str | None:
    """The key of the branch of a `RunnableParallel` that carries these tags."""
    return next((tag.removeprefix(_BRANCH_TAG) for tag in tags if tag.startswith(_BRANCH_TAG)), None)


def agent_name(agent: Run) -> str | None:
    """The name given to `create_agent`; `None` when the metadata's is that of an agent around this one."""
    declared = _declared_agent_name(agent.metadata)
    inherited = _declared_agent_name(agent.parent.metadata) if agent.parent else None
    return declared if declared == agent.name or declared != inherited else None


def workflow_name(run: Run) -> str | None:
    """A name that somebody chose: the conventions forbid defaults such as a class's name."""
    return None if not run.name or run.name == _UNNAMED_GRAPH or _is_class_of_runnable(run.name) else run.name


@lru_cache(maxsize=1_024)
def _is_class_of_runnable(name: str) -> bool:
    """Whether a name is what LangChain calls a runnable that nobody named."""
    name = name.partition("[")[0]
    classes: list[type] = [Runnable]
    while classes:
        kind = classes.pop()
        if kind.__name__ == name:
            return True
        classes += kind.__subclasses__()
    return name.startswith("Runnable")


def _is_task(run: Run) -> bool:
    """Whether this is a `@task` of the functional API."""
    if run.parent is None or run.name != run.metadata.get("langgraph_node"):
        return False
    return bool(run.metadata.get(_NAMESPACE) != run.parent.metadata.get(_NAMESPACE))


def _starts_agent(run: Run) -> bool:
    if run.metadata.get("ls_integration") not in _AGENT_INTEGRATIONS:
        return False
    if run.parent is None:
        # In a graph that the handler does not see, the metadata may be that of the agent around this run.
        return _NAMESPACE not in run.metadata or run.name == _declared_agent_name(run.metadata)
    return agent_name(run) is not None


def _declared_agent_name(metadata: Mapping[str, Any]) -> str | None:
    name = metadata.get("lc_agent_name")
    return name if isinstance(name, str) and name else None

"""Control that goes from one agent of a graph to another.

An agent hands over with a `Command`: its tool names a node of the graph around the agent, or the node itself
names the next one. Which span takes over is known only when that starts, so the link is on its side.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import Link, SpanContext

from tokenomics_langchain.endings import Ending
from tokenomics_langchain.outputs import target_of
from tokenomics_langchain.runs import Run, RunKind
from tokenomics_plugin import semconv

__all__ = ["note_agent", "note_hand_off", "taken_over"]


def note_agent(graph: Run) -> None:
    """An agent has ended inside a node, which may hand over in its name."""
    if (node := _node_around(graph)) is not None and node.as_node is not None:
        node.as_node.last_graph = graph.span_context


def note_hand_off(node: Run, ending: Ending, outputs: Any) -> None:
    """A node that names the next one hands control to it."""
    target = ending.event_attributes.get(semconv.HAND_OFF_TO) if ending.event else target_of(outputs)
    context = node.span_context
    if isinstance(target, str) and context is not None and node.graph is not None and node.graph.as_graph is not None:
        agent = None if node.as_node is None else node.as_node.last_graph
        node.graph.as_graph.hand_off = target, agent or context


def taken_over(run: Run) -> list[Link]:
    """A link to what handed control to a node that starts now, or to the agent inside it."""
    source = _source_of_node(run) if run.kind is RunKind.NODE else _source_of_agent(run)
    return [] if source is None else [Link(source, {semconv.LINK_KIND: semconv.LINK_TAKES_OVER})]


def _source_of_node(node: Run) -> SpanContext | None:
    graph = None if node.graph is None else node.graph.as_graph
    if graph is None or graph.hand_off is None or graph.hand_off[0] != node.name:
        return None
    node.taken_over, graph.hand_off = graph.hand_off[1], None
    return node.taken_over


def _source_of_agent(agent: Run) -> SpanContext | None:
    node = _node_around(agent)
    if node is None or node.taken_over is None:
        return None
    source, node.taken_over = node.taken_over, None
    return source


def _node_around(run: Run) -> Run | None:
    return next((around for around in run.lineage() if around.kind is RunKind.NODE), None)

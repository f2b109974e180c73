"""What agents used, summed over the calls below them.

The GenAI conventions put two sums on an agent's span, input and output tokens, and count its own calls, but
not those of agents inside it. A sum with an unknown part is unknown.
"""

from __future__ import annotations

from tokenomics_langchain.attributes import Attributes
from tokenomics_langchain.runs import GraphFacts, Run, RunKind
from tokenomics_plugin import semconv
from tokenomics_plugin.usage import TokenUsage

__all__ = ["add_usage", "count_model_call", "count_tool_call", "usage_attributes"]


def count_model_call(run: Run) -> None:
    """Count a model call for the node and the agent that make it."""
    around = run.parent
    while around is not None:
        if around.as_node is not None:
            around.as_node.inference_calls += 1
        if around.as_graph is not None:
            around.as_graph.inference_calls += 1
        around = None if around.kind is RunKind.AGENT else around.parent


def count_tool_call(run: Run) -> None:
    """Count a tool call for the agent that makes it."""
    around = run.parent
    while around is not None:
        if around.as_graph is not None:
            around.as_graph.tool_calls += 1
        around = None if around.kind is RunKind.AGENT else around.parent


def add_usage(run: Run, usage: TokenUsage | None) -> None:
    """Add a model call's tokens to all agents around it."""
    input_tokens, output_tokens = (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)
    graph = run.graph
    while graph is not None and graph.as_graph is not None:
        _add(graph.as_graph, input_tokens, output_tokens)
        graph = None if graph.parent is None else graph.parent.graph


def usage_attributes(facts: GraphFacts) -> Attributes:
    """What an agent's span says at its end."""
    if facts.unknown_calls:
        return {semconv.USAGE_UNKNOWN_CALLS: facts.unknown_calls}
    if not facts.known_calls:
        return {}
    return {
        semconv.GEN_AI_USAGE_INPUT_TOKENS: facts.input_tokens,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: facts.output_tokens,
    }


def _add(facts: GraphFacts, input_tokens: int | None, output_tokens: int | None) -> None:
    if input_tokens is None or output_tokens is None:
        facts.unknown_calls += 1
    else:
        facts.known_calls += 1
        facts.input_tokens += input_tokens
        facts.output_tokens += output_tokens

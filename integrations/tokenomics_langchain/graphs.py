"""Tracing a graph of one's own: compiled graphs that carry the handler.

The handler goes into the compiled graph's configuration, where LangGraph merges it with the callbacks of each
call. Nodes and edges are not touched: the handler hears of nodes by itself, and makes their spans current.
"""

from __future__ import annotations

from functools import wraps
from typing import Any, Final, TypeVar

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from opentelemetry.trace import TracerProvider

from tokenomics_langchain.callbacks import TokenomicsCallbackHandler

__all__ = ["trace_graph"]

_Builder = TypeVar("_Builder", bound=StateGraph[Any, Any, Any, Any])
_MARK: Final = "_tokenomics_handler"


def trace_graph(
    builder: _Builder,
    tracer_provider: TracerProvider | None = None,
    *,
    handler: TokenomicsCallbackHandler | None = None,
) -> _Builder:
    """Have every graph that a builder compiles from now on traced, as `trace_graph(builder).compile()`.

    Args:
        builder: A `StateGraph`; a second call for the same one changes nothing.
        tracer_provider: Where spans go; the global provider by default.
        handler: The handler to trace with, in place of a new one of `tracer_provider`.

    Returns:
        The builder itself.

    Raises:
        ValueError: If both `tracer_provider` and `handler` are given.
    """
    if handler is not None and tracer_provider is not None:
        raise ValueError("got a handler and a tracer_provider: the handler has a provider already, so give only one")
    compile_graph = builder.compile
    if hasattr(compile_graph, _MARK):
        return builder
    tracing = handler or TokenomicsCallbackHandler(tracer_provider)

    @wraps(compile_graph)
    def compile_traced(*args: Any, **kwargs: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        return compile_graph(*args, **kwargs).with_config(callbacks=[tracing])

    setattr(compile_traced, _MARK, tracing)
    setattr(builder, "compile", compile_traced)  # noqa: B010 - mypy knows that methods are not assigned to
    return builder

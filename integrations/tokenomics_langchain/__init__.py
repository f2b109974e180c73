"""LangChain and LangGraph on OpenTelemetry: three ways to trace them, and a local chat model.

Importing the package brings the callback handler only. The other names load on first use, so that tracing
an agent pulls in neither torch nor transformers, and a graph no agent framework that it does not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tokenomics_plugin.errors import MissingExtraError

try:
    from tokenomics_langchain.callbacks import TokenomicsCallbackHandler
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] not in {"langchain_core", "langgraph"}:
        raise
    raise MissingExtraError(error.name, extra="langchain") from error

if TYPE_CHECKING:
    from tokenomics_langchain.chat_model import ChatLocalLLM
    from tokenomics_langchain.graphs import trace_graph
    from tokenomics_langchain.instrumentor import LangChainInstrumentor
    from tokenomics_langchain.middleware import TokenomicsMiddleware
    from tokenomics_langchain.plans import Planner, PlanSchema

__all__ = [
    "ChatLocalLLM",
    "LangChainInstrumentor",
    "PlanSchema",
    "Planner",
    "TokenomicsCallbackHandler",
    "TokenomicsMiddleware",
    "trace_graph",
]

_ON_FIRST_USE: Final = {
    "ChatLocalLLM": "chat_model",
    "LangChainInstrumentor": "instrumentor",
    "PlanSchema": "plans",
    "Planner": "plans",
    "TokenomicsMiddleware": "middleware",
    "trace_graph": "graphs",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

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
    from tokenomics_langchain.recommended import middleware_of
    from tokenomics_plugin.policies import AllOf, BudgetPolicy, Explore, LoopBreaker, MemoTools, RetryCap

__all__ = [
    "AllOf",
    "BudgetPolicy",
    "ChatLocalLLM",
    "Explore",
    "LangChainInstrumentor",
    "LoopBreaker",
    "MemoTools",
    "PlanSchema",
    "Planner",
    "RetryCap",
    "TokenomicsCallbackHandler",
    "TokenomicsMiddleware",
    "middleware_of",
    "trace_graph",
]

_POLICIES: Final = "tokenomics_plugin.policies"
_ON_FIRST_USE: Final = {
    "AllOf": _POLICIES,
    "BudgetPolicy": _POLICIES,
    "ChatLocalLLM": f"{__name__}.chat_model",
    "Explore": _POLICIES,
    "LangChainInstrumentor": f"{__name__}.instrumentor",
    "LoopBreaker": _POLICIES,
    "MemoTools": _POLICIES,
    "PlanSchema": f"{__name__}.plans",
    "Planner": f"{__name__}.plans",
    "RetryCap": _POLICIES,
    "TokenomicsMiddleware": f"{__name__}.middleware",
    "middleware_of": f"{__name__}.recommended",
    "trace_graph": f"{__name__}.graphs",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

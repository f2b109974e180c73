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
    from tokenomics_langchain.enforcement import to_langchain
    from tokenomics_langchain.graphs import trace_graph
    from tokenomics_langchain.instrumentor import LangChainInstrumentor
    from tokenomics_langchain.middleware import TokenomicsMiddleware
    from tokenomics_langchain.plans import Planner, PlanSchema
    from tokenomics_plugin.policies import BudgetPolicy, Explore, LoopBreaker, MemoTools, Policies, RetryCap

__all__ = [
    "BudgetPolicy",
    "ChatLocalLLM",
    "Explore",
    "LangChainInstrumentor",
    "LoopBreaker",
    "MemoTools",
    "PlanSchema",
    "Planner",
    "Policies",
    "RetryCap",
    "TokenomicsCallbackHandler",
    "TokenomicsMiddleware",
    "to_langchain",
    "trace_graph",
]

_POLICIES: Final = "tokenomics_plugin.policies"
_ON_FIRST_USE: Final = {
    "BudgetPolicy": _POLICIES,
    "ChatLocalLLM": f"{__name__}.chat_model",
    "Explore": _POLICIES,
    "LangChainInstrumentor": f"{__name__}.instrumentor",
    "LoopBreaker": _POLICIES,
    "MemoTools": _POLICIES,
    "PlanSchema": f"{__name__}.plans",
    "Planner": f"{__name__}.plans",
    "Policies": _POLICIES,
    "RetryCap": _POLICIES,
    "TokenomicsMiddleware": f"{__name__}.middleware",
    "to_langchain": f"{__name__}.enforcement",
    "trace_graph": f"{__name__}.graphs",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""LangChain and LangGraph on OpenTelemetry: a callback handler that traces them, and a local chat model.

Importing the package brings the handler only. `ChatLocalLLM` loads on first use, so that tracing an
agent pulls in neither torch nor transformers.
"""

from typing import TYPE_CHECKING, Any

from tokenomics_plugin.errors import MissingExtraError

try:
    from tokenomics_langchain.callbacks import TokenomicsCallbackHandler
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] not in {"langchain_core", "langgraph"}:
        raise
    raise MissingExtraError(error.name, extra="langchain") from error

if TYPE_CHECKING:
    from tokenomics_langchain.chat_model import ChatLocalLLM

__all__ = ["ChatLocalLLM", "TokenomicsCallbackHandler"]


def __getattr__(name: str) -> Any:
    if name == "ChatLocalLLM":
        from tokenomics_langchain.chat_model import ChatLocalLLM

        return ChatLocalLLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

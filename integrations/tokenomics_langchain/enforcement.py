"""From a recommendation to the middleware that does it: LangChain's own where it has one, ours with a policy else."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from langchain.agents.middleware import AgentMiddleware
from opentelemetry.trace import TracerProvider

from tokenomics_langchain.middleware import TokenomicsMiddleware
from tokenomics_plugin.simulation import Configuration

__all__ = ["to_langchain"]

_LANGCHAIN: Final = "langchain.agents.middleware"
_OURS: Final = "tokenomics_langchain"


def to_langchain(
    configuration: Configuration, *, tracer_provider: TracerProvider | None = None
) -> AgentMiddleware[Any, Any, Any]:
    """Make what a configuration names, to put among an agent's middleware.

    Args:
        configuration: Such as a recommendation's: a middleware of LangChain's, or a policy of this package.
        tracer_provider: Where a policy's decisions are recorded; the global provider by default.

    Raises:
        ValueError: If it names anything else.
    """
    module, _, name = configuration.component.rpartition(".")
    if module not in (_LANGCHAIN, _OURS):
        raise ValueError(f"component must be in {_LANGCHAIN} or {_OURS}, got {configuration.component}")
    made = getattr(import_module(module), name)(**configuration.arguments)
    return made if isinstance(made, AgentMiddleware) else TokenomicsMiddleware(tracer_provider, policy=made)

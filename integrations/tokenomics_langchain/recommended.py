"""What the report recommends, as a middleware to put into an agent."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from langchain.agents.middleware import AgentMiddleware

from tokenomics_langchain.middleware import TokenomicsMiddleware
from tokenomics_plugin.simulation import Configuration

__all__ = ["middleware_of"]

_OURS = "tokenomics_langchain"


def middleware_of(configuration: Configuration, **changes: Any) -> AgentMiddleware[Any, Any, Any]:
    """Make the component that a recommendation names: LangChain's own where it has one, else a policy of ours.

    Args:
        configuration: As a `Recommendation` has it.
        changes: Arguments to give it instead or besides, such as `mode="enforce"`.

    Raises:
        ImportError: If the component is not there in the installed version.
    """
    module, _, name = configuration.component.rpartition(".")
    component = getattr(import_module(module), name, None)
    if component is None:
        raise ImportError(f"{configuration.component} is not in the installed version of {module}: upgrade it")
    made = component(**{**configuration.arguments, **changes})
    return TokenomicsMiddleware(policy=made) if module == _OURS else made

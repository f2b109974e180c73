"""What a graph's node returned, in the shapes that LangGraph accepts: an update, a `Command`, or a list of them."""

from __future__ import annotations

from typing import Any, Final

from langchain_core.messages import BaseMessage
from langgraph.types import Command

__all__ = ["has_structured_response", "messages_of", "target_of"]

_END: Final = "__end__"
# What a tool returns may be a list of anything, of any length, and may contain itself.
_SHAPES: Final = (BaseMessage, Command, dict, list, tuple)
_MAX_PARTS: Final = 1_000


def messages_of(output: Any) -> list[BaseMessage]:
    """The messages that an output adds to the state, in their order: the last ones, if there are very many."""
    if type(output) is dict and isinstance(output.get("messages"), list):
        output = output["messages"]
    if type(output) is list and len(output) == 1:
        output = output[0]
    if isinstance(output, BaseMessage):
        return [output]
    messages: list[BaseMessage] = []
    waiting, steps = [output], 0
    while waiting and steps < _MAX_PARTS:
        part, steps = waiting.pop(), steps + 1
        if isinstance(part, BaseMessage):
            messages.append(part)
        elif isinstance(part, Command):
            waiting.append(part.update)
        elif isinstance(part, dict):
            waiting.append(part.get("messages"))
        elif isinstance(part, list | tuple) and part and isinstance(part[0], _SHAPES):
            waiting.extend(reversed(part[-_MAX_PARTS:]))
    return messages


def has_structured_response(output: Any) -> bool:
    """Whether an agent's model gave the structured answer that it was asked for."""
    parts = output if isinstance(output, list | tuple) else [output]
    updates = [part.update if isinstance(part, Command) else part for part in parts[:_MAX_PARTS]]
    return any(isinstance(update, dict) and update.get("structured_response") is not None for update in updates)


def target_of(output: Any) -> str | None:
    """The node of the same graph that an output sends control to, when it names exactly one."""
    if isinstance(output, list | tuple) and len(output) == 1:
        return target_of(output[0])
    if not isinstance(output, Command) or output.graph is not None:
        return None
    return output.goto if isinstance(output.goto, str) and output.goto not in ("", _END) else None

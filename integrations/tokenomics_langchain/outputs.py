"""What a graph's node returned, in the shapes that LangGraph accepts: an update, a `Command`, or a list of them."""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from langchain_core.messages import BaseMessage, ToolMessage
from langgraph.types import Command

__all__ = ["has_structured_response", "is_message", "is_tool_message", "messages_of", "target_of"]

_END: Final = "__end__"
# What a tool returns may be a list of anything, of any length, and may contain itself.
_SHAPES: Final = (Command, dict, list, tuple, BaseMessage)
_MAX_PARTS: Final = 1_000


# Of what is no message, `isinstance` asks Pydantic's metaclass, which takes ten times as long as these.


def is_message(value: object) -> bool:
    """Whether a value is a message."""
    return BaseMessage in type(value).__mro__


def is_tool_message(value: object) -> TypeGuard[ToolMessage]:
    """Whether a value is a tool's answer."""
    return ToolMessage in type(value).__mro__


def messages_of(output: Any) -> list[BaseMessage]:
    """The messages that an output adds to the state, in their order: the last ones, if there are very many."""
    # What an agent's own nodes return, straight away.
    output = _only(output)
    if type(output) is Command:
        output = output.update
    if type(output) is dict and isinstance(output.get("messages"), list):
        output = output["messages"]
    output = _only(output)
    if is_message(output):
        return [output]
    messages: list[BaseMessage] = []
    waiting, steps = [output], 0
    while waiting and steps < _MAX_PARTS:
        part, steps = waiting.pop(), steps + 1
        if isinstance(part, Command):
            waiting.append(part.update)
        elif isinstance(part, dict):
            waiting.append(part.get("messages"))
        elif isinstance(part, list | tuple):
            if part and isinstance(part[0], _SHAPES):
                waiting.extend(reversed(part[-_MAX_PARTS:]))
        elif is_message(part):
            messages.append(part)
    return messages


def _only(output: Any) -> Any:
    """The item of a list of one, else the same."""
    return output[0] if type(output) is list and len(output) == 1 else output


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

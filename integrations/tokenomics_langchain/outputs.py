"""What a graph's node returned, in the shapes that LangGraph accepts: an update, a `Command`, or a list of them."""

from __future__ import annotations

from typing import Any, Final

from langchain_core.messages import BaseMessage
from langgraph.types import Command

__all__ = ["messages_of", "target_of"]

_END: Final = "__end__"


def messages_of(output: Any) -> list[BaseMessage]:
    """The messages that an output adds to the state, in their order."""
    messages: list[BaseMessage] = []
    waiting = [output]  # no recursion: every end of a node and of a tool passes here
    while waiting:
        part = waiting.pop()
        if isinstance(part, BaseMessage):
            messages.append(part)
        elif isinstance(part, Command):
            waiting.append(part.update)
        elif isinstance(part, dict):
            waiting.append(part.get("messages"))
        elif isinstance(part, list | tuple):
            waiting.extend(reversed(part))
    return messages


def target_of(output: Any) -> str | None:
    """The node of the same graph that an output sends control to, when it names exactly one."""
    if isinstance(output, list | tuple) and len(output) == 1:
        return target_of(output[0])
    if not isinstance(output, Command) or output.graph is not None:
        return None
    return output.goto if isinstance(output.goto, str) and output.goto not in ("", _END) else None

"""What a graph's node returned, in the shapes that LangGraph accepts: an update, a `Command`, or a list of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langgraph.types import Command

__all__ = ["is_parent_command", "messages_of", "target_of"]

_END: Final = "__end__"


def messages_of(output: Any) -> Iterator[BaseMessage]:
    """The messages that an output adds to the state, in their order."""
    if isinstance(output, BaseMessage):
        yield output
    elif isinstance(output, Command):
        yield from messages_of(output.update)
    elif isinstance(output, Mapping):
        yield from messages_of(output.get("messages"))
    elif isinstance(output, list | tuple):
        for item in output:
            yield from messages_of(item)


def target_of(output: Any) -> str | None:
    """The node of the same graph that an output sends control to, when it names exactly one."""
    if isinstance(output, list | tuple) and len(output) == 1:
        return target_of(output[0])
    if not isinstance(output, Command) or output.graph is not None:
        return None
    return output.goto if isinstance(output.goto, str) and output.goto not in ("", _END) else None


def is_parent_command(output: Any) -> bool:
    """Whether an output hands control to the graph around."""
    return isinstance(output, Command) and output.graph == Command.PARENT

"""What a model call was sent and answered, as the words that its span carries: JSON of the GenAI conventions."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CallContent"]


@dataclass(frozen=True, slots=True)
class CallContent:
    """A row of `queries.CONTENT_SPANS`: attributes as they arrived, which a redaction may have cut down to anything."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    system_instructions: str | None
    """`gen_ai.system_instructions`."""
    input_messages: str | None
    """`gen_ai.input.messages`."""
    output_messages: str | None
    """`gen_ai.output.messages`."""
    tool_definitions: str | None
    """`gen_ai.tool.definitions`."""

"""Which attributes of foreign spans hold what users, models or tools said."""

from __future__ import annotations

from typing import Final

from tokenomics_plugin import semconv

__all__ = ["is_content"]

_CONTENT: Final = frozenset(
    {
        "input.value",
        "output.value",
        "metadata",
        "llm.function_call",
        "llm.invocation_parameters",
        "tool.parameters",
        "tool_call.function.arguments",
        "inputs",
        "outputs",
        "exception.message",
        "exception.stacktrace",
        "gen_ai.prompt",
        "gen_ai.completion",
        "entity.input",
        "entity.output",
        "traceloop.entity.input",
        "traceloop.entity.output",
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_TOOL_CALL_ARGUMENTS,
        semconv.GEN_AI_TOOL_CALL_RESULT,
        semconv.GEN_AI_TOOL_DEFINITIONS,
        semconv.GEN_AI_RETRIEVAL_QUERY_TEXT,
        semconv.GEN_AI_RETRIEVAL_DOCUMENTS,
    }
)
_CONTENT_BELOW: Final = (
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.prompts.",
    "llm.choices.",
    "llm.tools.",
    "llm.prompt_template.",
    "llm.request.functions.",
    "retrieval.documents.",
    "reranker.",
    "embedding.embeddings.",
    "embedding.text",
    "embedding.vector",
    "input.images.",
    "input.documents.",
    "output.images.",
    "gen_ai.prompt.",
    "gen_ai.completion.",
)


def is_content(name: str) -> bool:
    """Whether an attribute holds what users, models or tools said, in any of the dialects."""
    return name in _CONTENT or name.startswith(_CONTENT_BELOW)

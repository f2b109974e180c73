"""Language models on this machine: load one, render a conversation, generate text, force tool calls.

from tokenomics_local_llm import GenerationOptions, generate, load_model, render_prompt

model = load_model("SmolLM2-135M-Instruct")
prompt = render_prompt(model, [{"role": "user", "content": "Name a colour."}])
print(generate(model, prompt, GenerationOptions(max_tokens=20)).text)

With the 2-bit key-value cache: `generate(..., cache_factory=kv_caches(model, "oscar"))`.
"""

from tokenomics_local_llm.errors import (
    LocalLLMError,
    MissingExtraError,
    ModelLoadError,
    PromptTooLongError,
    UnsupportedSchemaError,
)

try:
    from tokenomics_local_llm.generation import GenerationOptions, TextDelta, generate, stream
    from tokenomics_local_llm.hermes import ToolCall, ToolCallParser, grammar
    from tokenomics_local_llm.kv_cache import HeldCache, kv_caches
    from tokenomics_local_llm.model import LocalModel, load_model
    from tokenomics_local_llm.prompt import render_prompt
except ModuleNotFoundError as error:
    package = (error.name or "").partition(".")[0]
    if package not in {"torch", "transformers", "tokenizers", "llguidance"}:
        raise
    raise MissingExtraError(package) from error

__all__ = [
    "GenerationOptions",
    "HeldCache",
    "LocalLLMError",
    "LocalModel",
    "MissingExtraError",
    "ModelLoadError",
    "PromptTooLongError",
    "TextDelta",
    "ToolCall",
    "ToolCallParser",
    "UnsupportedSchemaError",
    "generate",
    "grammar",
    "kv_caches",
    "load_model",
    "render_prompt",
    "stream",
]

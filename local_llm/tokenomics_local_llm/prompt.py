"""A conversation as the text that a model reads: its chat template, and tools also where the template has none.

Messages and tools are in the form that chat templates take: `{"role", "content"}`, with `tool_calls` on the
assistant's, and tools in OpenAI's format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from jinja2 import TemplateError

from tokenomics_local_llm import hermes
from tokenomics_local_llm.errors import LocalLLMError
from tokenomics_local_llm.model import LocalModel

__all__ = ["render_answer", "render_prompt"]

Json = dict[str, Any]


def render_prompt(model: LocalModel, messages: Sequence[Json], tools: Sequence[Json] = ()) -> str:
    """The prompt to which the model's answer is the continuation.

    Raises:
        LocalLLMError: If the model has no chat template, or its template refuses the conversation.
    """
    if _writes_hermes(_template(model, tools)):
        return _apply(model, messages, tools)
    return _apply(model, _with_tools_as_text(messages, tools))


def render_answer(message: Json) -> str:
    """What the assistant writes when it says this message, tool calls included, without the token that ends it."""
    answer: str = _plain_message(message)["content"]
    return answer


def _template(model: LocalModel, tools: Sequence[Json]) -> str:
    try:
        template: str = model.tokenizer.get_chat_template(tools=list(tools) or None)
    except ValueError as error:
        raise LocalLLMError(f"{model.name} has no chat template: take a model that was trained to chat") from error
    return template


def _writes_hermes(template: str) -> bool:
    """Whether the template itself puts tools and calls into the format of `hermes`."""
    return all(word in template for word in ("tools", "<tool_call>", "arguments")) and "<function=" not in template


def _apply(model: LocalModel, messages: Sequence[Json], tools: Sequence[Json] = ()) -> str:
    try:
        prompt = model.tokenizer.apply_chat_template(
            list(messages), tools=list(tools) or None, add_generation_prompt=True, tokenize=False
        )
    except (TemplateError, TypeError) as error:
        raise LocalLLMError(f"the chat template of {model.name} refuses this conversation: {error}") from error
    return str(prompt)


def _with_tools_as_text(messages: Sequence[Json], tools: Sequence[Json]) -> list[Json]:
    plain = list(_plain(messages))
    if not tools:
        return plain
    text = hermes.system_text(tools)
    if plain and plain[0]["role"] == "system":
        return [{"role": "system", "content": f"{plain[0]['content']}\n\n{text}"}, *plain[1:]]
    return [{"role": "system", "content": text}, *plain]


def _plain(messages: Sequence[Json]) -> Iterator[Json]:
    """The messages without a tool's role and without `tool_calls`, which such templates do not know."""
    for role, group in groupby(messages, key=lambda message: message["role"]):
        if role == "tool":  # results of parallel calls go into one message, as roles must take turns
            responses = [hermes.render_response(message["content"]) for message in group]
            yield {"role": "user", "content": "\n".join(responses)}
        else:
            yield from map(_plain_message, group)


def _plain_message(message: Json) -> Json:
    calls = [hermes.render_call(**call["function"]) for call in message.get("tool_calls", ())]
    content = "\n".join([message["content"], *calls] if message["content"] else calls)
    return {"role": message["role"], "content": content}

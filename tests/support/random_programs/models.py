"""Models that answer by script, fail when they are told to, and report every call that they completed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall, ToolCallChunk
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    GenerationChunk,
    LLMResult,
)
from langchain_core.runnables import Runnable
from pydantic import ConfigDict

from random_programs.world import SECRET, Unavailable, World

__all__ = ["Reply", "ScriptedChat", "ScriptedText"]

_CHUNKS = ("It ", "is ", SECRET, " as ", "ever.")
_TEXT = "".join(_CHUNKS)

Usage = tuple[int, int] | None


class Reply:
    """What a model answers at one point.

    Args:
        usage: Input and output tokens that it reports.
        failures: How many of the first calls fail.
        break_after: Chunks after which a stream that fails does so.
        tool_calls: What it calls.
    """

    def __init__(
        self, *, usage: Usage, failures: int, break_after: int | None = None, tool_calls: Sequence[ToolCall] = ()
    ) -> None:
        self.usage = usage
        self.failures = failures
        self.break_after = break_after
        self.tool_calls = list(tool_calls)


class ScriptedChat(BaseChatModel):
    """A chat model that gives one reply after the other."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    world: World
    model: str
    replies: Sequence[Reply]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[{"type": "function", "function": {"name": tool.name}} for tool in tools])

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return super()._get_ls_params(stop=stop, **kwargs) | {"ls_provider": "scripted"}

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.world.tick()
        return self._result(messages)

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        await self.world.atick()
        return self._result(messages)

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages):
            self.world.tick()
            yield chunk

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages):
            await self.world.atick()
            yield chunk

    def _reply(self, messages: list[BaseMessage]) -> tuple[str, Reply]:
        given = sum(message.response_metadata.get("model_name") == self.model for message in messages)
        place = min(given, len(self.replies) - 1)
        return f"{self.model}:{place}", self.replies[place]

    def _result(self, messages: list[BaseMessage]) -> ChatResult:
        place, reply = self._reply(messages)
        self.world.fail(place, reply.failures)
        message = AIMessage(
            _TEXT,
            tool_calls=reply.tool_calls,
            usage_metadata=_usage_metadata(reply.usage),
            response_metadata={"model_name": self.model, "id": self.world.report(reply.usage)},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _chunks(self, messages: list[BaseMessage]) -> Iterator[ChatGenerationChunk]:
        place, reply = self._reply(messages)
        breaks = bool(reply.failures) and self.world.count(place) < reply.failures
        if breaks and reply.break_after is None:
            raise Unavailable
        for number, text in enumerate(_CHUNKS):
            if breaks and number == reply.break_after:
                raise Unavailable
            yield ChatGenerationChunk(message=AIMessageChunk(content=text))
        yield ChatGenerationChunk(message=self._last(reply))

    def _last(self, reply: Reply) -> AIMessageChunk:
        calls = [
            ToolCallChunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
            for index, call in enumerate(reply.tool_calls)
        ]
        return AIMessageChunk(
            content="",
            tool_call_chunks=calls,
            usage_metadata=_usage_metadata(reply.usage),
            response_metadata={"model_name": self.model, "id": self.world.report(reply.usage)},
            chunk_position="last",
        )


class ScriptedText(BaseLLM):
    """A text completion model that gives one reply again and again."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    world: World
    model: str
    reply: Reply

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return super()._get_ls_params(stop=stop, **kwargs) | {"ls_provider": "scripted"}

    def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        self.world.tick()
        return self._result()

    async def _agenerate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        await self.world.atick()
        return self._result()

    def _stream(self, prompt: str, *args: Any, **kwargs: Any) -> Iterator[GenerationChunk]:
        for chunk in self._chunks():
            self.world.tick()
            yield chunk

    async def _astream(self, prompt: str, *args: Any, **kwargs: Any) -> AsyncIterator[GenerationChunk]:
        for chunk in self._chunks():
            await self.world.atick()
            yield chunk

    def _result(self) -> LLMResult:
        self.world.fail(self.model, self.reply.failures)
        return LLMResult(generations=[[Generation(text=_TEXT)]], llm_output=self._about())

    def _chunks(self) -> Iterator[GenerationChunk]:
        breaks = bool(self.reply.failures) and self.world.count(self.model) < self.reply.failures
        if breaks and self.reply.break_after is None:
            raise Unavailable
        for number, text in enumerate(_CHUNKS):
            if breaks and number == self.reply.break_after:
                raise Unavailable
            yield GenerationChunk(text=text)
        yield GenerationChunk(text="", generation_info=self._about())

    def _about(self) -> dict[str, Any]:
        usage = self.reply.usage
        about: dict[str, Any] = {"id": self.world.report(usage), "model_name": self.model}
        if usage is not None:
            about["token_usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
        return about


def _usage_metadata(usage: Usage) -> Any:
    if usage is None:
        return None
    return {"input_tokens": usage[0], "output_tokens": usage[1], "total_tokens": sum(usage)}

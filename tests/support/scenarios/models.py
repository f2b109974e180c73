"""Models that answer by script, and say to the stage what they reported as used.

A script is read by the conversation: the reply comes next that this model has not given in it yet. So models keep no
place of their own, and one may serve any number of conversations at once.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall, ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import ConfigDict, PrivateAttr

__all__ = [
    "ANSWER",
    "LONG_S",
    "SECRET",
    "Call",
    "Reply",
    "ScriptedModel",
    "StreamingModel",
    "Unavailable",
    "calls",
    "says",
]

SECRET: Final = "s3cr3t"
"""In every text that users, models and tools write: with content off, it must not leave the process."""
ANSWER: Final = f"The answer is {SECRET} and no other"
"""What models say at the end: seven words, 31 characters."""

LONG_S: Final = 5.0
"""Longer than anybody waits, but for a program that hangs."""

Call = tuple[str, dict[str, Any]]
"""A tool's name and arguments."""


class Unavailable(ConnectionError):
    """What a provider answers that is too busy."""

    def __init__(self) -> None:
        super().__init__(f"no capacity for {SECRET}")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a model does at one point of a conversation."""

    text: str = ANSWER
    """What it says."""
    calls: tuple[Call, ...] = ()
    """The tools that it calls."""
    usage: tuple[int, int] | None = (20, 5)
    """Input and output tokens that it reports; `None` when it reports none."""
    fails: int = 0
    """How many times it raises before it answers."""
    error: Callable[[], BaseException] = Unavailable
    """What it raises."""
    lasts_s: float = 0.0
    """Seconds that it takes to answer; of a stream, each chunk."""
    stalls_after: int | None = None
    """Chunks after which a stream on an event loop goes on for longer than anybody waits."""


def says(text: str = ANSWER, **more: Any) -> Reply:
    """A reply that ends the conversation."""
    return Reply(text=text, **more)


def calls(*tools: str | Call, **more: Any) -> Reply:
    """A reply that calls tools, by default with a topic that is nobody's business."""
    named = [(tool, {"topic": SECRET}) if isinstance(tool, str) else tool for tool in tools]
    return Reply(text="", calls=tuple(named), **more)


class ScriptedModel(BaseChatModel):
    """Gives one reply after the other; does not stream."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    script: Sequence[Reply]
    report: Callable[[tuple[int, int]], None]
    """Is told the usage of each call that completes."""
    model: str = "toy"
    request: Callable[[], AbstractContextManager[Any]] = nullcontext
    """What the provider's client does around each request, such as opening a span."""
    _failures: Counter[int] = PrivateAttr(default_factory=Counter)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return super()._get_ls_params(stop=stop, **kwargs) | {"ls_provider": "toymaker"}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        named = [{"type": "function", "function": {"name": getattr(tool, "name", str(tool))}} for tool in tools]
        return self.bind(tools=named, **kwargs)

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        place, reply = self._reply(messages)
        with self.request():
            time.sleep(reply.lasts_s)
            return self._result(place, reply)

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        place, reply = self._reply(messages)
        with self.request():
            await asyncio.sleep(reply.lasts_s)
            return self._result(place, reply)

    def _reply(self, messages: Sequence[BaseMessage]) -> tuple[int, Reply]:
        given = sum(message.response_metadata.get("model_name") == self.model for message in messages)
        place = min(given, len(self.script) - 1)
        return place, self.script[place]

    def _fail(self, place: int, reply: Reply) -> None:
        with self._lock:
            self._failures[place] += 1
            is_failure = self._failures[place] <= reply.fails
        if is_failure:
            raise reply.error()

    def _about(self, place: int, reply: Reply) -> dict[str, Any]:
        reason = "tool_calls" if reply.calls else "stop"
        return {"model_name": self.model, "id": f"response-{self.model}-{place}", "finish_reason": reason}

    def _call_id(self, place: int, index: int) -> str:
        return f"call-{self.model}-{place}-{index}"

    def _result(self, place: int, reply: Reply) -> ChatResult:
        self._fail(place, reply)
        if reply.usage is not None:
            self.report(reply.usage)
        message = AIMessage(
            reply.text,
            tool_calls=[
                ToolCall(name=name, args=args, id=self._call_id(place, i)) for i, (name, args) in _numbered(reply)
            ],
            usage_metadata=_usage_metadata(reply.usage),
            response_metadata=self._about(place, reply),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class StreamingModel(ScriptedModel):
    """Streams its replies word by word; usage comes with the last chunk."""

    tells_input_first: bool = False
    """Whether the input's usage comes with the first chunk already."""

    def _stream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        place, reply = self._reply(messages)
        with self.request():
            self._fail(place, reply)
            for chunk in self._chunks(place, reply):
                time.sleep(reply.lasts_s)
                yield chunk

    async def _astream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        place, reply = self._reply(messages)
        with self.request():
            self._fail(place, reply)
            for number, chunk in enumerate(self._chunks(place, reply)):
                await asyncio.sleep(LONG_S if number == reply.stalls_after else reply.lasts_s)
                yield chunk

    def _chunks(self, place: int, reply: Reply) -> Iterator[ChatGenerationChunk]:
        given, answered = reply.usage or (0, 0)
        first, rest = ((given, 0), (0, answered)) if self.tells_input_first else (None, reply.usage)
        for number, word in enumerate(reply.text.split()):
            usage = first if number == 0 else None
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} ", usage_metadata=_usage_metadata(usage)))
        if reply.usage is not None:
            self.report(reply.usage)
        yield ChatGenerationChunk(message=self._last(place, reply, rest))

    def _last(self, place: int, reply: Reply, usage: tuple[int, int] | None) -> AIMessageChunk:
        return AIMessageChunk(
            content="",
            tool_call_chunks=[
                ToolCallChunk(name=name, args=json.dumps(args), id=self._call_id(place, i), index=i)
                for i, (name, args) in _numbered(reply)
            ],
            usage_metadata=_usage_metadata(usage),
            response_metadata=self._about(place, reply),
            chunk_position="last",
        )


def _numbered(reply: Reply) -> Iterator[tuple[int, Call]]:
    return iter(enumerate(reply.calls))


def _usage_metadata(usage: tuple[int, int] | None) -> Any:
    if usage is None:
        return None
    given, answered = usage
    return {"input_tokens": given, "output_tokens": answered, "total_tokens": given + answered}

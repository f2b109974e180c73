"""Running a program in its mode to its end, or to where it is stopped, and saying what came of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.types import Command

from random_programs.building import Builder, Tracing, fresh_state
from random_programs.specs import Program
from random_programs.world import World

__all__ = ["Outcome", "execute"]

_RECURSION_LIMIT: Final = 14
_MAX_RESUMES: Final = 3
_PATIENCE_S: Final = 0.3
_INTERRUPT_ID: Final = re.compile(r"id='[0-9a-f]{32}'")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an execution, in values that compare."""

    result: Any = None
    """What the program returned."""
    error: tuple[str, str] | None = None
    """Type and message of what it raised."""


def execute(program: Program, world: World, tracing: Tracing = Tracing()) -> Outcome:  # noqa: B008  # frozen
    """Build a program, and run it."""
    execution = _Execution(program, world, tracing)
    run: Callable[[], Any] = execution.arun if program.is_async else execution.run
    try:
        result = asyncio.run(run()) if program.is_async else run()
    except (Exception, asyncio.CancelledError) as error:
        world.happened.add("the recursion limit" if isinstance(error, GraphRecursionError) else "an error")
        # The text of a cancellation numbers the tasks of the process.
        text = "" if isinstance(error, asyncio.CancelledError) else str(error)
        return Outcome(error=(type(error).__qualname__, text))
    finally:
        world.look_around("after the program")
    world.happened.add("a result")
    return Outcome(result=result)


class _Execution:
    def __init__(self, program: Program, world: World, tracing: Tracing) -> None:
        self._program = program
        self._world = world
        checkpointer = InMemorySaver() if program.has_thread else None
        builder = Builder(world, tracing, is_async=program.is_async)
        self._app: Any = builder.root(program.root, checkpointer)
        self._config: Any = {"callbacks": world.callbacks, "recursion_limit": _RECURSION_LIMIT}
        if program.has_thread:
            self._config["configurable"] = {"thread_id": "thread-1"}

    def run(self) -> Any:
        if self._program.mode == "batch":
            return list(map(_plain, self._app.batch([fresh_state(item) for item in "ab"], self._config)))
        ask = self._stream if self._program.is_stream else self._invoke
        results = [ask(fresh_state("a"))]
        while (answers := self._answers()) is not None:
            results.append(ask(answers))
        return results

    async def arun(self) -> Any:
        self._world.task = asyncio.current_task()
        try:
            return await self._arun()
        finally:
            self._world.work_is_over.set()
            await _settle()

    async def _arun(self) -> Any:
        if self._program.mode == "abatch":
            return list(map(_plain, await self._app.abatch([fresh_state(item) for item in "ab"], self._config)))
        ask = self._astream if self._program.is_stream else self._ainvoke
        results = [await ask(fresh_state("a"))]
        while (answers := self._answers()) is not None:
            results.append(await ask(answers))
        return results

    def _invoke(self, question: Any) -> Any:
        return _plain(self._app.invoke(question, self._config))

    async def _ainvoke(self, question: Any) -> Any:
        return _plain(await self._app.ainvoke(question, self._config))

    def _stream(self, question: Any) -> Any:
        stream = self._app.stream(question, self._config, stream_mode=self._program.stream_mode)
        reading = _Reading(self._program, self._world)
        for chunk in stream:
            if reading.stops_after(chunk):
                break
        match reading.stopped:
            case "closed":
                stream.close()
            case "kept":
                self._world.kept.append(stream)
        return reading.result()

    async def _astream(self, question: Any) -> Any:
        stream = self._app.astream(question, self._config, stream_mode=self._program.stream_mode)
        reading = _Reading(self._program, self._world)
        async for chunk in stream:
            if reading.stops_after(chunk):
                break
        match reading.stopped:
            case "closed":
                await stream.aclose()
            case "kept":
                self._world.kept.append(stream)
        return reading.result()

    def _answers(self) -> Any:
        """What to resume with; `None` when nobody asks, or when it has been enough."""
        if not self._program.has_thread or self._world.kept or self._world.resumes == _MAX_RESUMES:
            return None
        asked = self._app.get_state(self._config).interrupts
        if not asked:
            return None
        self._world.resumes += 1
        self._world.happened.add("a resume")
        return Command(resume={interrupt.id: "yes" for interrupt in asked})


class _Reading:
    """What has been read of one stream."""

    def __init__(self, program: Program, world: World) -> None:
        self._mode = program.stream_mode
        self._stop = program.stop if program.stop is not None and program.stop.how != "cancel" else None
        self._world = world
        self._chunks: list[Any] = []
        self.stopped: str | None = None

    def stops_after(self, chunk: Any) -> bool:
        """Take a chunk; true when the caller reads no further."""
        if self._mode == "messages":
            message, metadata = chunk
            chunk = [message, metadata["langgraph_node"], metadata["langgraph_step"]]
        self._chunks.append(_plain(chunk))
        self._world.look_around("between two chunks")
        if self._stop is not None and len(self._chunks) == self._stop.after:
            self.stopped = self._stop.how
            self._world.happened.add(f"a stream {self.stopped}")
        return self.stopped is not None

    def result(self) -> Any:
        """What compares."""
        if self._mode == "values":
            return self._chunks
        # Threads that run in parallel stream in any order.
        return len(self._chunks) if self.stopped else sorted(map(repr, self._chunks))


async def _settle() -> None:
    """Let what was cancelled or dropped come to its end, which it cannot report when its loop is closed under it."""
    await asyncio.sleep(0)
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        done, _ = await asyncio.wait(others, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:  # LangGraph may leave a task behind that waits for the next chunk of a stream that is closed
            return


def _plain(value: Any) -> Any:
    """A value without the ids that are made up for each run."""
    if isinstance(value, BaseMessage):
        calls = [(call["name"], call["args"]) for call in getattr(value, "tool_calls", ())]
        # Where a tool is retried on its interrupt, the message quotes the interrupt.
        content = _INTERRUPT_ID.sub("id=?", value.content) if isinstance(value.content, str) else value.content
        return value.type, content, calls, getattr(value, "status", None)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "value") and hasattr(value, "id"):  # an interrupt
        return str(value.value)
    return value

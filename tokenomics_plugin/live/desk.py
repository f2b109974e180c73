"""The server's side of the analyst: passes questions on, and starts the process when there is one to ask."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tokenomics_plugin.live.exchange import Answer, Question, Settings

__all__ = ["Desk", "DeskError"]

_logger = logging.getLogger(__name__)

_PROGRAM: Final = "from tokenomics_plugin.live.analyst_process import main; main()"
_MAX_ANSWER_BYTES: Final = 64 * 2**20
_PATIENCE_S: Final = 60.0


class DeskError(Exception):
    """The analyst gave no answer."""


class Desk:
    """Asks the analyst. Lives in one event loop."""

    def __init__(self, db: Path, prices: Path | None = None) -> None:
        """Begin without a process.

        Args:
            db: The store.
            prices: Price book, TOML; `None` for list prices.
        """
        self._settings = Settings.of(db, prices)
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    async def ask(
        self, view: str, *, subject: str = "", parameters: Mapping[str, str] | None = None, is_json: bool = False
    ) -> Answer:
        """The answer to a question.

        Raises:
            DeskError: If the process died over it, or took a minute.
        """
        question = Question(
            number=next(self._numbers), view=view, subject=subject, parameters=parameters or {}, is_json=is_json
        )
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[question.number] = answer
        try:
            await self._send(question)
            async with asyncio.timeout(_PATIENCE_S):
                return await answer
        except TimeoutError as error:
            raise DeskError(f"no answer within {_PATIENCE_S:.0f} s") from error
        finally:
            self._waiting.pop(question.number, None)

    async def close(self) -> None:
        """End the process, and whoever still waits for it."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._listening is not None:
            await self._listening

    async def _send(self, question: Question) -> None:
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                self._process = await self._start()
                self._listening = asyncio.create_task(self._listen(self._process))
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(question.line().encode())
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise DeskError("the analyst's process ended") from error

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _PROGRAM,
            self._settings.line(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_MAX_ANSWER_BYTES,
            # A session of its own: Ctrl-C is meant for the collector. Thread pools of BLAS would spin beside it.
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            answer = Answer(**json.loads(line))
            waiting = self._waiting.get(answer.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)
        status = await process.wait()
        _logger.info("the analyst's process ended with status %s", status)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(DeskError("the analyst's process ended"))

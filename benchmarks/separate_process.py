"""Measurements in processes of their own, which no other has warmed up, and whose memory no other has filled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

__all__ = ["AnsweringProcess", "measured_apart"]

_NO_VARIABLES: Mapping[str, str] = {}


def measured_apart(module: str, *arguments: object, variables: Mapping[str, str] = _NO_VARIABLES) -> dict[str, Any]:
    """Run a module of this folder; its last line of output is one JSON object, which is returned.

    Raises:
        RuntimeError: If it fails, with what it wrote to stderr.
    """
    ran = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, **variables},
    )
    if ran.returncode:
        raise RuntimeError(f"{module} {' '.join(map(str, arguments))}: {ran.stderr}")
    measured: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return measured


class AnsweringProcess:
    """A process that answers one request at a time, each a line of JSON.

    Args:
        name: What it measures.
        command: What it runs.
        environment: All its variables.
    """

    def __init__(self, name: str, command: Sequence[str], *, environment: Mapping[str, str]) -> None:
        self._name = name
        self._log = TemporaryFile("w+", encoding="utf-8")  # closed with the process  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
        )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def read(self) -> dict[str, Any]:
        """Its next answer; the first one says that it is ready.

        Raises:
            RuntimeError: If it has ended, with what it last wrote to stderr.
        """
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = self._process.wait()
        self._log.seek(0)
        raise RuntimeError(f"{self._name} ended with status {status}:\n{self._log.read()[-2_000:]}")

    def ask(self, request: object) -> dict[str, Any]:
        """What it answers to a request; errors are those of `read`."""
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self.read()

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

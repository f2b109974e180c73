"""OpenVINO and llama.cpp beside the caches of transformers: the same model, in a process and with packages of its own.

Each keeps keys and values in its own formats, in 4 bits at the least. A process builds the model, says how far its
logits are from transformers', fills its cache with random tokens and then takes one step for each line that it reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

from kv_speed.clock import Taken
from peer_packages import PeerPackages

__all__ = ["RUNTIMES", "Runtime", "RuntimeProcess"]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Another runtime of language models."""

    name: str
    packages: PeerPackages
    module: str
    """The program that runs it, of this folder."""
    longest: Mapping[str, int]
    """Tokens of all sequences that each of its cache's formats is measured to: filling takes minutes beyond."""
    largest_batch: int = 8

    def formats(self, *, batch: int, context: int) -> Iterator[str]:
        """Those that are measured with so many sequences of so many tokens."""
        if batch <= self.largest_batch:
            yield from (name for name, most in self.longest.items() if batch * context <= most)


RUNTIMES: Final = (
    Runtime(
        name="OpenVINO",
        packages=PeerPackages(name="openvino", requirements=("openvino==2026.4.1", "openvino-telemetry==2025.2.0")),
        module="kv_speed.run_openvino",
        longest={"f16": 16384, "u8": 16384, "u4": 16384},
    ),
    Runtime(
        name="llama.cpp",
        packages=PeerPackages(
            name="llama_cpp",
            requirements=("llama-cpp-python==0.3.36", "diskcache==5.6.3"),
            variables={"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"},
        ),
        module="kv_speed.run_llama",
        longest={"f16": 16384, "q8_0": 4096, "q4_0": 4096},
        largest_batch=1,
    ),
)


@dataclass
class RuntimeProcess:
    """One runtime with one format of its cache, filled, which steps when it is asked to.

    Raises:
        RuntimeError: If it ends, with what it last wrote to stderr.
    """

    runtime: Runtime
    kept_as: str
    """One of the runtime's formats."""
    batch: int
    context: int
    threads: int
    folder: Path
    """Of the runtime's packages."""
    ready: dict[str, Any] = field(init=False)
    """`bytes`, None if it does not tell, and `logits_off`, the greatest difference from transformers' logits."""

    def __post_init__(self) -> None:
        with ExitStack() as stack:
            self._log: IO[str] = stack.enter_context(TemporaryFile("w+", encoding="utf-8"))
            sizes = map(str, (self.kept_as, self.batch, self.context, self.threads))
            paths = filter(None, [str(self.folder), os.environ.get("PYTHONPATH")])
            self._process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", self.runtime.module, *sizes],
                    cwd=Path(__file__).parents[1],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    text=True,
                    encoding="utf-8",
                )
            )
            stack.callback(self._process.kill)
            self.ready = self._read()
            self._stack = stack.pop_all()

    def step(self) -> Taken:
        """One token a sequence, and what it took there."""
        assert self._process.stdin is not None
        print("step", file=self._process.stdin, flush=True)
        return Taken(**self._read())

    def close(self) -> None:
        """End it."""
        self._stack.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = self._process.wait()
        self._log.seek(0)
        raise RuntimeError(f"{self.runtime.name} {self.kept_as} ended with status {status}: {self._log.read()[-500:]}")

"""OpenVINO and llama.cpp beside the caches of transformers: the same model, in a process and with packages of its own.

Each keeps keys and values in its own formats, in 4 bits at the least. A process builds the model, says how far its
logits are from transformers', fills its cache with random tokens and then takes one step for each line that it reads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kv_speed.clock import Taken
from peer_packages import PeerPackages, environment_with
from separate_process import AnsweringProcess

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


class RuntimeProcess:
    """One runtime with one format of its cache, filled, which steps when it is asked to.

    Args:
        kept_as: One of the runtime's formats.
        batch: Sequences.
        context: Tokens of each.
        threads: Of the runtime.
        folder: Of the runtime's packages.

    Raises:
        RuntimeError: If it ends before it is ready, with what it last wrote to stderr.
    """

    def __init__(self, runtime: Runtime, kept_as: str, *, batch: int, context: int, threads: int, folder: Path) -> None:
        self.name = f"{runtime.name} {kept_as}"
        self._process = AnsweringProcess(
            self.name,
            [sys.executable, "-m", runtime.module, kept_as, *map(str, (batch, context, threads))],
            environment=environment_with(folder),
        )
        try:
            # Its bytes, None if it does not tell, and how far its logits are from transformers' at most.
            self.ready = self._process.read()
        except RuntimeError:
            self.close()
            raise

    def step(self) -> Taken:
        """One token a sequence, and what it took there."""
        return Taken(**self._process.ask("step"))

    def close(self) -> None:
        """End it."""
        self._process.stop()

"""The tracers that `tracing.py` compares, the environments they live in, and the processes they run in."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from peer_packages import FOLDERS
from separate_process import AnsweringProcess

__all__ = [
    "OURS",
    "PEERS",
    "STACK",
    "Configuration",
    "Load",
    "Peer",
    "WorkerProcess",
    "our_configurations",
    "peer_configurations",
    "peer_python",
    "untraced",
]

OURS = "tokenomics"
STACK = ("langchain", "langchain-core", "langgraph", "opentelemetry-sdk")
WORKER = Path(__file__).with_name("tracing_worker.py")
# What tracers read of the environment; the benchmark alone sets them up.
VARIABLES = ("OTEL_", "LANGFUSE_", "LANGSMITH_", "LANGCHAIN_", "TRACELOOP_", "OPENINFERENCE_")
# No tracer may look cheap because its spans did not fit in the queue.
QUEUE = {"OTEL_BSP_MAX_QUEUE_SIZE": "65536"}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another tracer of LangChain."""

    name: str
    package: str
    version: str
    has_content_by_default: bool = True


PEERS = (
    Peer(
        name="otel",
        package="opentelemetry-instrumentation-genai-langchain",
        version="1.3b0",
        has_content_by_default=False,
    ),
    Peer(name="openinference", package="openinference-instrumentation-langchain", version="0.1.80"),
    Peer(name="openllmetry", package="opentelemetry-instrumentation-langchain", version="0.62.4"),
    Peer(name="langfuse", package="langfuse", version="5.0.4"),
)


@dataclass(frozen=True, kw_only=True)
class Load:
    """A program of a size, and how often it is called for one sample."""

    program: str
    size: int
    calls: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.program}, {self.size} {'nodes' if self.program == 'graph' else 'turns'}"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A tracer, how it is set, and where it lives."""

    name: str
    home: str
    """Its environment, by the name of the tracer that it was made for."""
    tracer: str
    arguments: tuple[str, ...] = ()
    """Of the worker."""
    is_usual: bool = True
    """Whether this is how the tracer is meant to be used; other settings run less."""
    is_sampled: bool = True

    def can_trace(self, load: Load) -> bool:
        """Whether a program can carry the tracer: a middleware needs an agent, `trace_graph` a graph."""
        return {"middleware": load.program != "graph", "trace_graph": load.program == "graph"}.get(self.tracer, True)


def untraced(home: str) -> Configuration:
    """No tracer, in the environment of one: what memory does by itself."""
    return Configuration(name=f"no tracer ({home})", home=home, tracer="none")


def our_configurations() -> Iterator[Configuration]:
    """Our ways in, and other settings of the first; all without content, if they do not say so."""
    for way in ("handler", "middleware", "instrumentor", "trace_graph"):
        yield Configuration(name=f"{OURS} {way}", home=OURS, tracer=way, arguments=("--content", "off"))
    variant = partial(Configuration, home=OURS, tracer="handler", is_usual=False)
    yield variant(name=f"{OURS} handler, content", arguments=("--content", "on"))
    yield variant(name=f"{OURS} handler, metrics", arguments=("--content", "off", "--metrics"))
    yield variant(name=f"{OURS} handler, unsampled", arguments=("--content", "off", "--unsampled"), is_sampled=False)


def peer_configurations(peer: Peer) -> Iterator[Configuration]:
    """A peer as it comes, with content switched the other way, and unsampled."""
    yield Configuration(name=peer.name, home=peer.name, tracer=peer.name)
    setting, switch = ("no content", "off") if peer.has_content_by_default else ("content", "on")
    variant = partial(Configuration, home=peer.name, tracer=peer.name, is_usual=False)
    yield variant(name=f"{peer.name}, {setting}", arguments=("--content", switch))
    yield variant(name=f"{peer.name}, unsampled", arguments=("--unsampled",), is_sampled=False)


def peer_python(peer: Peer) -> str:
    """The interpreter of a peer's environment, which is made if it does not exist or has become another one."""
    folder = FOLDERS / peer.name
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = [
        f"{peer.package}=={peer.version}",
        *(f"{package}=={importlib.metadata.version(package)}" for package in STACK),
    ]
    if stamp.exists() and stamp.read_text(encoding="utf-8").split() == wanted:
        return str(python)
    print(f"installing {peer.package} into {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    # A peer that forces another stack is measured on that one, against the untraced program there.
    for requirements in (wanted, [wanted[0], *STACK], [peer.package, *STACK]):
        command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            stamp.write_text("\n".join(wanted), encoding="utf-8")
            return str(python)
    raise SystemExit(f"{peer.package} could not be installed; choose other tracers with --peers.\n{done.stderr}")


class WorkerProcess:
    """The process of a configuration.

    Args:
        python: The interpreter of the configuration's environment.
        package: The tracer's package, to tell its version.
    """

    def __init__(self, configuration: Configuration, *, python: str, package: str) -> None:
        self.configuration = configuration
        environment = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLES)}
        self._process = AnsweringProcess(
            configuration.name,
            [python, str(WORKER), configuration.tracer, "--package", package, *configuration.arguments],
            environment=environment | QUEUE,
        )
        self.read, self.stop = self._process.read, self._process.stop

    def ask(self, load: Load, *, compare: bool = False) -> dict[str, Any]:
        """Have it call a program, and tell what that left behind, or what it took with the tracer and without."""
        return self._process.ask({"program": load.program, "size": load.size, "calls": load.calls, "compare": compare})

    def rss_bytes(self) -> int:
        """Its resident memory."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

"""A process in which one tracer traces the programs, for `tracing.py`.

It reads requests from stdin, `{"program": ..., "size": ..., "calls": ...}` a line, and answers each with one
line of JSON on stdout. It runs in the environment of its tracer, so it imports only what all of them have.

What a tracer adds is the difference to calls without it in this very process, one of the one kind after one of the
other: two processes of one program differ by a tenth and more all their life, by where their code and data happen to
lie.

Every tracer's spans take the way that they take in production, through a batch processor, to an exporter that
drops them. The batches are flushed while the clock runs: what a tracer leaves to a thread is paid for as well.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.callbacks import BaseCallbackManager
from langgraph.pregel import Pregel
from langgraph.types import Command
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from tracing_program import PROGRAMS, Program, Wiring

# Where an instrumentor puts itself that cannot undo it.
PATCHED: tuple[type, ...] = (BaseCallbackManager, Pregel, Command, AgentMiddleware)
STACK = ("langchain", "langchain-core", "langgraph", "opentelemetry-sdk")


class DroppingExporter(SpanExporter):
    """Drops every span; counts them, and weighs them when asked to, because that takes time."""

    def __init__(self) -> None:
        self.spans = 0
        self.bytes: int | None = None
        """Bytes of attribute names and values, as text; None while nobody asks."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop them."""
        self.spans += len(spans)
        if self.bytes is not None:
            self.bytes += sum(map(attribute_bytes, spans))
        return SpanExportResult.SUCCESS


class OpenSpans(SpanProcessor):
    """Which spans have started and not ended."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.names[span.context.span_id] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None:
            self.names.pop(span.context.span_id, None)


@dataclass(frozen=True, kw_only=True)
class Tracer:
    """A tracer at work."""

    wiring: Wiring
    open_runs: Callable[[], int | None] = lambda: None
    """How many runs it keeps; None where it does not say."""
    switch_off: Callable[[], object] = lambda: None
    """Has it leave alone what is wired to nothing."""
    switch_on: Callable[[], object] = lambda: None
    """Undoes that."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a tracer is set to."""

    provider: TracerProvider
    exporter: DroppingExporter
    content: bool | None
    """Whether it captures content; None leaves it at its default."""
    metrics: bool


# How each tracer is switched on. Peers as their own documentation says.


def no_tracer(setting: Setting) -> Tracer:
    return Tracer(wiring=Wiring())


def tokenomics_handler(setting: Setting) -> Tracer:
    handler = _our_handler(setting)
    return Tracer(wiring=Wiring(callbacks=[handler]), open_runs=lambda: handler.open_runs)


def tokenomics_middleware(setting: Setting) -> Tracer:
    from tokenomics_langchain import TokenomicsMiddleware

    handler = _our_handler(setting)
    # It listens to the whole process for as long as it lives, so it must not live while others are measured.
    middleware = [TokenomicsMiddleware(handler=handler)]
    return Tracer(
        wiring=Wiring(middleware=middleware),
        open_runs=lambda: handler.open_runs,
        switch_off=middleware.clear,
        switch_on=lambda: middleware.append(TokenomicsMiddleware(handler=handler)),
    )


def tokenomics_graph(setting: Setting) -> Tracer:
    from tokenomics_langchain import trace_graph

    handler = _our_handler(setting)
    wiring = Wiring(prepare=lambda builder: trace_graph(builder, handler=handler))
    return Tracer(wiring=wiring, open_runs=lambda: handler.open_runs)


def tokenomics_instrumentor(setting: Setting) -> Tracer:
    from tokenomics_langchain import LangChainInstrumentor

    handler, instrumentor = _our_handler(setting), LangChainInstrumentor()
    instrumentor.instrument(handler=handler)
    return Tracer(
        wiring=Wiring(),
        open_runs=lambda: handler.open_runs,
        switch_off=instrumentor.uninstrument,
        switch_on=lambda: instrumentor.instrument(handler=handler),
    )


def otel_genai(setting: Setting) -> Tracer:
    captured = "SPAN_ONLY" if setting.content else "NO_CONTENT"
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = captured
    return _instrument("opentelemetry.instrumentation.genai.langchain", "LangChainInstrumentor", setting)


def openinference(setting: Setting) -> Tracer:
    if setting.content is False:
        os.environ.update(OPENINFERENCE_HIDE_INPUTS="true", OPENINFERENCE_HIDE_OUTPUTS="true")
    return _instrument("openinference.instrumentation.langchain", "LangChainInstrumentor", setting)


def openllmetry(setting: Setting) -> Tracer:
    if setting.content is False:
        os.environ["TRACELOOP_TRACE_CONTENT"] = "false"
    return _patch("opentelemetry.instrumentation.langchain", "LangchainInstrumentor", setting)


def langfuse(setting: Setting) -> Tracer:
    keys = {"public_key": "pk", "secret_key": "sk", "base_url": "http://localhost:9"}
    mask = _drop_content if setting.content is False else None
    client = importlib.import_module("langfuse").Langfuse
    client(**keys, tracer_provider=setting.provider, span_exporter=setting.exporter, mask=mask)
    handler = importlib.import_module("langfuse.langchain").CallbackHandler(public_key="pk")
    return Tracer(wiring=Wiring(callbacks=[handler]))


TRACERS = {
    "none": no_tracer,
    "handler": tokenomics_handler,
    "middleware": tokenomics_middleware,
    "trace_graph": tokenomics_graph,
    "instrumentor": tokenomics_instrumentor,
    "otel": otel_genai,
    "openinference": openinference,
    "openllmetry": openllmetry,
    "langfuse": langfuse,
}


def _our_handler(setting: Setting) -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from tokenomics_langchain import TokenomicsCallbackHandler

    meters = MeterProvider([InMemoryMetricReader()]) if setting.metrics else None
    return TokenomicsCallbackHandler(setting.provider, capture_content=setting.content, meter_provider=meters)


def _instrument(module: str, name: str, setting: Setting) -> Tracer:
    instrumentor = getattr(importlib.import_module(module), name)()
    instrument = partial(instrumentor.instrument, tracer_provider=setting.provider)
    instrument()
    return Tracer(wiring=Wiring(), switch_off=instrumentor.uninstrument, switch_on=instrument)


def _patch(module: str, name: str, setting: Setting) -> Tracer:
    """The same for an instrumentor that cannot undo what it did: its patches are taken out and put in by hand."""
    before = {kind: dict(vars(kind)) for kind in PATCHED}
    getattr(importlib.import_module(module), name)().instrument(tracer_provider=setting.provider)
    patches = [
        (kind, name, original, vars(kind)[name])
        for kind, attributes in before.items()
        for name, original in attributes.items()
        if vars(kind)[name] is not original
    ]

    def switch_off() -> None:
        for kind, name, original, _ in patches:
            setattr(kind, name, original)

    def switch_on() -> None:
        for kind, name, _, patch in patches:
            setattr(kind, name, patch)

    return Tracer(wiring=Wiring(), switch_off=switch_off, switch_on=switch_on)


def _drop_content(*, data: Any, **_: Any) -> None:
    """A mask of Langfuse's that leaves nothing."""


# What is measured


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Answers requests about one tracer."""

    tracer: Tracer
    setting: Setting
    open_spans: OpenSpans
    runner: asyncio.Runner

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call a program so often, and tell what that took or what it left behind."""
        name, size, calls = request["program"], request["size"], request["calls"]
        return self._compare(name, size, calls) if request["compare"] else self._weigh(name, size, calls)

    def _compare(self, name: str, size: int, calls: int) -> dict[str, Any]:
        traced_s, untraced_s = [], []
        traced_result = untraced_result = ""
        for _ in range(calls):
            self.tracer.switch_off()
            seconds, untraced_result = self._call_untraced(PROGRAMS[name](size, Wiring(), self.runner))
            untraced_s.append(seconds)
            self.tracer.switch_on()
            program = PROGRAMS[name](size, self.tracer.wiring, self.runner)
            gc.collect()
            seconds, traced_result = self._call(program)
            traced_s.append(seconds)
            del program
        return {
            "traced_s": traced_s,
            "untraced_s": untraced_s,
            "returns_otherwise": traced_result != untraced_result,
        }

    def _weigh(self, name: str, size: int, calls: int) -> dict[str, Any]:
        program, exporter = PROGRAMS[name](size, self.tracer.wiring, self.runner), self.setting.exporter
        exporter.spans, exporter.bytes = 0, 0
        for _ in range(calls):
            self._call(program)
        runs = calls * program.runs
        gc.collect()
        return {
            "spans_a_run": exporter.spans / runs,
            "bytes_a_run": exporter.bytes / runs,
            "open_spans": len(self.open_spans.names),
            "open_runs": self.tracer.open_runs(),
            "blocks": sys.getallocatedblocks(),
        }

    def _call_untraced(self, program: Program) -> tuple[float, str]:
        exporter = self.setting.exporter
        exporter.spans, exporter.bytes = 0, None
        gc.collect()
        called = self._call(program)
        if exporter.spans:
            raise RuntimeError(f"{exporter.spans} spans of a program that should not be traced")
        return called

    def _call(self, program: Program) -> tuple[float, str]:
        """CPU seconds of a run, and a digest of what the program returned."""
        start = time.process_time()
        result = program.call()
        self.setting.provider.force_flush()
        seconds = time.process_time() - start
        return seconds / program.runs, hashlib.sha256(repr(result).encode()).hexdigest()


def attribute_bytes(span: ReadableSpan) -> int:
    """Bytes of the names and values that a span, its events and its links carry."""
    bearers: list[Any] = [span, *span.events, *span.links]
    pairs = [pair for bearer in bearers for pair in (bearer.attributes or {}).items()]
    return sum(len(name.encode()) + len(str(value).encode()) for name, value in pairs)


def start(arguments: argparse.Namespace, runner: asyncio.Runner) -> Worker:
    exporter, open_spans = DroppingExporter(), OpenSpans()
    provider = TracerProvider(sampler=ALWAYS_OFF if arguments.unsampled else ALWAYS_ON)
    provider.add_span_processor(open_spans)
    if arguments.tracer != "langfuse":  # brings a batch processor of its own
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    content = {"on": True, "off": False, None: None}[arguments.content]
    setting = Setting(provider=provider, exporter=exporter, content=content, metrics=arguments.metrics)
    return Worker(tracer=TRACERS[arguments.tracer](setting), setting=setting, open_spans=open_spans, runner=runner)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracer", choices=TRACERS)
    parser.add_argument("--content", choices=("on", "off"), help="capture content (default: what the tracer does)")
    parser.add_argument("--unsampled", action="store_true", help="sample no trace")
    parser.add_argument("--metrics", action="store_true", help="record metrics as well")
    parser.add_argument("--package", required=True, help="the tracer's package, to tell its version")
    arguments = parser.parse_args()

    # Stdout is for answers alone: what a tracer prints goes to stderr.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with asyncio.Runner() as runner:
        worker = start(arguments, runner)
        versions = {package: importlib.metadata.version(package) for package in (*STACK, arguments.package)}
        print(json.dumps(versions), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(worker.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""What the callback handler costs the traced program, in CPU time.

Three programs on models that answer at once, so that nothing but the frameworks' own work is measured: an
agent that calls a tool in every turn, the same agent under asyncio, and a graph of empty nodes. Each runs with
no callback, with an empty one (what LangChain charges for any handler), and with ours: content off, content
on, and unsampled.

The configurations take turns within one process. A sample is the best of three runs, what is added is the
difference to the sample without a callback of the same round, and a figure is the median over the rounds: on a
shared machine, another process can only make a run slower. Time is CPU time. Spans go through the SDK's simple
processor to an exporter that drops them, so that each span's way out of the process falls in the run that made
it; what an exporter costs is not ours.

For scale: a hosted model takes 300 ms and more to answer, which is thousands of spans.

The table is for people; the last line of stdout is one JSON document with the same figures and the checks.
The exit status is 1 if a check does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from operator import add as concatenate
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from closing import Check, close
from tokenomics_langchain import TokenomicsCallbackHandler

GOAL_MICROSECONDS_A_SPAN = 150
TOOL_RESULT = "x" * 2_000
TURNS, STEPS = 20, 100
RUNS_A_SAMPLE = 3
TURNS_OF_GROWTH = (5, 10, 20, 40, 80)
Figures = dict[str, float]
USAGE: Any = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}


class ToolCallingModel(BaseChatModel):
    """Calls the tool in each of `turns` turns, then answers."""

    turns: int
    model: str = "toy-1"

    @property
    def _llm_type(self) -> str:
        return "benchmark"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """The script knows the tool by heart."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        turn = sum(isinstance(message, ToolMessage) for message in messages)
        call = ToolCall(name="look_up", args={"key": str(turn)}, id=f"call-{turn}")
        reply = AIMessage("" if turn < self.turns else "done", tool_calls=[call] if turn < self.turns else [])
        reply.usage_metadata = USAGE
        reply.response_metadata = {"model_name": "toy-1", "finish_reason": "stop"}
        return ChatResult(generations=[ChatGeneration(message=reply)])


@tool
def look_up(key: str) -> str:
    """Look something up."""
    return TOOL_RESULT


class State(TypedDict):
    """The steps taken so far."""

    steps: Annotated[list[int], concatenate]


class DroppingExporter(SpanExporter):
    """Drops every span."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop them."""
        return SpanExportResult.SUCCESS


class EmptyHandler(BaseCallbackHandler):
    """Listens to everything and does nothing."""

    run_inline = True


@dataclass(frozen=True, kw_only=True)
class Program:
    """Something to trace."""

    name: str
    run: Callable[[list[BaseCallbackHandler]], Any]
    """Runs it once and returns what the user would see."""
    spans: int
    """How many spans one run has."""


def agent_program(turns: int, *, name: str = "agent", use_asyncio: bool = False) -> Program:
    """An agent of `turns` turns with the tool and one without."""
    agent = create_agent(ToolCallingModel(turns=turns), [look_up], name="assistant")
    question: Any = {"messages": [("user", "look everything up")]}

    def run(callbacks: list[BaseCallbackHandler]) -> list[Any]:
        config: Any = {"callbacks": callbacks, "recursion_limit": 1_000}
        state = asyncio.run(agent.ainvoke(question, config)) if use_asyncio else agent.invoke(question, config)
        return [message.content for message in state["messages"]]

    return Program(name=name, run=run, spans=1 + 2 * (turns + 1) + 2 * turns)


def graph_program(steps: int) -> Program:
    """A graph of `steps` nodes that do next to nothing."""
    builder = StateGraph(State)
    names = [f"node {number}" for number in range(steps)]
    for number, name in enumerate(names):
        builder.add_node(name, lambda _state, number=number: {"steps": [number]})
        builder.add_edge(START if number == 0 else names[number - 1], name)
    graph = builder.compile(name="pipeline")

    def run(callbacks: list[BaseCallbackHandler]) -> Any:
        return graph.invoke({"steps": []}, {"callbacks": callbacks, "recursion_limit": steps + 1})

    return Program(name="graph", run=run, spans=1 + steps)


@contextmanager
def configurations() -> Iterator[dict[str, list[BaseCallbackHandler]]]:
    """The callbacks of each configuration; all of ours share one provider, but for the unsampled one."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(DroppingExporter()))
    yield {
        "no callback": [],
        "empty handler": [EmptyHandler()],
        "tokenomics": [TokenomicsCallbackHandler(provider, capture_content=False)],
        "tokenomics, content": [TokenomicsCallbackHandler(provider, capture_content=True)],
        "tokenomics, unsampled": [TokenomicsCallbackHandler(TracerProvider(sampler=ALWAYS_OFF), capture_content=False)],
    }
    provider.shutdown()


def cpu_seconds(program: Program, callbacks: list[BaseCallbackHandler]) -> float:
    start = time.process_time()
    program.run(callbacks)
    return time.process_time() - start


def sample(program: Program, callbacks: list[BaseCallbackHandler]) -> float:
    gc.collect()
    return min(cpu_seconds(program, callbacks) for _ in range(RUNS_A_SAMPLE))


def measure(program: Program, rounds: int) -> dict[str, Figures]:
    """CPU time of the program in each configuration."""
    with configurations() as handlers:
        samples: dict[str, list[float]] = {name: [] for name in handlers}
        for _ in range(rounds):
            # Another order every round, so that nobody always runs after the same one.
            for name in random.sample(list(handlers), len(handlers)):
                samples[name].append(sample(program, handlers[name]))
    baseline = samples["no callback"]
    return {name: figures(times, baseline, program.spans) for name, times in samples.items()}


def figures(times: list[float], baseline: list[float], spans: int) -> Figures:
    added = [1e6 * (time_s - baseline_s) / spans for time_s, baseline_s in zip(times, baseline, strict=True)]
    return {
        "cpu_ms_a_run": 1e3 * statistics.median(times),
        "ratio": statistics.median(times) / statistics.median(baseline),
        "added_us_a_span": statistics.median(added),
        "added_us_a_span_min": min(added),
        "added_us_a_span_max": max(added),
    }


def attribute_bytes(program: Program, *, capture_content: bool) -> int:
    """Bytes of attribute names and values that one run exports, as text."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    program.run([TokenomicsCallbackHandler(provider, capture_content=capture_content)])
    spans = exporter.get_finished_spans()
    if len(spans) != program.spans:
        raise RuntimeError(f"a run of {program.name} should have {program.spans} spans, got {len(spans)}")
    pairs = [pair for span in spans for pair in (span.attributes or {}).items()]
    return sum(len(name) + len(str(value)) for name, value in pairs)


def check_results(programs: list[Program]) -> bool:
    """Whether every program returns the same, whoever listens."""
    with configurations() as handlers:
        return all(program.run(callbacks) == program.run([]) for program in programs for callbacks in handlers.values())


def is_linear(sizes: list[int]) -> bool:
    """Whether bytes at most double from one size to the next, as the turns do; 5 % for longer numbers."""
    return all(later <= 2.1 * earlier for earlier, later in pairwise(sizes))


def print_table(program: str, rows: dict[str, Figures]) -> None:
    print(f"\n{program}\n{'':24}{'ms a run':>10}{'ratio':>8}{'added us a span':>18}{'min':>8}{'max':>8}")
    for name, row in rows.items():
        print(
            f"{name:24}{row['cpu_ms_a_run']:10.2f}{row['ratio']:8.2f}{row['added_us_a_span']:18.0f}"
            f"{row['added_us_a_span_min']:8.0f}{row['added_us_a_span_max']:8.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="samples of each configuration (default: %(default)s)")
    arguments = parser.parse_args()

    programs = [agent_program(TURNS), agent_program(TURNS, name="async agent", use_asyncio=True), graph_program(STEPS)]
    same = check_results(programs)
    checks = [Check(name="traced and untraced runs return the same", value=same, goal="true", holds=same)]
    cpu = {program.name: measure(program, arguments.rounds) for program in programs}
    for name, rows in cpu.items():
        print_table(name, rows)

    sizes = {
        label: [attribute_bytes(agent_program(turns), capture_content=on) for turns in TURNS_OF_GROWTH]
        for label, on in (("content off", False), ("content on", True))
    }
    print(f"\nattribute bytes a run, for {TURNS_OF_GROWTH} turns with a 2 kB result each")
    for label, row in sizes.items():
        print(f"{label:24}{row}")

    goal = f"<= {GOAL_MICROSECONDS_A_SPAN}"
    for name, rows in cpu.items():
        added = rows["tokenomics"]["added_us_a_span"]
        checks.append(Check(name=f"{name}: us a span", value=added, goal=goal, holds=added <= GOAL_MICROSECONDS_A_SPAN))
    off = sizes["content off"]
    checks.append(Check(name="bytes by turns, content off", value=off, goal="linear", holds=is_linear(off)))
    close(
        "handler",
        packages=("langchain", "langchain-core", "langgraph", "opentelemetry-sdk"),
        rounds=arguments.rounds,
        spans={program.name: program.spans for program in programs},
        figures={"cpu": cpu, "attribute_bytes": {"turns": TURNS_OF_GROWTH, **sizes}},
        checks=checks,
    )


if __name__ == "__main__":
    main()

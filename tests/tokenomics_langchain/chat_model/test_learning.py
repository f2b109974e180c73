"""What a model is fine-tuned on is, token by token, what it was served with when it did well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, before_model, wrap_model_call
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tokenomics_langchain import ChatLocalLLM, TokenomicsCallbackHandler
from tokenomics_local_llm import load_model
from tokenomics_local_llm.diffusion_blocks.cross_entropy import IGNORED
from tokenomics_local_llm.diffusion_blocks.training_text import read_rows
from tokenomics_plugin import task
from tokenomics_plugin.dataset import DatasetOptions, export_dataset
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.store import Payload, TraceStore


@tool
def price(item: Literal["pen", "lamp"], is_gift: bool) -> str:
    """Look a price up, "in dollars"."""
    return f"{item}, {is_gift}: ½"


@wrap_model_call
def must_call(request: ModelRequest, handler: Callable[[ModelRequest], Any]) -> Any:
    return handler(request.override(tool_choice="any"))


@before_model(can_jump_to=["end"])
def two_calls(state: Any, runtime: Any) -> dict[str, str] | None:
    return {"jump_to": "end"} if sum(isinstance(each, ToolMessage) for each in state["messages"]) == 2 else None


def test_each_answer_is_learned_at_the_place_where_it_was_written(
    make_tiny: Callable[..., ChatLocalLLM], tiny_folder: Path, tmp_path: Path
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    handler = TokenomicsCallbackHandler(provider, capture_content=True)
    model = make_tiny(max_tokens=400, temperature=1.0, seed=3)
    agent: Any = create_agent(model, [price], middleware=[must_call, two_calls], system_prompt="Be exact.")
    with task("t1", value=1, tracer_provider=provider, logger_provider=LoggerProvider()) as current:
        agent.invoke({"messages": [("user", "Pens?")]}, {"callbacks": [handler]})
        current.succeed()
    spans = exporter.get_finished_spans()
    with TraceStore(tmp_path / "t.duckdb") as store:
        store.load([Payload(Signal.TRACES, encode_spans(spans).SerializeToString())])

    prices = PriceBook([Price(provider="local", model="*", usd_per_hour="0.01")])  # type: ignore[arg-type]
    exported = export_dataset(tmp_path / "t.duckdb", tmp_path / "set.jsonl", prices, options=DatasetOptions(held_out=0))
    rows = read_rows(exported.train, load_model(str(tiny_folder)), length=4000)

    calls = [dict(span.attributes or {}) for span in spans if span.name.startswith("chat ")]
    assert len(calls) == 2
    learned = [place + 1 for place, target in enumerate(rows.targets[0].tolist()) if target != IGNORED]
    # A forced call ends with its last byte; what is learned ends with the token that ends an answer as well.
    expected = [
        place
        for call in calls
        for start in [int(str(call["gen_ai.usage.input_tokens"]))]
        for place in range(start, start + int(str(call["gen_ai.usage.output_tokens"])) + 1)
    ]
    assert (len(rows), learned) == (1, expected)

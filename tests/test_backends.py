"""One agent run in Arize Phoenix and in MLflow: one trace a task, and the tokens that our own store counts.

Both read the GenAI conventions and add up tokens by rules of their own, which makes them referees. The run is made
once and kept as OTLP JSON lines; the backends and our store are given those same requests.

Each backend is installed into a virtual environment of its own under `.venv-backends`, which is kept: nearly a
gigabyte of packages, some in other versions than ours. Nothing is skipped: a backend that cannot be had is a failure.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tokenomics_langchain import TokenomicsCallbackHandler
from tokenomics_plugin import record_outcome, task
from tokenomics_plugin.exporters import OtlpJsonFileSpanExporter
from tokenomics_plugin.otlp_json import parse_line
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report import summarize
from tokenomics_plugin.store import TraceStore, import_otlp_json
from tokenomics_plugin.tasks import task_attributes

# The first test of a backend also downloads and starts it: minutes, where nothing is cached.
pytestmark = [pytest.mark.backends, pytest.mark.timeout(900)]

_VENVS = Path(__file__).parents[1] / ".venv-backends"
_INSTALL_TIMEOUT_S = 600
_START_TIMEOUT_S = 120
_ARRIVAL_TIMEOUT_S = 60


# What the tasks do, and how they are judged


class MeteredModel(BaseChatModel):
    """Calls the tools of its plan in turn, then answers.

    No two calls have the same usage: one that is counted twice cannot pass for another that is left out.
    """

    plan: tuple[str, ...]
    meter: Any  # the list of all usages; pydantic would copy a list that it knows to be one

    @property
    def _llm_type(self) -> str:
        return "metered"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(**kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return super()._get_ls_params(stop=stop, **kwargs) | {"ls_provider": "toy", "ls_model_name": "toy-1"}

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        calls = [ToolCall(name=name, args={}, id=f"call-{turn}") for name in self.plan[turn : turn + 1]]
        self.meter.append(_usage(len(self.meter)))
        reply = AIMessage("", tool_calls=calls, usage_metadata=self.meter[-1])
        return ChatResult(generations=[ChatGeneration(message=reply)])


def _usage(number: int) -> Any:
    inputs, outputs = 300 + number**2, 50 + 3 * number
    return {
        "input_tokens": inputs,
        "output_tokens": outputs,
        "total_tokens": inputs + outputs,
        "input_token_details": {"cache_read": 100 + number, "cache_creation": 20},
        "output_token_details": {"reasoning": 10 + number},
    }


@tool
def look_up() -> str:
    """Look up an invoice."""
    return "42"


@tool
def pay() -> str:
    """Pay an invoice."""
    raise ConnectionError("the bank does not answer")


class Office:
    """Agents, and the one way to ask them."""

    def __init__(self, handler: TokenomicsCallbackHandler, meter: list[Any]) -> None:
        @tool
        def ask_expert() -> str:
            """Ask another agent."""
            return str(expert.invoke({"messages": [("user", "What is this?")]}))

        def agent(name: str, *plan: str) -> Any:
            return create_agent(MeteredModel(plan=plan, meter=meter), [look_up, pay, ask_expert], name=name)

        self._handler = handler
        self.clerk, self.payer = agent("clerk", "look_up", "look_up"), agent("payer", "look_up", "pay")
        self.manager, expert = agent("manager", "ask_expert", "look_up"), agent("expert", "look_up")

    def ask(self, agent: Any) -> None:
        thread = task_attributes()["tokenomics.task.id"]
        config = {"callbacks": [self._handler], "configurable": {"thread_id": thread}}
        agent.invoke({"messages": [("user", "Book this.")]}, config)


def _work(office: Office, provider: TracerProvider) -> None:
    with task("plain", tracer_provider=provider) as plain:
        office.ask(office.clerk)
        plain.succeed(score=1.0, value=3)
    with task("raises", tracer_provider=provider) as raises, suppress(ConnectionError):
        office.ask(office.payer)
    raises.fail(evidence="not paid")
    with task("revised", value=3, tracer_provider=provider) as revised:
        office.ask(office.clerk)
        revised.succeed()
        revised.fail(evidence="a second look")
    with task("agent as a tool", tracer_provider=provider) as nested:
        office.ask(office.manager)
        nested.succeed()
    with task("two runs", tracer_provider=provider) as twice, provider.get_tracer("app").start_as_current_span("both"):
        office.ask(office.clerk)
        office.ask(office.clerk)
        twice.succeed()
    with task("not judged", tracer_provider=provider):
        office.ask(office.clerk)
    provider.force_flush()
    # Judged again when its trace has long been stored.
    record_outcome("plain", "harmful", harm=9, traceparent=plain.traceparent, tracer_provider=provider)


_OUTCOMES = {
    "plain": ["harmful", "succeeded"],
    "raises": ["failed", "pending"],
    "revised": ["failed", "succeeded"],
    "agent as a tool": ["succeeded"],
    "two runs": ["succeeded"],
    "not judged": ["pending"],
}


# The run, as we count it


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Totals as the conventions have them: input includes what was cached, output what was reasoned."""

    input: int
    output: int
    cache_read: int


@dataclass(frozen=True, kw_only=True)
class Run:
    requests: list[bytes]
    """Serialized `ExportTraceServiceRequest`s, in the order in which they were exported."""
    span_count: int
    reported: Tokens
    """What the model said that it used, all calls together."""
    tokens: Mapping[str, Tokens]
    """Task -> what our report says that it used."""


def _sum(all_tokens: Iterable[Tokens]) -> Tokens:
    each = list(all_tokens)
    return Tokens(**{name: sum(getattr(one, name) for one in each) for name in ("input", "output", "cache_read")})


def _reported(usage: Any) -> Tokens:
    return Tokens(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=usage["input_token_details"]["cache_read"],
    )


def _spent(tokens: Any) -> Tokens:
    """From the disjoint classes of a report."""
    return Tokens(
        input=tokens.input + tokens.cache_write + tokens.cache_read,
        output=tokens.output + tokens.reasoning,
        cache_read=tokens.cache_read,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    path, provider = folder / "run.jsonl", TracerProvider()
    meter: list[Any] = []
    # Small batches: a trace arrives in pieces, children before their parents, as from a busy process.
    provider.add_span_processor(BatchSpanProcessor(OtlpJsonFileSpanExporter(path), max_export_batch_size=8))
    _work(Office(TokenomicsCallbackHandler(provider), meter), provider)
    provider.shutdown()
    with TraceStore(folder / "run.duckdb") as store, path.open("rb") as file:
        span_count = import_otlp_json(store, file).counts.spans
        tasks = summarize(store, PriceBook()).tasks
    assert {one.traces for one in tasks} == {1}
    return Run(
        requests=[parse_line(line)[1].SerializeToString() for line in path.read_bytes().splitlines()],
        span_count=span_count,
        reported=_sum(map(_reported, meter)),
        tokens={one.task_id: _spent(one.spend.tokens) for one in tasks},
    )


# What a backend shows, through its own API


@dataclass(frozen=True, kw_only=True)
class ShownSpan:
    kind: str
    """The backend's own word for what it is."""
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ShownTrace:
    tokens: Tokens
    has_failed: bool
    spans: Sequence[ShownSpan]

    @property
    def tasks(self) -> set[str]:
        return {span.attributes["tokenomics.task.id"] for span in self.spans}


@dataclass(frozen=True, kw_only=True)
class Backend:
    name: str
    requirement: str
    """What pip installs; the bounds are the versions that this was tried with."""
    command: tuple[str, ...]
    """Program of its virtual environment, and arguments."""
    environment: Mapping[str, str]
    """Its settings; `{port}` and `{folder}` are filled in."""
    ready: str
    """Path that answers when it is ready."""
    headers: Mapping[str, str]
    """What it wants with OTLP besides the content type."""
    traces: Callable[[str], list[ShownTrace]]
    """All its traces, from its URL."""
    total: Callable[[str], tuple[int, int]]
    """Its own sums of input and output tokens over all traces, from its URL."""
    kinds: Mapping[str, str]
    """`gen_ai.operation.name` -> how it shows such a span."""


def _phoenix_traces(url: str) -> list[ShownTrace]:
    project = f"{url}/v1/projects/default"
    spans = _json(f"{project}/spans?limit=1000")["data"]
    return [
        _phoenix_trace(trace, [span for span in spans if span["context"]["trace_id"] == trace["trace_id"]])
        for trace in _json(f"{project}/traces?limit=1000")["data"]
    ]


def _phoenix_trace(trace: Any, spans: list[Any]) -> ShownTrace:
    cache_read = "llm.token_count.prompt_details.cache_read"
    return ShownTrace(
        tokens=Tokens(
            input=trace["token_count_prompt"],
            output=trace["token_count_completion"],
            cache_read=sum(span["attributes"].get(cache_read, 0) for span in spans if span["span_kind"] == "LLM"),
        ),
        has_failed=any(span["status_code"] == "ERROR" for span in spans if span["parent_id"] is None),
        spans=[ShownSpan(kind=span["span_kind"], attributes=span["attributes"]) for span in spans],
    )


def _phoenix_total(url: str) -> tuple[int, int]:
    query = "{ projects { edges { node { tokenCountPrompt tokenCountCompletion } } } }"
    [edge] = _json(f"{url}/graphql", {"query": query})["data"]["projects"]["edges"]
    return int(edge["node"]["tokenCountPrompt"]), int(edge["node"]["tokenCountCompletion"])


def _mlflow_traces(url: str) -> list[ShownTrace]:
    where = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]
    found = _json(f"{url}/api/3.0/mlflow/traces/search", {"locations": where, "max_results": 100})
    ids = [trace["trace_id"] for trace in found.get("traces", [])]
    return [_mlflow_trace(_json(f"{url}/api/3.0/mlflow/traces/get?trace_id={id_}")["trace"]) for id_ in ids]


def _mlflow_trace(trace: Any) -> ShownTrace:
    info = trace["trace_info"]
    usage = json.loads(info.get("trace_metadata", {}).get("mlflow.trace.tokenUsage", "{}"))
    attributes = [
        {item["key"]: next(iter(item["value"].values())) for item in span["attributes"]} for span in trace["spans"]
    ]
    # MLflow takes an agent's sums for those of its calls. The conventions give an agent no sum of what caches served,
    # so the trace's misses that: what it shows of each call is added up.
    cache_reads = (table.get("gen_ai.usage.cache_read.input_tokens", 0) for table in attributes)
    return ShownTrace(
        tokens=Tokens(
            input=usage.get("input_tokens", 0),
            output=usage.get("output_tokens", 0),
            cache_read=sum(map(int, cache_reads)),
        ),
        has_failed=info["state"] == "ERROR",
        spans=[ShownSpan(kind=table.get("mlflow.spanType", "UNKNOWN"), attributes=table) for table in attributes],
    )


def _mlflow_total(url: str) -> tuple[int, int]:
    def total(metric: str) -> int:
        query = {
            "experiment_ids": ["0"],
            "view_type": "TRACES",
            "metric_name": metric,
            "aggregations": [{"aggregation_type": "SUM"}],
        }
        [point] = _json(f"{url}/api/3.0/mlflow/traces/metrics", query)["data_points"]
        return int(point["values"]["SUM"])

    return total("input_tokens"), total("output_tokens")


_BACKENDS = (
    Backend(
        name="phoenix",
        requirement="arize-phoenix>=20.20,<21",  # tried: 20.20.0, 20.26.1
        command=("phoenix", "serve"),
        environment={
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": "{port}",
            "PHOENIX_GRPC_PORT": "0",  # any free one; not used here, but cannot be turned off or kept to loopback
            "PHOENIX_WORKING_DIR": "{folder}",
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
            "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        },
        ready="/readyz",
        headers={},
        traces=_phoenix_traces,
        total=_phoenix_total,
        kinds={"chat": "LLM", "execute_tool": "TOOL", "invoke_agent": "AGENT", "record_outcome": "EVALUATOR"},
    ),
    Backend(
        name="mlflow",
        requirement="mlflow>=3.16,<4",  # tried: 3.16.0, 3.17.2
        command=("mlflow", "server"),
        environment={
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": "{port}",
            "MLFLOW_WORKERS": "1",
            "MLFLOW_BACKEND_STORE_URI": "sqlite:///{folder}/mlflow.db",
            "MLFLOW_ARTIFACTS_DESTINATION": "{folder}/artifacts",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_MODEL_CATALOG_URI": "",  # prices of models, from the network
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes
        },
        ready="/health",
        headers={"x-mlflow-experiment-id": "0"},
        traces=_mlflow_traces,
        total=_mlflow_total,
        kinds={"chat": "CHAT_MODEL", "execute_tool": "TOOL", "invoke_agent": "AGENT", "record_outcome": "EVALUATOR"},
    ),
)


# A backend, installed, started and fed


@dataclass(frozen=True, kw_only=True)
class Shown:
    backend: Backend
    traces: Sequence[ShownTrace]
    total: tuple[int, int]


@pytest.fixture(scope="module", params=_BACKENDS, ids=lambda backend: backend.name)
def shown(request: pytest.FixtureRequest, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """What a backend shows of the run."""
    backend: Backend = request.param
    programs = _install(backend)
    with _serving(backend, programs, tmp_path_factory.mktemp(backend.name)) as url:
        # All but the last twice, as from an exporter that missed the answers: nothing may count double.
        for body in (*run.requests[:-1], *run.requests):
            _send(f"{url}/v1/traces", body, {"content-type": "application/x-protobuf", **backend.headers})
        traces = _read_all(lambda: backend.traces(url), run.span_count)
        return Shown(backend=backend, traces=traces, total=backend.total(url))


def _install(backend: Backend) -> Path:
    """The folder of the backend's programs, installed unless an earlier test run did it."""
    venv, wanted = _VENVS / backend.name, f"{backend.requirement} on Python {platform.python_version()}"
    stamp = venv / "installed"
    if not (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(venv, ignore_errors=True)
        _run_installer(backend, sys.executable, "-m", "venv", venv)
        _run_installer(backend, venv / "bin" / "python", "-m", "pip", "install", "--quiet", backend.requirement)
        stamp.write_text(wanted, encoding="utf-8")
    return venv / "bin"


def _run_installer(backend: Backend, *command: str | Path) -> None:
    problem = f"{backend.requirement} could not be installed"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{problem} within {_INSTALL_TIMEOUT_S} s", pytrace=False)
    if done.returncode:
        pytest.fail(f"{problem}:\n{(done.stdout + done.stderr)[-3000:]}", pytrace=False)


@contextmanager
def _serving(backend: Backend, programs: Path, folder: Path) -> Iterator[str]:
    port, log = _free_port(), folder / "server.log"
    own = {name: value.format(port=port, folder=folder) for name, value in backend.environment.items()}
    foreign = ("PHOENIX_", "MLFLOW_", "OTEL_")  # settings of whoever runs the tests
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    program, *arguments = backend.command
    with log.open("wb") as output:
        server = subprocess.Popen(
            [programs / program, *arguments],
            cwd=folder,
            env={**inherited, "HOME": str(folder), **own},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(backend, server, url + backend.ready, log)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # its children too; the data is not needed any more
        server.wait()


def _free_port() -> int:
    # Below the ephemeral range: until the server binds it, in some seconds, any connection could take one of those.
    for port in random.sample(range(20_000, 32_000), k=100):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("none of 100 ports between 20000 and 32000 is free on 127.0.0.1")


def _wait_until_ready(backend: Backend, server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            _send(url)
            return
        time.sleep(0.5)
    why = f"did not answer within {_START_TIMEOUT_S} s" if server.returncode is None else "ended"
    tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
    pytest.fail(f"{backend.requirement} {why}:\n{tail}", pytrace=False)


def _read_all(read: Callable[[], list[ShownTrace]], span_count: int) -> list[ShownTrace]:
    """The traces once all spans are there: Phoenix answers an export before it stores it."""
    deadline = time.monotonic() + _ARRIVAL_TIMEOUT_S
    while True:
        traces = read()
        arrived = sum(len(trace.spans) for trace in traces)
        if arrived >= span_count:
            return traces
        if time.monotonic() > deadline:
            pytest.fail(f"{arrived} of {span_count} spans have arrived after {_ARRIVAL_TIMEOUT_S} s", pytrace=False)
        time.sleep(0.5)


def _json(url: str, query: Mapping[str, Any] | None = None) -> Any:
    body = None if query is None else json.dumps(query).encode()
    return json.loads(_send(url, body, {"content-type": "application/json"}))


def _send(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the address is loopback
    with direct.open(urllib.request.Request(url, data=body, headers=dict(headers or {})), timeout=30) as answer:
        received: bytes = answer.read()
        return received


# The tests


def test_our_report_counts_what_the_model_reported(run: Run) -> None:
    assert _sum(run.tokens.values()) == run.reported


def test_each_task_is_one_trace(shown: Shown) -> None:
    assert sorted(sorted(trace.tasks) for trace in shown.traces) == sorted([name] for name in _OUTCOMES)


def test_tokens_of_each_task_are_ours(shown: Shown, run: Run) -> None:
    assert {name: trace.tokens for trace in shown.traces for name in trace.tasks} == run.tokens


def test_sums_over_all_tasks_are_what_the_model_reported(shown: Shown, run: Run) -> None:
    assert shown.total == (run.reported.input, run.reported.output)


def test_each_span_is_shown_once(shown: Shown, run: Run) -> None:
    assert sum(len(trace.spans) for trace in shown.traces) == run.span_count


def test_outcomes_are_inside_the_trace_that_they_judge(shown: Shown) -> None:
    statuses = {
        name: sorted(
            span.attributes["tokenomics.outcome.status"]
            for span in trace.spans
            if span.attributes.get("gen_ai.operation.name") == "record_outcome"
        )
        for trace in shown.traces
        for name in trace.tasks
    }
    assert statuses == _OUTCOMES


def test_model_calls_tools_agents_and_outcomes_are_shown_as_such(shown: Shown) -> None:
    spans = [span for trace in shown.traces for span in trace.spans]
    kinds = {(span.attributes.get("gen_ai.operation.name"), span.kind) for span in spans}
    assert {pair for pair in kinds if pair[0] in shown.backend.kinds} == set(shown.backend.kinds.items())


def test_only_the_trace_of_the_task_that_raised_is_shown_as_failed(shown: Shown) -> None:
    assert [trace.tasks for trace in shown.traces if trace.has_failed] == [{"raises"}]

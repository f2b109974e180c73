from __future__ import annotations

import gc
import logging
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, Sum
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import set_span_in_context

from tokenomics_langchain.metrics import CallMetrics, MetricsGeneration, metrics_of
from tokenomics_plugin import semconv
from tokenomics_plugin.usage import ZERO, TokenUsage
from tokenomics_plugin.version import package_version

VARIABLE = "TOKENOMICS_METRICS_GENERATION"
CALL_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
AGENT_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
WORKFLOW_SECONDS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
CALLS = (1, 2, 4, 8, 16, 32, 64, 128)

INFERENCE = "gen_ai.client.inference"
OPERATION = "gen_ai.client.operation"
CURRENT_HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    f"{INFERENCE}.duration": ("s", CALL_SECONDS),
    f"{INFERENCE}.time_to_first_chunk": ("s", CALL_SECONDS),
    f"{INFERENCE}.time_per_output_chunk": ("s", CALL_SECONDS),
    f"{INFERENCE}.operation.input_tokens": ("{token}", TOKENS),
    f"{INFERENCE}.operation.output_tokens": ("{token}", TOKENS),
}
PREVIOUS_HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    f"{OPERATION}.duration": ("s", CALL_SECONDS),
    f"{OPERATION}.time_to_first_chunk": ("s", CALL_SECONDS),
    f"{OPERATION}.time_per_output_chunk": ("s", CALL_SECONDS),
    "gen_ai.client.token.usage": ("{token}", TOKENS),
}
COMMON_HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    "gen_ai.execute_tool.duration": ("s", CALL_SECONDS),
    "gen_ai.invoke_agent.duration": ("s", AGENT_SECONDS),
    "gen_ai.invoke_agent.inference_calls": ("{inference_call}", CALLS),
    "gen_ai.invoke_agent.tool_calls": ("{tool_call}", CALLS),
    "gen_ai.invoke_workflow.duration": ("s", WORKFLOW_SECONDS),
}
COUNTERS = {
    f"{INFERENCE}.usage.input_tokens": "input_tokens",
    f"{INFERENCE}.usage.output_tokens": "output_tokens",
    f"{INFERENCE}.usage.cache_read.input_tokens": "cache_read_tokens",
    f"{INFERENCE}.usage.cache_write.input_tokens": "cache_write_tokens",
    f"{INFERENCE}.usage.reasoning.output_tokens": "reasoning_tokens",
}

SPAN: dict[str, Any] = {
    semconv.GEN_AI_OPERATION_NAME: "chat",
    semconv.GEN_AI_PROVIDER_NAME: "openai",
    semconv.GEN_AI_REQUEST_MODEL: "toy-1",
    semconv.GEN_AI_RESPONSE_MODEL: "toy-1-2026",
    semconv.SERVER_ADDRESS: "api.example.com",
    semconv.SERVER_PORT: 8443,
    semconv.GEN_AI_RESPONSE_ID: "resp-1",
    semconv.GEN_AI_REQUEST_TEMPERATURE: 0.5,
    semconv.GEN_AI_RESPONSE_FINISH_REASONS: ("stop",),
    semconv.GEN_AI_CONVERSATION_ID: "thread-1",
    semconv.TASK_ID: "ticket-1",
}
DIMENSIONS = {
    semconv.GEN_AI_OPERATION_NAME: "chat",
    semconv.GEN_AI_PROVIDER_NAME: "openai",
    semconv.GEN_AI_REQUEST_MODEL: "toy-1",
    semconv.GEN_AI_RESPONSE_MODEL: "toy-1-2026",
    semconv.SERVER_ADDRESS: "api.example.com",
    semconv.SERVER_PORT: 8443,
}
USAGE = TokenUsage.from_inclusive(
    input_tokens=100, output_tokens=20, cache_read_tokens=30, cache_write_tokens=10, reasoning_tokens=5
)

Collect = Callable[[], dict[str, Metric]]
Make = Callable[[MetricsGeneration], CallMetrics]


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@pytest.fixture
def make(provider: MeterProvider) -> Make:
    """Makes the metrics of a generation."""
    return lambda generation: CallMetrics(provider, generation)


@pytest.fixture
def current(make: Make) -> CallMetrics:
    return make(MetricsGeneration.CURRENT)


@pytest.fixture
def collect(reader: InMemoryMetricReader) -> Collect:
    """The metrics so far, by name."""
    return lambda: collected(reader)


def collected(reader: InMemoryMetricReader) -> dict[str, Metric]:
    data: Any = reader.get_metrics_data()
    scopes = [] if data is None else [s for resource in data.resource_metrics for s in resource.scope_metrics]
    return {metric.name: metric for scope in scopes for metric in scope.metrics}


def points(metric: Metric) -> list[Any]:
    return list(metric.data.data_points)


def point(metric: Metric) -> Any:
    (only,) = points(metric)
    return only


def record_everything(metrics: CallMetrics) -> None:
    record_call(metrics, usage=USAGE, time_to_first_chunk_s=0.25, chunk_gaps_s=[0.5, 0.125])
    metrics.tool(name="add", agent_name="adder", duration_s=1.0)
    metrics.agent(name="adder", duration_s=2.0, inference_calls=2, tool_calls=1)
    metrics.workflow(name="sums", duration_s=3.0)


def record_call(metrics: CallMetrics, **changes: Any) -> None:
    call: dict[str, Any] = {"operation": "chat", "attributes": SPAN, "usage": None, "duration_s": 1.5}
    metrics.inference(**call | changes)


# Instruments


@pytest.mark.parametrize(
    ("generation", "histograms", "counters"),
    [
        pytest.param(MetricsGeneration.CURRENT, CURRENT_HISTOGRAMS, set(COUNTERS), id="current"),
        pytest.param(MetricsGeneration.PREVIOUS, PREVIOUS_HISTOGRAMS, set(), id="previous"),
        pytest.param(MetricsGeneration.BOTH, CURRENT_HISTOGRAMS | PREVIOUS_HISTOGRAMS, set(COUNTERS), id="both"),
    ],
)
def test_a_generation_has_its_instruments_units_and_buckets(
    make: Make,
    collect: Collect,
    generation: MetricsGeneration,
    histograms: dict[str, tuple[str, Sequence[float]]],
    counters: set[str],
) -> None:
    record_everything(make(generation))

    found = collect()
    of_counters = {name: metric for name, metric in found.items() if isinstance(metric.data, Sum)}
    assert set(of_counters) == counters
    assert all(m.unit == "{token}" and m.data.is_monotonic for m in of_counters.values() if isinstance(m.data, Sum))
    of_histograms = {
        name: (metric.unit, points(metric)[0].explicit_bounds)
        for name, metric in found.items()
        if name not in of_counters
    }
    assert of_histograms == histograms | COMMON_HISTOGRAMS
    assert all(metric.description for metric in found.values())


def test_the_scope_says_who_measured_and_by_which_conventions(reader: InMemoryMetricReader, make: Make) -> None:
    record_everything(make(MetricsGeneration.CURRENT))

    data: Any = reader.get_metrics_data()
    (scope,) = data.resource_metrics[0].scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("tokenomics_langchain", package_version() or "")
    assert scope.scope.schema_url == semconv.SCHEMA_URL


# Model calls


def test_a_call_is_split_by_model_and_server_and_by_no_id(current: CallMetrics, collect: Collect) -> None:
    record_everything(current)

    found = collect()
    for name in CURRENT_HISTOGRAMS:
        assert point(found[name]).attributes == DIMENSIONS, name
    for name in COUNTERS:
        assert point(found[name]).attributes == DIMENSIONS | {"gen_ai.token.modality": "unknown"}, name


def test_only_the_duration_of_a_failed_call_is_split_by_its_error(current: CallMetrics, collect: Collect) -> None:
    failed = SPAN | {semconv.ERROR_TYPE: "TimeoutError"}
    record_call(current, attributes=failed, usage=USAGE, time_to_first_chunk_s=0.5, chunk_gaps_s=[0.25])

    found = collect()
    assert point(found[f"{INFERENCE}.duration"]).attributes == DIMENSIONS | {"error.type": "TimeoutError"}
    assert {name for name, metric in found.items() if "error.type" in points(metric)[0].attributes} == {
        f"{INFERENCE}.duration"
    }


def test_what_a_span_does_not_say_splits_nothing(current: CallMetrics, collect: Collect) -> None:
    record_call(current, operation="text_completion", attributes={})

    assert point(collect()[f"{INFERENCE}.duration"]).attributes == {"gen_ai.operation.name": "text_completion"}


def test_calls_of_different_models_are_kept_apart(current: CallMetrics, collect: Collect) -> None:
    for model in ("toy-1", "toy-2", "toy-1"):
        record_call(current, attributes=SPAN | {semconv.GEN_AI_REQUEST_MODEL: model})

    counts = {p.attributes["gen_ai.request.model"]: p.count for p in points(collect()[f"{INFERENCE}.duration"])}
    assert counts == {"toy-1": 2, "toy-2": 1}


def test_values_are_recorded_as_given(current: CallMetrics, collect: Collect) -> None:
    record_everything(current)

    found = collect()
    sums = {name: (point(found[name]).count, point(found[name]).sum) for name in CURRENT_HISTOGRAMS}
    assert sums == {
        f"{INFERENCE}.duration": (1, 1.5),
        f"{INFERENCE}.time_to_first_chunk": (1, 0.25),
        f"{INFERENCE}.time_per_output_chunk": (2, 0.625),
        f"{INFERENCE}.operation.input_tokens": (1, 100),
        f"{INFERENCE}.operation.output_tokens": (1, 20),
    }
    assert {name: point(found[name]).value for name in COUNTERS} == {
        f"{INFERENCE}.usage.input_tokens": 100,
        f"{INFERENCE}.usage.output_tokens": 20,
        f"{INFERENCE}.usage.cache_read.input_tokens": 30,
        f"{INFERENCE}.usage.cache_write.input_tokens": 10,
        f"{INFERENCE}.usage.reasoning.output_tokens": 5,
    }


def test_a_call_that_did_not_stream_has_no_chunk_times(make: Make, collect: Collect) -> None:
    record_call(make(MetricsGeneration.BOTH))

    assert set(collect()) == {f"{INFERENCE}.duration", f"{OPERATION}.duration"}


def test_the_previous_generation_splits_tokens_by_their_type(make: Make, collect: Collect) -> None:
    record_call(make(MetricsGeneration.PREVIOUS), attributes=SPAN | {semconv.ERROR_TYPE: "ValueError"}, usage=USAGE)

    found = collect()
    assert {tuple(sorted(p.attributes.items())): p.sum for p in points(found["gen_ai.client.token.usage"])} == {
        tuple(sorted((DIMENSIONS | {"gen_ai.token.type": kind}).items())): tokens
        for kind, tokens in (("input", 100), ("output", 20))
    }
    assert point(found[f"{OPERATION}.duration"]).attributes == DIMENSIONS | {"error.type": "ValueError"}


@pytest.mark.parametrize("generation", MetricsGeneration, ids=lambda generation: generation.value)
def test_unknown_usage_is_not_recorded_as_zero(make: Make, collect: Collect, generation: MetricsGeneration) -> None:
    metrics = make(generation)
    record_call(metrics, usage=None)
    record_call(metrics, usage=TokenUsage())

    assert not [name for name in collect() if "token" in name]


def test_a_class_of_tokens_that_is_unknown_is_left_out(current: CallMetrics, collect: Collect) -> None:
    record_call(current, usage=TokenUsage(visible_output_tokens=3, reasoning_tokens=0))

    found = {name: metric for name, metric in collect().items() if "token" in name}
    assert {name: getattr(point(metric), "value", None) for name, metric in found.items()} == {
        f"{INFERENCE}.usage.output_tokens": 3,
        f"{INFERENCE}.usage.reasoning.output_tokens": 0,
        f"{INFERENCE}.operation.output_tokens": None,
    }


def test_a_known_zero_is_a_series_of_its_own_and_a_measurement(current: CallMetrics, collect: Collect) -> None:
    record_call(current, usage=ZERO)
    record_call(current, usage=ZERO)
    record_call(current, usage=ZERO, attributes=SPAN | {semconv.GEN_AI_REQUEST_MODEL: "toy-2"})

    found = collect()
    assert [[p.value for p in points(found[name])] for name in COUNTERS] == [[0, 0]] * len(COUNTERS)
    assert [p.count for p in points(found[f"{INFERENCE}.operation.input_tokens"])] == [2, 1]


def test_negative_counts_of_a_contradictory_provider_are_left_out(
    make: Make, collect: Collect, caplog: pytest.LogCaptureFixture
) -> None:
    usage = TokenUsage.from_inclusive(input_tokens=-5, output_tokens=7)
    record_call(make(MetricsGeneration.BOTH), usage=usage)

    found = collect()
    assert point(found[f"{INFERENCE}.usage.output_tokens"]).value == 7
    assert f"{INFERENCE}.usage.input_tokens" not in found
    assert [p.attributes["gen_ai.token.type"] for p in points(found["gen_ai.client.token.usage"])] == ["output"]
    assert not caplog.records  # the SDK would complain of each


counts = st.none() | st.integers(min_value=0, max_value=10**6)
usages = st.none() | st.builds(
    TokenUsage,
    fresh_input_tokens=counts,
    cache_write_tokens=counts,
    cache_read_tokens=counts,
    visible_output_tokens=counts,
    reasoning_tokens=counts,
)


@given(calls=st.lists(st.tuples(st.sampled_from(["toy-1", "toy-2"]), usages), max_size=12))
def test_counters_sum_to_what_was_known(calls: list[tuple[str, TokenUsage | None]]) -> None:
    reader = InMemoryMetricReader()
    metrics = CallMetrics(MeterProvider(metric_readers=[reader], shutdown_on_exit=False), MetricsGeneration.BOTH)
    for model, usage in calls:
        record_call(metrics, attributes=SPAN | {semconv.GEN_AI_REQUEST_MODEL: model}, usage=usage)

    found = collected(reader)
    for name, counted in COUNTERS.items():
        expected: dict[str, int] = {}
        for model, usage in calls:
            if usage is not None and (count := getattr(usage, counted)) is not None:
                expected[model] = expected.get(model, 0) + count
        totals = {p.attributes["gen_ai.request.model"]: p.value for p in (points(found[name]) if name in found else [])}
        assert totals == expected, name
    old = points(found["gen_ai.client.token.usage"]) if "gen_ai.client.token.usage" in found else []
    assert sum(p.sum for p in old) == sum(
        count for _, usage in calls if usage for count in (usage.input_tokens, usage.output_tokens) if count is not None
    )


# Agents, tools and workflows


@pytest.mark.parametrize("generation", MetricsGeneration, ids=lambda generation: generation.value)
def test_a_tool_is_split_by_its_name_type_and_agent(
    make: Make, collect: Collect, generation: MetricsGeneration
) -> None:
    metrics = make(generation)
    metrics.tool(name="add", agent_name="adder", duration_s=1.0)
    metrics.tool(name="find", agent_name=None, tool_type="datastore", duration_s=2.0, error_type="tool_error")

    assert [(p.attributes, p.sum) for p in points(collect()["gen_ai.execute_tool.duration"])] == [
        ({"gen_ai.tool.name": "add", "gen_ai.tool.type": "function", "gen_ai.agent.name": "adder"}, 1.0),
        ({"gen_ai.tool.name": "find", "gen_ai.tool.type": "datastore", "error.type": "tool_error"}, 2.0),
    ]


def test_an_agent_that_called_nothing_is_counted_too(current: CallMetrics, collect: Collect) -> None:
    current.agent(name="adder", duration_s=2.0, inference_calls=0, tool_calls=0)

    found = collect()
    for name in ("gen_ai.invoke_agent.inference_calls", "gen_ai.invoke_agent.tool_calls"):
        assert (point(found[name]).count, point(found[name]).sum) == (1, 0)


def test_only_the_duration_of_a_failed_agent_is_split_by_its_error(current: CallMetrics, collect: Collect) -> None:
    current.agent(name="adder", duration_s=2.0, inference_calls=3, tool_calls=1, error_type="ValueError")
    current.agent(name=None, duration_s=4.0, inference_calls=1, tool_calls=0)

    found = collect()
    assert [(p.attributes, p.sum) for p in points(found["gen_ai.invoke_agent.duration"])] == [
        ({"gen_ai.agent.name": "adder", "error.type": "ValueError"}, 2.0),
        ({}, 4.0),
    ]
    assert [(p.attributes, p.sum) for p in points(found["gen_ai.invoke_agent.inference_calls"])] == [
        ({"gen_ai.agent.name": "adder"}, 3),
        ({}, 1),
    ]
    assert [(p.attributes, p.sum) for p in points(found["gen_ai.invoke_agent.tool_calls"])] == [
        ({"gen_ai.agent.name": "adder"}, 1),
        ({}, 0),
    ]


def test_a_workflow_is_split_by_its_name_and_error(current: CallMetrics, collect: Collect) -> None:
    current.workflow(name="sums", duration_s=3.0)
    current.workflow(name=None, duration_s=5.0, error_type="GraphRecursionError")

    assert [(p.attributes, p.sum) for p in points(collect()["gen_ai.invoke_workflow.duration"])] == [
        ({"gen_ai.workflow.name": "sums"}, 3.0),
        ({"error.type": "GraphRecursionError"}, 5.0),
    ]


# Sampling and providers


def test_exemplars_point_to_the_span_of_the_call(current: CallMetrics, collect: Collect) -> None:
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("chat toy-1")
    record_call(current, context=set_span_in_context(span, Context()))

    (exemplar,) = point(collect()[f"{INFERENCE}.duration"]).exemplars
    assert exemplar.span_id == span.get_span_context().span_id


def test_dropped_spans_are_measured_all_the_same(current: CallMetrics, collect: Collect) -> None:
    tracer = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("test")
    for _ in range(3):
        span = tracer.start_span("chat toy-1")
        assert not span.is_recording()
        record_call(current, usage=USAGE, context=set_span_in_context(span, Context()))

    found = collect()
    assert point(found[f"{INFERENCE}.usage.input_tokens"]).value == 300
    assert point(found[f"{INFERENCE}.duration"]).count == 3


@pytest.mark.parametrize("provider", [None, NoOpMeterProvider()], ids=["no provider", "no-op provider"])
def test_without_a_meter_provider_nothing_happens(
    provider: NoOpMeterProvider | None, caplog: pytest.LogCaptureFixture
) -> None:
    record_everything(CallMetrics(provider, MetricsGeneration.BOTH))

    assert not caplog.records


def test_a_global_provider_that_is_set_later_is_used() -> None:
    program = """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from tokenomics_langchain.metrics import MetricsGeneration, metrics_of

        early = metrics_of(None, MetricsGeneration.CURRENT)
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
        late = metrics_of(None, MetricsGeneration.CURRENT)
        for recorder in early, late:
            recorder.tool(name="add", agent_name=None, duration_s=1.0)
        (resource,) = reader.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        (metric,) = scope.metrics
        (point,) = metric.data.data_points
        print(metric.name, point.count, point.explicit_bounds[0])
    """
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert (run.stdout.split(), run.stderr) == (["gen_ai.execute_tool.duration", "2", "0.01"], "")


def test_the_metrics_of_a_provider_are_made_once(provider: MeterProvider) -> None:
    current = metrics_of(provider, MetricsGeneration.CURRENT)

    assert metrics_of(provider, MetricsGeneration.CURRENT) is current
    assert metrics_of(provider, MetricsGeneration.BOTH) is not current
    assert metrics_of(NoOpMeterProvider(), MetricsGeneration.CURRENT) is not current


def test_metrics_do_not_keep_their_provider_alive() -> None:
    provider = MeterProvider(shutdown_on_exit=False)
    metrics_of(provider, MetricsGeneration.CURRENT)
    alive = weakref.ref(provider)
    del provider
    gc.collect()

    assert alive() is None


def test_two_recorders_of_one_provider_share_their_instruments(
    make: Make, collect: Collect, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        record_everything(make(MetricsGeneration.BOTH))

    assert point(collect()[f"{INFERENCE}.usage.input_tokens"]).value == 200
    assert not caplog.records  # the SDK logs instruments that contradict each other


def test_the_number_of_remembered_series_is_bounded(
    current: CallMetrics, collect: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenomics_langchain.metrics._MAX_SERIES", 2)
    for model in ("a", "b", "c", "c"):
        record_call(current, attributes={semconv.GEN_AI_REQUEST_MODEL: model}, usage=USAGE)

    assert len(current._series) == 2
    totals = {
        p.attributes["gen_ai.request.model"]: p.value for p in points(collect()[f"{INFERENCE}.usage.input_tokens"])
    }
    assert totals == {"a": 100, "b": 100, "c": 200}


# The switch


@pytest.mark.parametrize(
    ("value", "generation"),
    [
        pytest.param(None, MetricsGeneration.CURRENT, id="unset"),
        pytest.param("", MetricsGeneration.CURRENT, id="empty"),
        pytest.param("current", MetricsGeneration.CURRENT, id="current"),
        pytest.param("previous", MetricsGeneration.PREVIOUS, id="previous"),
        pytest.param(" Both ", MetricsGeneration.BOTH, id="both in other letters"),
    ],
)
def test_the_environment_chooses_the_generation(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    value: str | None,
    generation: MetricsGeneration,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)

    assert MetricsGeneration.from_environment() is generation
    assert not caplog.records


def test_an_unknown_generation_is_taken_for_the_current_one_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, "latest")

    assert MetricsGeneration.from_environment() is MetricsGeneration.CURRENT
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"{VARIABLE}=latest is none of current, previous and both: current is used"

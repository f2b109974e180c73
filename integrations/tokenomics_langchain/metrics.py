"""What calls took and used, as metrics of the GenAI conventions.

The conventions renamed the metrics of model calls twice in 2026 (their #374 and #521), and dashboards follow slowly.
So one switch says which names are written: today's, those before, or both. What agents, tools and workflows are
measured by has one set of names.

Measurements do not pass a sampler: totals stay whole when spans are dropped. Their attributes are what a metric may
be split by, so names of models, tools and servers, and never the id of a task, a conversation or a response.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeGuard

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter, MeterProvider
from opentelemetry.util.types import AttributeValue

from tokenomics_langchain.attributes import Attributes, known
from tokenomics_plugin import semconv
from tokenomics_plugin.usage import TokenUsage
from tokenomics_plugin.version import package_version

__all__ = ["CallMetrics", "MetricsGeneration", "metrics_of"]

_LOGGER = logging.getLogger(__name__)
_VARIABLE: Final = "TOKENOMICS_METRICS_GENERATION"

# The bucket boundaries that the conventions advise.
_CALL_SECONDS: Final = tuple(0.01 * 2**i for i in range(14))
_AGENT_SECONDS: Final = tuple(0.1 * 2**i for i in range(13))
_WORKFLOW_SECONDS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_TOKENS: Final = tuple(4**i for i in range(14))
_CALLS: Final = tuple(2**i for i in range(8))

_CURRENT_TIMES: Final = (
    semconv.METRIC_INFERENCE_DURATION,
    semconv.METRIC_INFERENCE_TIME_TO_FIRST_CHUNK,
    semconv.METRIC_INFERENCE_TIME_PER_OUTPUT_CHUNK,
)
_PREVIOUS_TIMES: Final = (
    semconv.OLD_METRIC_OPERATION_DURATION,
    semconv.OLD_METRIC_OPERATION_TIME_TO_FIRST_CHUNK,
    semconv.OLD_METRIC_OPERATION_TIME_PER_OUTPUT_CHUNK,
)
# Name, what of a TokenUsage it counts, description.
_COUNTERS: Final = (
    (semconv.METRIC_INFERENCE_USAGE_INPUT_TOKENS, "input_tokens", "Input tokens, cached ones included."),
    (semconv.METRIC_INFERENCE_USAGE_OUTPUT_TOKENS, "output_tokens", "Output tokens, reasoning included."),
    (semconv.METRIC_INFERENCE_USAGE_CACHE_READ_INPUT_TOKENS, "cache_read_tokens", "Input tokens read from a cache."),
    (semconv.METRIC_INFERENCE_USAGE_CACHE_WRITE_INPUT_TOKENS, "cache_write_tokens", "Input tokens put in a cache."),
    (semconv.METRIC_INFERENCE_USAGE_REASONING_OUTPUT_TOKENS, "reasoning_tokens", "Output tokens of reasoning."),
)

# What the metrics of a model call are split by, besides the operation.
_CALL_DIMENSIONS: Final = (
    semconv.GEN_AI_PROVIDER_NAME,
    semconv.GEN_AI_REQUEST_MODEL,
    semconv.GEN_AI_RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)
# LangChain's counts are not split by modality, and for such the conventions ask for `unknown`: `text` would be a guess.
_MODALITY: Final[Attributes] = {semconv.GEN_AI_TOKEN_MODALITY: "unknown"}
_MAX_SERIES: Final = 2_000  # as many as the SDK keeps apart by default


class MetricsGeneration(Enum):
    """Which names the metrics of model calls go by."""

    CURRENT = "current"
    """`gen_ai.client.inference.*`, with a counter for each class of tokens."""
    PREVIOUS = "previous"
    """`gen_ai.client.operation.*` and `gen_ai.client.token.usage`, as of version 1.41 of the conventions."""
    BOTH = "both"
    """Both, for the time of a migration."""

    @classmethod
    def from_environment(cls) -> MetricsGeneration:
        """As `TOKENOMICS_METRICS_GENERATION` says: current, previous or both.

        Anything else is taken for `current`, and a warning says so.
        """
        asked = os.environ.get(_VARIABLE, "").strip().lower() or cls.CURRENT.value
        try:
            return cls(asked)
        except ValueError:
            _LOGGER.warning("%s=%s is none of current, previous and both: current is used", _VARIABLE, asked)
            return cls.CURRENT


@dataclass(frozen=True, kw_only=True, slots=True)
class _Series:
    """The attributes of a model call's measurements, built once for all calls that share them."""

    call: Attributes
    """Of the whole call: the error too, if there was one."""
    parts: Attributes
    """Of its chunks and tokens: the conventions do not split these by the error."""
    usage: Attributes
    """Of today's token counters."""
    zeros: set[str] = field(default_factory=set)
    """The counters that a count of 0 was added to."""

    @classmethod
    def of(cls, operation: str, values: Sequence[AttributeValue | None], error_type: AttributeValue | None) -> _Series:
        """From the values of `_CALL_DIMENSIONS`."""
        parts = known((semconv.GEN_AI_OPERATION_NAME, operation), *zip(_CALL_DIMENSIONS, values, strict=True))
        return cls(call=parts | known((semconv.ERROR_TYPE, error_type)), parts=parts, usage=parts | _MODALITY)


class CallMetrics:
    """The instruments of one meter provider; safe to use from any thread.

    Durations are in seconds. Each method takes the context of the span that shows the same thing, which
    exemplars then point to; without one they point to the current span.

    Args:
        meter_provider: Where measurements go; the global provider if `None`, also one that is set later.
        generation: Which names the metrics of model calls go by.
    """

    def __init__(self, meter_provider: MeterProvider | None, generation: MetricsGeneration) -> None:
        meter = metrics.get_meter(
            "tokenomics_langchain", package_version() or "", meter_provider, schema_url=semconv.SCHEMA_URL
        )
        self._unset_provider = meter_provider if _is_of_api(meter_provider) else None
        self.is_idle = self._unset_provider is not None
        """Whether the program had set up no metrics when `look_again` was called, so that nobody keeps measurements."""
        self._times: list[_CallTimes] = []
        self._usages: list[_TokenCounters | _TokenHistogram] = []
        if generation is not MetricsGeneration.PREVIOUS:
            self._times.append(_CallTimes(meter, *_CURRENT_TIMES))
            self._usages.append(_TokenCounters(meter))
        if generation is not MetricsGeneration.CURRENT:
            self._times.append(_CallTimes(meter, *_PREVIOUS_TIMES))
            self._usages.append(_TokenHistogram(meter))
        self._series: dict[object, _Series] = {}
        self._tool = _histogram(meter, semconv.METRIC_EXECUTE_TOOL_DURATION, "Duration of a tool.", _CALL_SECONDS)
        self._workflow = _histogram(
            meter, semconv.METRIC_INVOKE_WORKFLOW_DURATION, "Duration of a workflow.", _WORKFLOW_SECONDS
        )
        self._agent = _histogram(meter, semconv.METRIC_INVOKE_AGENT_DURATION, "Duration of an agent.", _AGENT_SECONDS)
        self._agent_inference_calls = _histogram(
            meter,
            semconv.METRIC_INVOKE_AGENT_INFERENCE_CALLS,
            "Model calls of an agent, without those of agents below it.",
            _CALLS,
            unit="{inference_call}",
        )
        self._agent_tool_calls = _histogram(
            meter,
            semconv.METRIC_INVOKE_AGENT_TOOL_CALLS,
            "Tool calls of an agent, without those of agents below it.",
            _CALLS,
            unit="{tool_call}",
        )

    def look_again(self) -> None:
        """See whether the program has set up metrics by now; for once a run of an agent, and not for every call."""
        self.is_idle = self._unset_provider is not None and metrics.get_meter_provider() is self._unset_provider

    def inference(
        self,
        *,
        operation: str,
        attributes: Mapping[str, AttributeValue],
        usage: TokenUsage | None,
        duration_s: float,
        time_to_first_chunk_s: float | None = None,
        chunk_gaps_s: Sequence[float] = (),
        context: Context | None = None,
    ) -> None:
        """A call of a model has ended, well or not.

        Args:
            operation: `gen_ai.operation.name`.
            attributes: The span's attributes; provider, models, server and error are picked out of them.
            usage: What it used; no token metric is recorded for what is unknown.
            duration_s: From its start to its last chunk.
            time_to_first_chunk_s: From its start; `None` if it did not stream.
            chunk_gaps_s: From each chunk to the next.
            context: With the call's span.
        """
        series = self._series_of(operation, attributes)
        for times in self._times:
            times.record(series, context, duration_s, time_to_first_chunk_s, chunk_gaps_s)
        if usage is not None:
            for usages in self._usages:
                usages.record(series, context, usage)

    def tool(
        self,
        *,
        name: str | None,
        agent_name: str | None,
        duration_s: float,
        tool_type: str = "function",
        error_type: str | None = None,
        context: Context | None = None,
    ) -> None:
        """A tool has ended; `agent_name` is of the agent that it works for."""
        attributes = known(
            (semconv.GEN_AI_TOOL_NAME, name),
            (semconv.GEN_AI_TOOL_TYPE, tool_type),
            (semconv.GEN_AI_AGENT_NAME, agent_name),
            (semconv.ERROR_TYPE, error_type),
        )
        self._tool.record(duration_s, attributes, context)

    def agent(
        self,
        *,
        name: str | None,
        duration_s: float,
        inference_calls: int,
        tool_calls: int,
        error_type: str | None = None,
        context: Context | None = None,
    ) -> None:
        """An agent has ended; its calls are its own, not those of agents below it, and 0 counts too."""
        named = known((semconv.GEN_AI_AGENT_NAME, name))
        self._agent.record(duration_s, named | known((semconv.ERROR_TYPE, error_type)), context)
        self._agent_inference_calls.record(inference_calls, named, context)
        self._agent_tool_calls.record(tool_calls, named, context)

    def workflow(
        self, *, name: str | None, duration_s: float, error_type: str | None = None, context: Context | None = None
    ) -> None:
        """A workflow has ended."""
        attributes = known((semconv.GEN_AI_WORKFLOW_NAME, name), (semconv.ERROR_TYPE, error_type))
        self._workflow.record(duration_s, attributes, context)

    def _series_of(self, operation: str, attributes: Mapping[str, AttributeValue]) -> _Series:
        values, error_type = tuple(map(attributes.get, _CALL_DIMENSIONS)), attributes.get(semconv.ERROR_TYPE)
        key = operation, values, error_type
        if (series := self._series.get(key)) is None:
            series = _Series.of(operation, values, error_type)
            if len(self._series) < _MAX_SERIES:
                self._series[key] = series
        return series


def _is_of_api(provider: MeterProvider | None) -> bool:
    """Whether a provider stands for one that is not set: the API's own records nothing."""
    return type(provider).__module__.startswith("opentelemetry.metrics")


_made: weakref.WeakKeyDictionary[MeterProvider, dict[MetricsGeneration, CallMetrics]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def metrics_of(meter_provider: MeterProvider | None, generation: MetricsGeneration) -> CallMetrics:
    """The metrics of a provider; the same ones every time.

    The API remembers every instrument that was made before the global provider is set, so handlers that come
    and go must not make their own.
    """
    provider = metrics.get_meter_provider() if meter_provider is None else meter_provider
    try:
        with _lock:
            made: dict[MetricsGeneration, CallMetrics] = _made.setdefault(provider, {})
            if generation not in made:
                made[generation] = CallMetrics(provider, generation)
            return made[generation]
    except TypeError:  # a provider that cannot be hashed
        return CallMetrics(provider, generation)


class _CallTimes:
    """How long model calls and their streams take."""

    def __init__(self, meter: Meter, duration: str, first_chunk: str, chunk: str) -> None:
        self._duration = _histogram(meter, duration, "Duration of a model call.", _CALL_SECONDS)
        self._first_chunk = _histogram(meter, first_chunk, "Time to the first chunk of an answer.", _CALL_SECONDS)
        self._chunk = _histogram(meter, chunk, "Time from a chunk of an answer to the next.", _CALL_SECONDS)

    def record(
        self,
        series: _Series,
        context: Context | None,
        duration_s: float,
        first_chunk_s: float | None,
        gaps_s: Sequence[float],
    ) -> None:
        self._duration.record(duration_s, series.call, context)
        if first_chunk_s is not None:
            self._first_chunk.record(first_chunk_s, series.parts, context)
        for gap_s in gaps_s:
            self._chunk.record(gap_s, series.parts, context)


class _TokenCounters:
    """What model calls use: counters for the totals, histograms for how they spread over calls."""

    def __init__(self, meter: Meter) -> None:
        self._counters = [
            (name, counted, meter.create_counter(name, "{token}", description))
            for name, counted, description in _COUNTERS
        ]
        self._input = _histogram(
            meter,
            semconv.METRIC_INFERENCE_OPERATION_INPUT_TOKENS,
            "Input tokens of a model call.",
            _TOKENS,
            unit="{token}",
        )
        self._output = _histogram(
            meter,
            semconv.METRIC_INFERENCE_OPERATION_OUTPUT_TOKENS,
            "Output tokens of a model call.",
            _TOKENS,
            unit="{token}",
        )

    def record(self, series: _Series, context: Context | None, usage: TokenUsage) -> None:
        for name, counted, counter in self._counters:
            count = getattr(usage, counted)
            if not _is_count(count) or (count == 0 and name in series.zeros):
                continue
            if count == 0:  # the first says that the class is known, and more of them add nothing but time
                series.zeros.add(name)
            counter.add(count, series.usage, context)
        for histogram, count in ((self._input, usage.input_tokens), (self._output, usage.output_tokens)):
            if _is_count(count):
                histogram.record(count, series.parts, context)


class _TokenHistogram:
    """What model calls use, as one histogram for both directions: the previous generation."""

    def __init__(self, meter: Meter) -> None:
        self._histogram = _histogram(
            meter, semconv.OLD_METRIC_TOKEN_USAGE, "Input and output tokens of a model call.", _TOKENS, unit="{token}"
        )

    def record(self, series: _Series, context: Context | None, usage: TokenUsage) -> None:
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if _is_count(count):
                self._histogram.record(count, series.parts | {semconv.OLD_GEN_AI_TOKEN_TYPE: kind}, context)


def _is_count(count: int | None) -> TypeGuard[int]:
    """Whether a count is known; a negative one is a contradiction of the provider's, which the span tells."""
    return count is not None and count >= 0


def _histogram(meter: Meter, name: str, description: str, boundaries: Sequence[float], *, unit: str = "s") -> Histogram:
    return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=boundaries)

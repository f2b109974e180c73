"""Setting up OpenTelemetry in one call, without taking it away from an application that has its own.

Traces, logs (outcomes are log events) and metrics go out over OTLP. Every `OTEL_*` variable keeps its
meaning: exporters are looked up by the names that `OTEL_TRACES_EXPORTER` and its siblings list, and the
SDK reads endpoints, headers, samplers, limits and batch sizes itself. An argument given in code wins.

Exporters are imported only when one is needed: the gRPC one alone takes longer than this package.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Final, Literal

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider, set_logger_provider

# Private, but the only way to tell "the application set none" from "it set one that is not the SDK's".
from opentelemetry._logs._internal import ProxyLoggerProvider
from opentelemetry.environment_variables import OTEL_PYTHON_ID_GENERATOR
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_LOGS_PROTOCOL,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_SDK_DISABLED,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tokenomics_plugin.errors import TokenomicsError
from tokenomics_plugin.tasks import bind_tasks

__all__ = ["Protocol", "Telemetry", "configure"]

Protocol = Literal["http/protobuf", "grpc"]
"""OTLP transports, as `OTEL_EXPORTER_OTLP_PROTOCOL` spells them."""

_Signal = Literal["traces", "logs", "metrics"]
_EXPORTER_OF_PROTOCOL: Final[Mapping[str, str]] = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_PROTOCOL_VARIABLE: Final[Mapping[_Signal, str]] = {
    "traces": OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    "logs": OTEL_EXPORTER_OTLP_LOGS_PROTOCOL,
    "metrics": OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
}
_lock = threading.Lock()
_configured: Telemetry | None = None


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """The providers in use: ours where the application had none."""

    tracer_provider: Any
    """Where spans start."""
    logger_provider: Any
    """Where outcomes are emitted as events."""
    meter_provider: Any
    """Where metrics are recorded."""
    ours: tuple[Any, ...] = ()
    """Those of the three that `configure` made; the others are the application's."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is buffered; whether all of it went out in time."""
        return all([_call(provider, "force_flush", timeout_millis) for provider in self._providers()])

    def shutdown(self) -> None:
        """Send what is buffered and stop, as happens anyway when the process exits.

        The application's own providers are only flushed.
        """
        for provider in self._providers():
            _call(provider, "shutdown" if any(provider is one for one in self.ours) else "force_flush")

    def _providers(self) -> tuple[Any, ...]:
        return self.tracer_provider, self.logger_provider, self.meter_provider


def configure(
    *,
    service_name: str | None = None,
    endpoint: str | None = None,
    protocol: Protocol | None = None,
    headers: Mapping[str, str] | None = None,
) -> Telemetry:
    """Send traces, logs and metrics over OTLP; call it once, when the program starts.

    A provider that the application has set already is kept. It then only learns to write the task onto
    its spans, and sends a copy to `endpoint` if that is given here. Which exporters there are stays with
    `OTEL_TRACES_EXPORTER` and its siblings, so `OTEL_LOGS_EXPORTER=none` suits a backend that knows only traces.

    Args:
        service_name: `service.name` of the resource; else `OTEL_SERVICE_NAME`.
        endpoint: Base URL of a collector, such as `http://127.0.0.1:4318`; else `OTEL_EXPORTER_OTLP_ENDPOINT`.
        protocol: http/protobuf or grpc; else `OTEL_EXPORTER_OTLP_PROTOCOL`, else http/protobuf.
        headers: Sent with each export, such as `{"authorization": "Bearer ..."}`; else `OTEL_EXPORTER_OTLP_HEADERS`.

    Returns:
        The providers, to flush or shut down; a second call returns the first call's.

    Raises:
        TokenomicsError: If a named exporter or protocol does not exist.
    """
    global _configured  # OpenTelemetry's providers are global as well: a second set of exporters would send twice
    with _lock:
        if _configured is None:
            target = _Target(endpoint=endpoint, protocol=protocol, headers=headers)
            target.check()
            _configured = _configure(_resource(service_name), target)
        return _configured


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Where to export to, as far as code says; the environment says the rest."""

    endpoint: str | None
    protocol: Protocol | None
    headers: Mapping[str, str] | None

    def check(self) -> None:
        """Find every exporter before a provider is set: one without exporters could not be replaced any more."""
        for signal in _PROTOCOL_VARIABLE:
            for name in self._names(signal):
                _load_exporter(name, signal)

    def exporters(self, signal: _Signal) -> list[Any]:
        """The exporters of a signal, made from their entry points."""
        return [self._make(name, signal) for name in self._names(signal)]

    def _names(self, signal: _Signal) -> list[str]:
        if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
            return []
        listed = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip() or "otlp"
        names = [name.strip() for name in listed.split(",")]
        return [self._otlp_name(signal) if name == "otlp" else name for name in names if name and name != "none"]

    def _otlp_name(self, signal: _Signal) -> str:
        named = (self.protocol, os.environ.get(_PROTOCOL_VARIABLE[signal]), os.environ.get(OTEL_EXPORTER_OTLP_PROTOCOL))
        protocol = next((name.strip() for name in named if name), "http/protobuf")
        try:
            return _EXPORTER_OF_PROTOCOL[protocol]
        except KeyError:
            allowed = ", ".join(_EXPORTER_OF_PROTOCOL)
            raise TokenomicsError(f"OTLP protocol must be one of {allowed}, got {protocol!r}") from None

    def _make(self, name: str, signal: _Signal) -> Any:
        exporter = _load_exporter(name, signal)
        return exporter(**self._arguments(name, signal))

    def _arguments(self, name: str, signal: _Signal) -> dict[str, Any]:
        if name not in _EXPORTER_OF_PROTOCOL.values():
            return {}
        endpoint = self.endpoint
        if endpoint is not None and name == "otlp_proto_http":
            endpoint = f"{endpoint.rstrip('/')}/v1/{signal}"
        headers = None if self.headers is None else {key.lower(): value for key, value in self.headers.items()}
        return {key: value for key, value in (("endpoint", endpoint), ("headers", headers)) if value is not None}


def _load_exporter(name: str, signal: _Signal) -> Callable[..., Any]:
    return _load(f"opentelemetry_{signal}_exporter", name, variable=f"OTEL_{signal.upper()}_EXPORTER")


def _id_generator() -> Any:
    """What `OTEL_PYTHON_ID_GENERATOR` names; `None` leaves it to the SDK."""
    name = os.environ.get(OTEL_PYTHON_ID_GENERATOR, "").strip()
    return _load("opentelemetry_id_generator", name, variable=OTEL_PYTHON_ID_GENERATOR)() if name else None


def _load(group: str, name: str, *, variable: str) -> Callable[..., Any]:
    found = entry_points(group=group, name=name)
    if not found:
        kind = group.replace("_", " ")
        raise TokenomicsError(
            f"no {kind} is called {name!r}: install the package that brings it, or correct {variable}"
        )
    loaded: Callable[..., Any] = next(iter(found)).load()
    return loaded


def _resource(service_name: str | None) -> Resource:
    # create() merges OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME below what is given here.
    return Resource.create({} if service_name is None else {"service.name": service_name})


def _configure(resource: Resource, target: _Target) -> Telemetry:
    providers = (
        _tracer_provider(resource, target),
        _logger_provider(resource, target),
        _meter_provider(resource, target),
    )
    (tracer_provider, _), (logger_provider, _), (meter_provider, _) = providers
    bind_tasks(tracer_provider)
    return Telemetry(
        tracer_provider=tracer_provider,
        logger_provider=logger_provider,
        meter_provider=meter_provider,
        ours=tuple(provider for provider, is_ours in providers if is_ours),
    )


def _tracer_provider(resource: Resource, target: _Target) -> tuple[Any, bool]:
    """The provider to use, and whether we made it."""
    provider: Any = trace.get_tracer_provider()
    is_ours = isinstance(provider, trace.ProxyTracerProvider)
    if is_ours:
        provider = TracerProvider(resource=resource, id_generator=_id_generator())
        trace.set_tracer_provider(provider)
    if _should_export(provider, "add_span_processor", is_ours, target):
        for exporter in target.exporters("traces"):
            provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, is_ours


def _logger_provider(resource: Resource, target: _Target) -> tuple[Any, bool]:
    provider: Any = get_logger_provider()
    is_ours = isinstance(provider, ProxyLoggerProvider)
    if is_ours:
        provider = LoggerProvider(resource=resource)
        set_logger_provider(provider)
    if _should_export(provider, "add_log_record_processor", is_ours, target):
        for exporter in target.exporters("logs"):
            provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    return provider, is_ours


def _meter_provider(resource: Resource, target: _Target) -> tuple[Any, bool]:
    provider: Any = metrics.get_meter_provider()
    # A meter provider takes its readers when it is made: an application's own cannot be given another.
    is_ours = isinstance(provider, _ProxyMeterProvider)
    if is_ours:
        provider = MeterProvider(
            resource=resource, metric_readers=[_reader(exporter) for exporter in target.exporters("metrics")]
        )
        metrics.set_meter_provider(provider)
    return provider, is_ours


def _should_export(provider: Any, needed: str, is_ours: bool, target: _Target) -> bool:
    return is_ours or (target.endpoint is not None and hasattr(provider, needed))


def _reader(exporter: Any) -> MetricReader:
    # Entry points of metrics name readers (Prometheus) as well as exporters.
    return exporter if isinstance(exporter, MetricReader) else PeriodicExportingMetricReader(exporter)


def _call(provider: Any, name: str, *arguments: Any) -> bool:
    method = getattr(provider, name, None)
    return method is None or method(*arguments) is not False

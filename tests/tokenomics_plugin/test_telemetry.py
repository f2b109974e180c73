"""Providers are global to a process, so each of these runs a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

USE_ALL_THREE = """
from opentelemetry import metrics, trace
import tokenomics_plugin as tp
with tp.task("t1") as task:
    trace.get_tracer("app").start_span("work").end()
    task.succeed()
metrics.get_meter("app").create_counter("calls").add(1)
"""


@dataclass
class Received:
    endpoint: str
    requests: list[tuple[str, str | None, bytes]] = field(default_factory=list)

    def paths(self) -> set[str]:
        return {path for path, _, _ in self.requests}

    def trace_request(self) -> ExportTraceServiceRequest:
        (body,) = [body for path, _, body in self.requests if path == "/v1/traces"]
        return ExportTraceServiceRequest.FromString(body)


@pytest.fixture
def receiver() -> Iterator[Received]:
    """An HTTP server that keeps every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.requests.append((self.path, self.headers.get("Authorization"), body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received = Received(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield received
        server.shutdown()
        thread.join()


def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", textwrap.dedent(program)],
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_traces_logs_and_metrics_reach_the_endpoint_when_the_program_ends(receiver: Received) -> None:
    done = run(
        f"import tokenomics_plugin as tp; tp.configure(service_name='shop', endpoint='{receiver.endpoint}/', "
        f"headers={{'Authorization': 'Bearer s3cret'}})" + USE_ALL_THREE
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.paths() == {"/v1/traces", "/v1/logs", "/v1/metrics"}
    assert {token for _, token, _ in receiver.requests} == {"Bearer s3cret"}
    (resource,) = receiver.trace_request().resource_spans
    assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == "shop"
    assert {span.name for scope in resource.scope_spans for span in scope.spans} == {"work", "record_outcome user"}


def test_the_environment_says_what_code_does_not(receiver: Received) -> None:
    done = run(
        "import tokenomics_plugin as tp; tp.configure()" + USE_ALL_THREE,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        OTEL_SERVICE_NAME="from-env",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        OTEL_LOGS_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20env",
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.paths() == {"/v1/traces"}
    assert receiver.requests[0][1] == "Bearer env"
    attributes = receiver.trace_request().resource_spans[0].resource.attributes
    found = {a.key: a.value.string_value for a in attributes}
    assert (found["service.name"], found["deployment.environment.name"]) == ("from-env", "test")


def test_a_signal_can_be_left_out_whatever_the_endpoint(receiver: Received) -> None:
    run(
        f"import tokenomics_plugin as tp; tp.configure(endpoint='{receiver.endpoint}')" + USE_ALL_THREE,
        OTEL_LOGS_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
    )

    assert receiver.paths() == {"/v1/traces"}


def test_a_sampler_from_the_environment_is_obeyed(receiver: Received) -> None:
    run(
        f"import tokenomics_plugin as tp; tp.configure(endpoint='{receiver.endpoint}')" + USE_ALL_THREE,
        OTEL_TRACES_SAMPLER="always_off",
    )

    assert receiver.paths() == {"/v1/logs", "/v1/metrics"}  # the outcome's event survives any sampler


def test_the_sdk_can_be_switched_off(receiver: Received) -> None:
    done = run(
        f"import tokenomics_plugin as tp; tp.configure(endpoint='{receiver.endpoint}')" + USE_ALL_THREE,
        OTEL_SDK_DISABLED="true",
    )

    assert (done.returncode, receiver.requests) == (0, [])


def test_the_console_is_an_exporter_too() -> None:
    done = run(
        "import tokenomics_plugin as tp; tp.configure()" + USE_ALL_THREE,
        OTEL_TRACES_EXPORTER="console",
        OTEL_LOGS_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
    )

    assert '"tokenomics.task.id": "t1"' in done.stdout


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", ""])
def test_the_protocol_decides_the_exporter(variable: str) -> None:
    program = """
        import tokenomics_plugin as tp
        telemetry = tp.configure(PROTOCOL)
        processor = telemetry.tracer_provider._active_span_processor._span_processors[0]
        print(type(processor.span_exporter).__module__)
    """
    environment = {"OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}

    if variable:
        done = run(program.replace("PROTOCOL", ""), **environment, **{variable: "grpc"})
    else:
        done = run(program.replace("PROTOCOL", "protocol='grpc'"), **environment)

    assert ".grpc." in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon"}, "must be one of http/protobuf, grpc, got 'carrier-pigeon'"),
        ({"OTEL_TRACES_EXPORTER": "zipkn"}, "no opentelemetry traces exporter is called 'zipkn'"),
    ],
    ids=["protocol", "exporter"],
)
def test_a_name_that_does_not_exist_is_said(variables: dict[str, str], message: str) -> None:
    done = run("import tokenomics_plugin as tp; tp.configure()", **variables)

    assert message in done.stderr


def test_an_applications_providers_are_kept(receiver: Received) -> None:
    done = run(
        """
        from opentelemetry import metrics, trace
        from opentelemetry._logs import get_logger_provider, set_logger_provider
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        import tokenomics_plugin as tp

        mine = TracerProvider(), LoggerProvider(), MeterProvider()
        trace.set_tracer_provider(mine[0]); set_logger_provider(mine[1]); metrics.set_meter_provider(mine[2])
        telemetry = tp.configure(service_name="ignored")
        now = trace.get_tracer_provider(), get_logger_provider(), metrics.get_meter_provider()
        with tp.task("t1"):
            span = trace.get_tracer("app").start_span("work")
        print(all(a is b for a, b in zip(mine, now)), span.attributes["tokenomics.task.id"])
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
    )

    assert (done.stdout, done.stderr) == ("True t1\n", "")
    assert receiver.requests == []


def test_an_endpoint_in_code_adds_a_copy_to_an_applications_provider(receiver: Received) -> None:
    run(f"""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        import tokenomics_plugin as tp

        trace.set_tracer_provider(TracerProvider())
        tp.configure(endpoint="{receiver.endpoint}")
        tp.configure(endpoint="{receiver.endpoint}")
        trace.get_tracer("app").start_span("work").end()
        """)

    (resource,) = receiver.trace_request().resource_spans
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["work"]


def test_shutting_down_leaves_an_applications_provider_working(receiver: Received) -> None:
    done = run(f"""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        import tokenomics_plugin as tp

        trace.set_tracer_provider(TracerProvider())
        tp.configure(endpoint="{receiver.endpoint}").shutdown()
        print(trace.get_tracer("app").start_span("work").is_recording())
        """)

    assert done.stdout == "True\n", done.stderr


def test_a_failed_call_can_be_corrected(receiver: Received) -> None:
    done = run(
        f"""
        import os
        import tokenomics_plugin as tp
        try:
            tp.configure()
        except tp.TokenomicsError as error:
            os.environ["OTEL_TRACES_EXPORTER"] = "otlp"
            tp.configure(endpoint="{receiver.endpoint}")
        """
        + textwrap.indent(USE_ALL_THREE, " " * 8),
        OTEL_TRACES_EXPORTER="zipkn",
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "/v1/traces" in receiver.paths()


def test_flushing_sends_before_the_program_ends(receiver: Received) -> None:
    done = run(f"""
        import os
        import tokenomics_plugin as tp
        telemetry = tp.configure(endpoint="{receiver.endpoint}")
        {"tp.task('t1').__enter__().succeed()"}
        print(telemetry.force_flush(), flush=True)
        os._exit(0)
        """)

    assert done.stdout == "True\n"
    assert receiver.paths() >= {"/v1/traces", "/v1/logs"}

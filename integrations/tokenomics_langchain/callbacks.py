"""The callback handler: LangChain and LangGraph runs as OpenTelemetry spans.

It only listens. It changes nothing in the traced program, attaches no context, and no failure of its own
leaves it: every callback is guarded at one boundary. It runs inline, because under an async program
LangChain would otherwise move each event to a thread pool, at ten times the cost and in another context.

What a run looks like is decided in `chains`, which runs are open in `runs`, and what a span says in
`attributes` and `messages`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langgraph.callbacks import GraphCallbackHandler
from langgraph.errors import GraphBubbleUp
from opentelemetry import trace
from opentelemetry.semconv.attributes.exception_attributes import EXCEPTION_MESSAGE, EXCEPTION_TYPE
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from tokenomics_langchain.attributes import (
    Attributes,
    known,
    model_span_kind,
    request_attributes,
    response_attributes,
    tool_attributes,
)
from tokenomics_langchain.chains import agent_name, chain_kind, graph_kind, is_step, workflow_name
from tokenomics_langchain.messages import (
    documents_content,
    input_content,
    output_content,
    prompt_content,
    state_input_content,
    state_output_content,
    to_json,
)
from tokenomics_langchain.runs import ChainKind, Run, Runs
from tokenomics_plugin import semconv
from tokenomics_plugin.version import package_version

__all__ = ["TokenomicsCallbackHandler"]

_LOGGER = logging.getLogger(__name__)
_MAX_OPEN_RUNS: Final = 10_000
_CONTENT_ON_SPANS: Final = frozenset({"span_only", "span_and_event", "true"})
# An interrupt, a hand-off or a drained graph is how LangGraph moves control; a closed stream is the caller's choice.
_CONTROL_FLOW: Final = (GraphBubbleUp, GeneratorExit)
_GRAPHS: Final = (ChainKind.WORKFLOW, ChainKind.AGENT)
# Backends tell the kind of other spans by their operation, but know no such operations.
_SHOWN_AS_CHAIN: Final = (semconv.OPENINFERENCE_SPAN_KIND, "CHAIN")
_Callback = TypeVar("_Callback", bound=Callable[..., None])


def _guarded(callback: _Callback) -> _Callback:
    """The one boundary between tracing and the traced program: what fails here is logged, once, and dropped."""

    @wraps(callback)
    def guarded(self: TokenomicsCallbackHandler, *args: Any, **kwargs: Any) -> None:
        try:
            callback(self, *args, **kwargs)
        except Exception as error:
            self._report_failure(callback.__name__, error)

    return cast(_Callback, guarded)


class TokenomicsCallbackHandler(GraphCallbackHandler):
    """Traces every run that it is given to, as `config={"callbacks": [TokenomicsCallbackHandler()]}`.

    Workflows, agents, graph nodes, model calls, tools and retrievals get a span; other runnables do not, and
    their children attach to the nearest span above. One handler may serve any number of concurrent runs,
    threads and event loops. Spans carry names, numbers and settings; prompts, answers, arguments, results
    and error texts only when content is captured.

    Args:
        tracer_provider: Where spans go; the global provider by default.
        capture_content: Whether user content goes on the spans. By default the conventions' variable
            `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` decides, read once, here: `SPAN_ONLY` and
            `SPAN_AND_EVENT` capture, anything else does not.
    """

    raise_error = False
    run_inline = True

    def __init__(self, tracer_provider: TracerProvider | None = None, *, capture_content: bool | None = None) -> None:
        super().__init__()
        tracer = trace.get_tracer(
            "tokenomics_langchain",
            package_version(),
            tracer_provider,
            schema_url=semconv.SCHEMA_URL,
        )
        self._runs = Runs(tracer, max_open=_MAX_OPEN_RUNS)
        self._captures_content = _asked_for_content() if capture_content is None else capture_content
        self._graph_lock = threading.Lock()
        self._reported: set[str] = set()

    # Chains: workflows, agents, nodes, and parts that get no span

    @_guarded
    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **_: Any,
    ) -> None:
        """Show a workflow, an agent or a node; remember any other runnable as a part."""
        run = self._runs.begin(run_id, parent_run_id, name=name, metadata=metadata)
        run.inputs = inputs if self._captures_content else None
        if run.parent is not None and run.parent.span is None and is_step(tags or ()):
            self._show_graph(run.parent, first_node=name)
        run.chain_kind = chain_kind(run, tags or ())
        self._show_chain(run)

    @_guarded
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """End the span of a chain run."""
        run = self._runs.find(run_id)
        is_graph = run is not None and run.chain_kind in _GRAPHS
        self._end(run_id, content=lambda: state_output_content(outputs) if is_graph else {})

    @_guarded
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the span of a chain run that raised."""
        self._end(run_id, error=error)

    # Models

    @_guarded
    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Show a call of a chat model."""
        run = self._start_model(semconv.OPERATION_CHAT, serialized, run_id, **kwargs)
        self._add_content(run, lambda: input_content(messages[0]))

    @_guarded
    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any) -> None:
        """Show a call of a text completion model."""
        run = self._start_model(semconv.OPERATION_TEXT_COMPLETION, serialized, run_id, **kwargs)
        self._add_content(run, lambda: prompt_content(prompts))

    @_guarded
    def on_llm_new_token(self, token: Any, *, run_id: UUID, **_: Any) -> None:
        """Note when the first chunk of a stream arrived."""
        self._note_chunk(run_id)

    @_guarded
    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        """Note when the first event of a `version="v3"` stream arrived."""
        self._note_chunk(run_id)

    @_guarded
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """End the span of a model call with what the response says about itself."""
        self._end(run_id, attributes=lambda: response_attributes(response), content=lambda: output_content(response))

    @_guarded
    def on_llm_error(self, error: BaseException, *, run_id: UUID, response: LLMResult | None = None, **_: Any) -> None:
        """End the span of a model call that raised; a broken stream still tells what it brought."""
        partial = LLMResult(generations=[]) if response is None else response
        self._end(
            run_id,
            error=error,
            attributes=lambda: response_attributes(partial),
            content=lambda: output_content(partial),
        )

    # Tools and retrievers

    @_guarded
    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        name: str | None = None,
        **_: Any,
    ) -> None:
        """Show the execution of a tool."""
        run = self._runs.begin(run_id, parent_run_id, name=(serialized or {}).get("name", name), metadata=metadata)
        attributes = tool_attributes(run.name, description=(serialized or {}).get("description"), call_id=tool_call_id)
        self._runs.show(run, _span_name(semconv.OPERATION_EXECUTE_TOOL, run.name), attributes)
        arguments = input_str if inputs is None else inputs
        self._add_content(run, lambda: {semconv.GEN_AI_TOOL_CALL_ARGUMENTS: to_json(arguments)})

    @_guarded
    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """End the span of a tool."""
        self._end(run_id, content=lambda: {semconv.GEN_AI_TOOL_CALL_RESULT: to_json(output)})

    @_guarded
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the span of a tool that raised."""
        self._end(run_id, error=error)

    @_guarded
    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **_: Any,
    ) -> None:
        """Show a retrieval; LangChain does not name the data source, so neither does the span."""
        run = self._runs.begin(run_id, parent_run_id, name=name, metadata=metadata)
        operation = semconv.OPERATION_RETRIEVAL
        self._runs.show(run, operation, {semconv.GEN_AI_OPERATION_NAME: operation}, kind=SpanKind.CLIENT)
        self._add_content(run, lambda: {semconv.GEN_AI_RETRIEVAL_QUERY_TEXT: query})

    @_guarded
    def on_retriever_end(self, documents: Sequence[Document], *, run_id: UUID, **_: Any) -> None:
        """End the span of a retrieval."""
        self._end(run_id, content=lambda: documents_content(documents))

    @_guarded
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the span of a retrieval that raised."""
        self._end(run_id, error=error)

    # How each kind of run is shown

    def _show_graph(self, graph: Run, *, first_node: str | None) -> None:
        """Show a run that took itself for a part until its first node started."""
        with self._graph_lock:  # first nodes that run in parallel start in several threads
            if graph.span is None:
                graph.chain_kind = graph_kind(graph, first_node=first_node)
                self._show_chain(graph)

    def _show_chain(self, run: Run) -> None:
        match run.chain_kind:
            case ChainKind.WORKFLOW:
                self._show_workflow(run)
            case ChainKind.AGENT:
                self._show_agent(run)
            case ChainKind.NODE:
                self._show_node(run)
        if run.chain_kind in _GRAPHS:
            self._add_content(run, lambda: state_input_content(run.inputs))

    def _show_workflow(self, run: Run) -> None:
        operation, name = semconv.OPERATION_INVOKE_WORKFLOW, workflow_name(run)
        attributes = known(
            (semconv.GEN_AI_OPERATION_NAME, operation), (semconv.GEN_AI_WORKFLOW_NAME, name), _SHOWN_AS_CHAIN
        )
        self._runs.show(run, _span_name(operation, name), attributes)

    def _show_agent(self, run: Run) -> None:
        operation, run.agent_name = semconv.OPERATION_INVOKE_AGENT, agent_name(run)
        self._runs.show(run, _span_name(operation, run.agent_name), {semconv.GEN_AI_OPERATION_NAME: operation})

    def _show_node(self, run: Run) -> None:
        operation, step = semconv.OPERATION_RUN_NODE, run.metadata.get("langgraph_step")
        attributes = known(
            (semconv.GEN_AI_OPERATION_NAME, operation),
            (semconv.NODE_NAME, run.name),
            (semconv.NODE_STEP, step),
            _SHOWN_AS_CHAIN,
        )
        self._runs.show(run, _span_name(operation, run.name), attributes)

    def _start_model(
        self,
        operation: str,
        serialized: Mapping[str, Any],
        run_id: UUID,
        *,
        parent_run_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
        invocation_params: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Run:
        run = self._runs.begin(run_id, parent_run_id, name=None, metadata=metadata)
        attributes = request_attributes(
            operation,
            metadata=run.metadata,
            params=invocation_params or {},
            options=options or {},
            serialized=serialized or {},
        )
        name = _span_name(operation, attributes.get(semconv.GEN_AI_REQUEST_MODEL))
        self._runs.show(run, name, attributes, kind=model_span_kind(run.metadata))
        return run

    def _note_chunk(self, run_id: UUID) -> None:
        run = self._runs.find(run_id)
        if run is None or run.span is None or run.has_streamed:
            return
        run.has_streamed = True
        waited_s = (time.perf_counter_ns() - run.started_clock_ns) / 1e9
        run.span.set_attributes(
            {semconv.GEN_AI_REQUEST_STREAM: True, semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: waited_s}
        )

    def _add_content(self, run: Run, describe: Callable[[], Attributes]) -> None:
        if self._captures_content and run.span is not None and run.span.is_recording():
            run.span.set_attributes(describe())

    def _end(
        self,
        run_id: UUID,
        *,
        error: BaseException | None = None,
        attributes: Callable[[], Attributes] = dict,
        content: Callable[[], Attributes] = dict,
    ) -> None:
        run = self._runs.finish(run_id)
        if run is None or run.span is None:
            return
        try:
            if run.span.is_recording():
                self._mark_outcome(run.span, error)
                run.span.set_attributes(attributes())
                self._add_content(run, content)
        finally:
            run.span.end()

    def _mark_outcome(self, span: Span, error: BaseException | None) -> None:
        if error is None or isinstance(error, _CONTROL_FLOW):
            return
        kind = type(error)
        span.set_attribute(semconv.ERROR_TYPE, kind.__qualname__)
        # An error's text repeats what the tool or the model was given, so it is content.
        message = str(error) if self._captures_content else None
        span.set_status(Status(StatusCode.ERROR, message))
        span.add_event("exception", known((EXCEPTION_TYPE, _full_name(kind)), (EXCEPTION_MESSAGE, message)))

    def _report_failure(self, callback: str, error: Exception) -> None:
        if callback not in self._reported:
            self._reported.add(callback)
            # The error's text may hold content, and logs are exported too: the traceback is for debugging only.
            _LOGGER.warning(
                "%s failed with %s; the traced program is not affected, its trace is incomplete. Logged once.",
                callback,
                type(error).__qualname__,
                exc_info=_LOGGER.isEnabledFor(logging.DEBUG),
            )


def _span_name(operation: str, name: object) -> str:
    return f"{operation} {name}" if name else operation


def _full_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _asked_for_content() -> bool:
    return os.environ.get(semconv.CAPTURE_CONTENT_VARIABLE, "").strip().lower() in _CONTENT_ON_SPANS

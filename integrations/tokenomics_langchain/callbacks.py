"""The callback handler: LangChain and LangGraph runs as OpenTelemetry spans.

It only listens. It changes nothing in the traced program, and no failure of its own leaves it: every
callback is a boundary, which logs what fails, once, and drops it. (A decorator would do the same for twice
the cost of calling it.) It runs inline, because under an async program LangChain would
otherwise move each event to a thread pool, at ten times the cost and in another context.

This module is the edge to LangChain: it reads the clock, makes a run's context current, and queues what it was told.
What that becomes is decided in `recorder`, a little later.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from time import perf_counter_ns
from typing import Any, Final, Self
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langgraph.callbacks import GraphCallbackHandler, GraphInterruptEvent, GraphResumeEvent
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from tokenomics_langchain.ambient import AmbientSpan
from tokenomics_langchain.backlog import drain_all
from tokenomics_langchain.chains import branch_name, is_step, is_surely_agent
from tokenomics_langchain.content import ContentCapture, Redaction
from tokenomics_langchain.context import Carried
from tokenomics_langchain.events import CallEvents
from tokenomics_langchain.live_runs import LiveRun
from tokenomics_langchain.messages import input_content, prompt_content
from tokenomics_langchain.metrics import MetricsGeneration, metrics_of
from tokenomics_langchain.moments import Moment
from tokenomics_langchain.on_demand import OnDemandHandler
from tokenomics_langchain.plans import Planner, Planners, PlanSchema
from tokenomics_langchain.providers import shared_by, tracer_of
from tokenomics_langchain.recorder import Recorder
from tokenomics_langchain.runs import NodeRole, Run
from tokenomics_langchain.steps import declared_step_kinds
from tokenomics_plugin import semconv
from tokenomics_plugin.fingerprint import FingerprintKeys

__all__ = ["TokenomicsCallbackHandler"]

_LOGGER = logging.getLogger(__name__)
_MODEL_NODE: Final = NodeRole.MODEL.value
_AGENT_NODES: Final = frozenset(role.value for role in NodeRole)


class TokenomicsCallbackHandler(GraphCallbackHandler):
    """Traces every run that it is given to, as `config={"callbacks": [TokenomicsCallbackHandler()]}`.

    Workflows, agents, graph nodes, model calls, tools and retrievals get a span; other runnables do not, and
    their children attach to the nearest span above. One handler may serve any number of concurrent runs,
    threads and event loops, and several handlers of one provider record a run once. Spans carry names,
    numbers, settings and keyed fingerprints; prompts, answers, arguments, results and error texts only when
    content is captured.

    Args:
        tracer_provider: Where spans go; the global provider by default.
        meter_provider: Where metrics go; the global provider by default.
        logger_provider: Where log events go; the global provider by default.
        metrics: Which names metrics have; by default `TOKENOMICS_METRICS_GENERATION` says, read once, here.
        capture_content: Whether user content goes on the spans. By default the conventions' variable
            `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` decides, read once, here.
        redact: What content passes before it leaves the process.
        fingerprint_keys: Keys of the fingerprints that stand for content; by default those of the secret in
            `TOKENOMICS_FINGERPRINT_SECRET`, read here.
        planners: Nodes and schemas whose output is a plan.
        step_kinds: Node names to `plan`, `act`, `observe`, `reflect`, `verify` or `answer`.
        max_open_runs: Number of open runs at which the oldest tree of runs is given up; the first handler
            of a provider decides.
        idle_limit_s: Seconds without an event after which a tree of runs is given up; likewise.
    """

    raise_error = False
    run_inline = True
    # As properties, which they are in the class above, they would be called for every event.
    ignore_llm = False
    ignore_chain = False
    ignore_agent = False
    ignore_retriever = False
    ignore_chat_model = False

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        *,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        metrics: MetricsGeneration | None = None,
        capture_content: bool | None = None,
        redact: Redaction | None = None,
        fingerprint_keys: FingerprintKeys | None = None,
        planners: Iterable[Planner | PlanSchema] = (),
        step_kinds: Mapping[str, str] | None = None,
        max_open_runs: int = 10_000,
        idle_limit_s: float = 7_200.0,
    ) -> None:
        super().__init__()
        self._reported: set[str] = set()
        capture = (
            ContentCapture.from_environment(redact)
            if capture_content is None
            else ContentCapture(on_spans=capture_content, redact=redact)
        )
        shared = shared_by(tracer_provider, max_open=max_open_runs, idle_limit_s=idle_limit_s)
        self._shared, self._runs, self._live = shared, shared.runs, shared.runs.live
        self.model_starts: Callable[[UUID], None] | None = None
        """Told of every call of a chat model that starts, once it is recorded."""
        declared = Planners(planners)
        # Content and plans are read when they are reported: they may be of any size, and may change.
        self._is_prompt = bool(capture) or bool(declared)
        self._recorder = Recorder(
            tracer_of(tracer_provider),
            shared=shared,
            capture=capture,
            metrics=metrics_of(meter_provider, metrics or MetricsGeneration.from_environment()),
            events=CallEvents(logger_provider, redact=redact),
            fingerprint_keys=fingerprint_keys or FingerprintKeys.from_environment(),
            planners=declared,
            step_kinds=declared_step_kinds(step_kinds),
            report=self._report_failure,
        )
        # Bound once: one of its own for every event that waits would have the garbage collector run more often.
        recorder, self._report = self._recorder, self._recorder.report
        self._chain_started, self._chain_ended = recorder.chain_started, recorder.chain_ended
        self._model_started, self._model_ended = recorder.model_started, recorder.model_ended
        self._tool_started, self._tool_ended = recorder.tool_started, recorder.tool_ended

    @property
    def open_runs(self) -> int:
        """Number of runs that have started and not ended, of all handlers of the provider."""
        drain_all()
        return len(self._runs)

    @cached_property
    def on_demand(self) -> OnDemandHandler:
        """Hears everything, and has this handler record only the trees that `follow` asks for."""
        return OnDemandHandler(self)

    def follow(self, run_id: UUID | None) -> None:
        """Record the tree that a run belongs to, from its start on, if `on_demand` has heard of it."""
        self.on_demand.follow(run_id)

    def find(self, run_id: UUID | None) -> Run | None:
        """An open run; `None` when it has ended, or nobody records it."""
        if (live := self._live.find(run_id)) is None:
            return None
        live.backlog.drain()
        return self._runs.find(run_id)

    def find_live(self, run_id: UUID | None) -> LiveRun | None:
        """The same as it was heard, with less to be known of it for now."""
        return self._live.find(run_id)

    def remembers_interruption(self, thread_id: str | None, checkpoint_id: str) -> bool:
        """Whether a run that was interrupted there was recorded in this process."""
        return self._recorder.remembers_interruption(thread_id, checkpoint_id)

    def __copy__(self) -> Self:
        """The same: whoever copies a model or a configuration goes on with the same traces."""
        return self

    def __deepcopy__(self, _: object) -> Self:
        """The same, likewise."""
        return self

    def is_recording(self, run_id: UUID | None) -> bool:
        """Whether a run is open that this handler, or another one of its provider, records."""
        return self._live.find(run_id) is not None

    # Chains

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
        moment: Moment | None = None,
        **_: Any,
    ) -> None:
        """A chain, in LangChain's wide sense, starts."""
        try:
            live = self._begin(run_id, parent_run_id, moment or Moment.now())
            if live is None:
                return
            tags, metadata, parent = tags or [], metadata or {}, live.parent
            is_node = is_step(tags)
            if is_node:
                live.is_model_node = name == _MODEL_NODE
                # An agent's own two show no span, so there is none that could be current in them.
                if parent is None or not parent.is_agent or name not in _AGENT_NODES:
                    _attach(live)
            elif branch_name(tags) is not None or name == metadata.get("langgraph_node"):
                _attach(live)
            else:
                live.is_agent = is_surely_agent(name, tags, metadata, is_outermost=parent is None)
            self._add(live, self._chain_started, live, name, inputs, tags, metadata)
            if is_node and "ls_integration" not in metadata:
                live.backlog.drain()  # before the node changes its state in place
        except Exception as error:
            self._report_failure("on_chain_start", error)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, clock_ns: int | None = None, **_: Any) -> None:
        """A chain has ended."""
        try:
            self._end(run_id, self._chain_ended, outputs, clock_ns or perf_counter_ns())
        except Exception as error:
            self._report_failure("on_chain_end", error)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, clock_ns: int | None = None, **_: Any) -> None:
        """A chain has raised."""
        try:
            self._end(run_id, self._recorder.failed, error, clock_ns or perf_counter_ns())
        except Exception as error:
            self._report_failure("on_chain_error", error)

    # Models

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        moment: Moment | None = None,
        **said: Any,
    ) -> None:
        """A call of a chat model starts."""
        try:
            sent = messages[0]
            if (live := self._begin(run_id, parent_run_id, moment or Moment.now())) is not None:
                content = partial(input_content, sent)
                self._start_model(live, semconv.OPERATION_CHAT, serialized, sent, Carried.now(sent), content, said)
            if self.model_starts is not None:
                self.model_starts(run_id)
        except Exception as error:
            self._report_failure("on_chat_model_start", error)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        moment: Moment | None = None,
        **said: Any,
    ) -> None:
        """A call of a text completion model starts."""
        try:
            if (live := self._begin(run_id, parent_run_id, moment or Moment.now())) is not None:
                content = partial(prompt_content, prompts)
                self._start_model(live, semconv.OPERATION_TEXT_COMPLETION, serialized, prompts, None, content, said)
        except Exception as error:
            self._report_failure("on_llm_start", error)

    def on_llm_new_token(
        self, token: Any, *, run_id: UUID, chunk: Any = None, clock_ns: int | None = None, **_: Any
    ) -> None:
        """A chunk of a stream has arrived."""
        try:
            usage = getattr(getattr(chunk, "message", None), "usage_metadata", None)
            text = token if isinstance(token, str) and token else _call_text(chunk)
            self._note_chunk(run_id, chunk or object(), text, usage, clock_ns or perf_counter_ns())
        except Exception as error:
            self._report_failure("on_llm_new_token", error)

    def on_stream_event(self, event: Any, *, run_id: UUID, clock_ns: int | None = None, **_: Any) -> None:
        """An event of a `version="v3"` stream has arrived."""
        try:
            self._note_chunk(run_id, event, "", None, clock_ns or perf_counter_ns())
        except Exception as error:
            self._report_failure("on_stream_event", error)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, clock_ns: int | None = None, **_: Any) -> None:
        """A call of a model has ended."""
        try:
            self._end(run_id, self._model_ended, response, clock_ns or perf_counter_ns())
        except Exception as error:
            self._report_failure("on_llm_end", error)

    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        response: LLMResult | None = None,
        clock_ns: int | None = None,
        **_: Any,
    ) -> None:
        """A call of a model has raised, or its stream was closed."""
        try:
            self._end(run_id, self._recorder.model_failed, error, response, clock_ns or perf_counter_ns())
        except Exception as error:
            self._report_failure("on_llm_error", error)

    # Tools and retrievers

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        name: str | None = None,
        moment: Moment | None = None,
        **_: Any,
    ) -> None:
        """A tool starts."""
        try:
            live = self._begin(run_id, parent_run_id, moment or Moment.now())
            if live is None:
                return
            _attach(live)
            about = serialized or {}
            self._add(
                live,
                self._tool_started,
                live,
                about.get("name", name),
                about.get("description"),
                tool_call_id,
                input_str if inputs is None else inputs,
                tags or (),
                metadata or {},
            )
        except Exception as error:
            self._report_failure("on_tool_start", error)

    def on_tool_end(self, output: Any, *, run_id: UUID, clock_ns: int | None = None, **_: Any) -> None:
        """A tool has ended."""
        try:
            self._end(run_id, self._tool_ended, output, clock_ns or perf_counter_ns())
        except Exception as error:
            self._report_failure("on_tool_end", error)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, clock_ns: int | None = None, **_: Any) -> None:
        """A tool has raised."""
        try:
            self._end(run_id, self._recorder.failed, error, clock_ns or perf_counter_ns())
        except Exception as error:
            self._report_failure("on_tool_error", error)

    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        moment: Moment | None = None,
        **_: Any,
    ) -> None:
        """A retrieval starts."""
        try:
            live = self._begin(run_id, parent_run_id, moment or Moment.now())
            if live is None:
                return
            self._add(
                live,
                self._recorder.retrieval_started,
                live,
                name,
                tags or (),
                metadata or {},
                lambda: {semconv.GEN_AI_RETRIEVAL_QUERY_TEXT: query},
            )
        except Exception as error:
            self._report_failure("on_retriever_start", error)

    def on_retriever_end(
        self, documents: Sequence[Document], *, run_id: UUID, clock_ns: int | None = None, **_: Any
    ) -> None:
        """A retrieval has ended."""
        try:
            self._end(run_id, self._recorder.retrieval_ended, documents, clock_ns or perf_counter_ns())
        except Exception as error:
            self._report_failure("on_retriever_end", error)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, clock_ns: int | None = None, **_: Any) -> None:
        """A retrieval has raised."""
        try:
            self._end(run_id, self._recorder.failed, error, clock_ns or perf_counter_ns())
        except Exception as error:
            self._report_failure("on_retriever_error", error)

    # Graphs

    def on_interrupt(self, event: GraphInterruptEvent, **_: Any) -> None:
        """A graph stops, to be resumed."""
        try:
            if (live := self._live.find(event.run_id)) is not None:
                count = len(event.interrupts)
                self._add(live, self._recorder.interrupted, live.run_id, event.checkpoint_id, count)
        except Exception as error:
            self._report_failure("on_interrupt", error)

    def on_resume(self, event: GraphResumeEvent, **_: Any) -> None:
        """A graph goes on where it had stopped."""
        try:
            if (live := self._live.find(event.run_id)) is not None:
                self._add(live, self._recorder.resumed, live.run_id, event.checkpoint_id, perf_counter_ns())
        except Exception as error:
            self._report_failure("on_resume", error)

    def _start_model(
        self,
        live: LiveRun,
        operation: str,
        serialized: dict[str, Any],
        inputs: Sequence[Any],
        carried: Carried | None,
        content: Callable[[], dict[str, Any]],
        said: Mapping[str, Any],
    ) -> None:
        """Have a model call recorded, of which LangChain said what both kinds have in common."""
        if live.parent is not None and live.parent.is_model_node:
            _attach(live)
        self._add(
            live,
            self._model_started,
            operation,
            live,
            serialized or {},
            inputs,
            said.get("invocation_params") or {},
            said.get("options") or {},
            said.get("tags") or (),
            said.get("metadata") or {},
            carried,
            content,
        )

    def _note_chunk(self, run_id: UUID, chunk: Any, text: str, usage: Mapping[str, Any] | None, clock_ns: int) -> None:
        live = self._live.find(run_id)
        if live is not None and live.owner is self:
            self._add(live, self._recorder.chunk_arrived, run_id, chunk, text, usage, clock_ns)

    # What all have in common

    def _begin(self, run_id: UUID, parent_run_id: UUID | None, moment: Moment) -> LiveRun | None:
        live = self._live.begin(run_id, parent_run_id, moment, self)
        if live is not None and live.parent is None:
            self._shared.watch_provider()
        return live

    def _add(self, live: LiveRun, step: Callable[..., None], *args: Any) -> None:
        """Have an event recorded when that costs less; what must not wait is recorded now."""
        live.backlog.add((self._report, step, args))
        if self._is_prompt:
            live.backlog.drain()

    def _end(self, run_id: UUID, step: Callable[..., None], *args: Any) -> None:
        live = self._live.end(run_id)
        if live is None:
            return
        live.backlog.add((self._report, step, (run_id, *args)))
        if self._is_prompt or live.parent is None or live.parent.has_ended:
            live.backlog.drain()

    def _report_failure(self, callback: str, error: Exception) -> None:
        if callback not in self._reported:
            self._reported.add(callback)
            # The error's text may hold content, and logs are exported too.
            _LOGGER.warning(
                "%s failed with %s; the traced program is not affected, its trace is incomplete. Logged once.",
                callback,
                type(error).__qualname__,
            )
            _LOGGER.debug("where it failed:\n%s", "".join(traceback.format_tb(error.__traceback__)))


def _attach(live: LiveRun) -> None:
    """Make the context current in which a run's span may turn out to be."""
    if live.started.is_live:
        live.ambient = AmbientSpan.attach(live, live.started.context)


def _call_text(chunk: Any) -> str:
    """What a chunk adds to the arguments of tool calls: output like any other."""
    calls = getattr(getattr(chunk, "message", None), "tool_call_chunks", None) or ()
    return "".join(call.get("args") or "" for call in calls)

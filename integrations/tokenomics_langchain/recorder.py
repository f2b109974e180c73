"""From LangChain's events to spans: what each kind of run is shown as, and what its span says at its end.

Every event has one method here. What the pieces mean is decided elsewhere: `chains` tells chain runs apart,
`endings` errors from control flow, `attempts` retries, `interrupts` replays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables.config import var_child_runnable_config
from opentelemetry.semconv.attributes.exception_attributes import EXCEPTION_MESSAGE, EXCEPTION_TYPE
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from tokenomics_langchain.ambient import AmbientSpan
from tokenomics_langchain.attempts import (
    await_repair,
    begin_attempt,
    keep_answer,
    keep_attempt,
    name_operation,
    release_attempts,
)
from tokenomics_langchain.attributes import (
    Attributes,
    estimated_usage,
    is_cache_hit,
    known,
    model_span_kind,
    request_attributes,
    response_attributes,
    token_usage,
    tool_attributes,
)
from tokenomics_langchain.chains import (
    agent_name,
    branch_name,
    chain_kind,
    graph_kind,
    is_fallbacks,
    is_step,
    node_role,
    workflow_name,
)
from tokenomics_langchain.content import ContentCapture
from tokenomics_langchain.endings import ABANDONED, COMPLETED, Ending, RunState, ending_of
from tokenomics_langchain.interrupts import Interruption
from tokenomics_langchain.messages import (
    documents_content,
    output_content,
    state_input_content,
    state_output_content,
    to_json,
)
from tokenomics_langchain.outputs import messages_of, target_of
from tokenomics_langchain.providers import Shared
from tokenomics_langchain.runs import (
    GraphFacts,
    Moment,
    NodeFacts,
    NodeRole,
    Run,
    RunKind,
    Runs,
    Stream,
    Tree,
    surroundings,
)
from tokenomics_plugin import semconv
from tokenomics_plugin.usage import TokenUsage

__all__ = ["Recorder"]

_GRAPHS: Final = (RunKind.WORKFLOW, RunKind.AGENT)
_TOOL_ERROR: Final = "tool_error"
_UNKNOWN_TOOL: Final = "unknown_tool"
# Backends tell the kind of other spans by their operation, but know no such operations.
_SHOWN_AS_CHAIN: Final = (semconv.OPENINFERENCE_SPAN_KIND, "CHAIN")


class Recorder:
    """Records runs as spans of one tracer.

    Args:
        tracer: Makes the spans.
        shared: What the recorders of a provider share.
        capture: Where content goes.
    """

    def __init__(self, tracer: Tracer, *, shared: Shared, capture: ContentCapture) -> None:
        self._tracer = tracer
        self._shared = shared
        self._runs = shared.runs
        self._capture = capture
        self._graph_lock = threading.Lock()

    # Chains: workflows, agents, nodes, branches, and parts that get no span

    def chain_started(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        *,
        name: str | None,
        inputs: Any,
        tags: Sequence[str],
        metadata: Mapping[str, Any],
        moment: Moment,
    ) -> None:
        """Show a workflow, an agent, a node or a branch; remember any other runnable as a part."""
        run = self._begin(RunKind.PART, run_id, parent_run_id, name, tags, metadata, moment)
        if run is None:
            return
        if run.parent is not None and is_step(tags):
            self._show_graph(run.parent, first_node=name)
            run.graph, run.agent_name = run.parent.graph, run.parent.agent_name
        run.kind, run.role, run.is_fallbacks = chain_kind(run), node_role(run), is_fallbacks(run)
        run.inputs = inputs
        if run.role is not None:
            run.as_node = NodeFacts()
        self._show_chain(run)

    def chain_ended(self, run_id: UUID, outputs: Any, moment: Moment) -> None:
        """End a chain run."""
        self._end(run_id, COMPLETED, moment, outputs=outputs)

    def _show_graph(self, graph: Run, *, first_node: str | None) -> None:
        """Show a run as a graph that took itself for something else until its first node started."""
        if graph.kind in _GRAPHS and graph.span is not None:
            return
        with self._graph_lock:  # first nodes that run in parallel start in several threads
            if graph.kind in (RunKind.PART, RunKind.BRANCH):
                graph.kind = graph_kind(graph, first_node=first_node)
                self._show_chain(graph)

    def _show_chain(self, run: Run) -> None:
        match run.kind:
            case RunKind.WORKFLOW:
                self._show_workflow(run)
            case RunKind.AGENT:
                self._show_agent(run)
            case RunKind.NODE:
                self._show_node(run)
            case RunKind.BRANCH:
                self._show_branch(run)
            case _:
                begin_attempt(run)

    def _show_workflow(self, run: Run) -> None:
        run.graph, run.as_graph = run, GraphFacts()
        operation, name = semconv.OPERATION_INVOKE_WORKFLOW, workflow_name(run)
        attributes = known(
            (semconv.GEN_AI_OPERATION_NAME, operation), (semconv.GEN_AI_WORKFLOW_NAME, name), _SHOWN_AS_CHAIN
        )
        self._show_attempt(run, _span_name(operation, name), attributes)
        self._add_content(run, lambda: state_input_content(run.inputs))

    def _show_agent(self, run: Run) -> None:
        run.graph, run.as_graph, run.agent_name = run, GraphFacts(), agent_name(run)
        operation = semconv.OPERATION_INVOKE_AGENT
        links = _taken_over(run)
        self._show_attempt(
            run, _span_name(operation, run.agent_name), {semconv.GEN_AI_OPERATION_NAME: operation}, links=links
        )
        self._add_content(run, lambda: state_input_content(run.inputs))

    def _show_node(self, run: Run) -> None:
        operation, step = semconv.OPERATION_RUN_NODE, run.metadata.get("langgraph_step")
        attributes = known(
            (semconv.GEN_AI_OPERATION_NAME, operation),
            (semconv.NODE_NAME, run.name),
            (semconv.NODE_STEP, step),
            _SHOWN_AS_CHAIN,
        )
        run.as_node = NodeFacts()
        key = (RunKind.NODE, run.metadata.get("langgraph_checkpoint_ns"))
        self._show_attempt(run, _span_name(operation, run.name), attributes, key=key, links=_taken_over(run))
        self._attach(run)

    def _show_branch(self, run: Run) -> None:
        operation, name = semconv.OPERATION_RUN_BRANCH, branch_name(run.tags)
        attributes = known((semconv.GEN_AI_OPERATION_NAME, operation), (semconv.BRANCH_NAME, name), _SHOWN_AS_CHAIN)
        self._show_attempt(run, _span_name(operation, name), attributes)
        self._attach(run)

    # Models

    def model_started(
        self,
        operation: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        *,
        serialized: Mapping[str, Any],
        inputs: Sequence[Any],
        params: Mapping[str, Any],
        options: Mapping[str, Any],
        tags: Sequence[str],
        metadata: Mapping[str, Any],
        content: Callable[[], Attributes],
        moment: Moment,
    ) -> None:
        """Show a call of a model."""
        run = self._begin(RunKind.MODEL, run_id, parent_run_id, None, tags, metadata, moment)
        if run is None:
            return
        attributes = request_attributes(
            operation, metadata=metadata, params=params, options=options, serialized=serialized
        )
        model = attributes.get(semconv.GEN_AI_REQUEST_MODEL)
        run.name, run.inputs = model if isinstance(model, str) else None, inputs
        key = (RunKind.MODEL, metadata.get("langgraph_checkpoint_ns"), run.name, len(inputs))
        self._show_attempt(
            run, _span_name(operation, model), attributes, kind=model_span_kind(metadata), key=key, is_first_named=True
        )
        _count_model_call(run)
        if run.parent is not None and run.parent.role is NodeRole.MODEL:
            # An agent's model is called to completion inside its node, so nobody's code runs between its chunks.
            self._attach(run)
            if run.graph is not None and run.graph.as_graph is not None:
                run.graph.as_graph.tools = params.get("tools") or ()
        self._add_content(run, content)

    def chunk_arrived(self, run_id: UUID, text: str, usage: Mapping[str, Any] | None, moment: Moment) -> None:
        """Note a chunk of a stream."""
        run = self._runs.find(run_id)
        if run is None or run.owner is not self:
            return
        if run.stream is None:
            run.stream = self._begin_stream(run, moment)
        else:
            run.stream.chunk_gaps_s.append((moment.clock_ns - run.stream.last_chunk_ns) / 1e9)
            run.stream.last_chunk_ns = moment.clock_ns
        run.stream.characters += len(text)
        run.stream.usage = run.stream.usage or usage

    def model_ended(self, run_id: UUID, response: LLMResult, moment: Moment) -> None:
        """End a call of a model with what the response says about itself."""
        self._end(run_id, COMPLETED, moment, outputs=response)

    def model_failed(self, run_id: UUID, error: BaseException, response: LLMResult | None, moment: Moment) -> None:
        """End a call of a model that raised; a broken stream still tells what it brought."""
        self._end(run_id, ending_of(error), moment, outputs=response)

    def _begin_stream(self, run: Run, moment: Moment) -> Stream:
        waited_s = (moment.clock_ns - run.started.clock_ns) / 1e9
        if run.span is not None:
            run.span.set_attributes(
                {semconv.GEN_AI_REQUEST_STREAM: True, semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: waited_s}
            )
        return Stream(time_to_first_chunk_s=waited_s, last_chunk_ns=moment.clock_ns)

    # Tools and retrievers

    def tool_started(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        *,
        name: str | None,
        description: str | None,
        call_id: str | None,
        arguments: Any,
        tags: Sequence[str],
        metadata: Mapping[str, Any],
        moment: Moment,
    ) -> None:
        """Show the execution of a tool."""
        run = self._begin(RunKind.TOOL, run_id, parent_run_id, name, tags, metadata, moment)
        if run is None:
            return
        run.tool_call_id, run.inputs = call_id, arguments
        if call_id is not None and run.parent is not None and run.parent.as_node is not None:
            run.parent.as_node.tool_call_ids |= {call_id}
        attributes = tool_attributes(name, description=description, call_id=call_id)
        key = (RunKind.TOOL, call_id or name)
        self._show_attempt(
            run, _span_name(semconv.OPERATION_EXECUTE_TOOL, name), attributes, key=key, is_first_named=True
        )
        _count_tool_call(run)
        self._attach(run)
        self._add_content(run, lambda: {semconv.GEN_AI_TOOL_CALL_ARGUMENTS: to_json(arguments)})

    def tool_ended(self, run_id: UUID, output: Any, moment: Moment) -> None:
        """End a tool; one that answers with an error message has failed, though it raised nothing."""
        failed = any(isinstance(m, ToolMessage) and m.status == "error" for m in messages_of(output))
        ending = Ending(state=RunState.FAILED, error_type=_TOOL_ERROR) if failed else COMPLETED
        self._end(run_id, ending, moment, outputs=output)

    def retrieval_started(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        *,
        name: str | None,
        tags: Sequence[str],
        metadata: Mapping[str, Any],
        content: Callable[[], Attributes],
        moment: Moment,
    ) -> None:
        """Show a retrieval; LangChain does not name the data source, so neither does the span."""
        run = self._begin(RunKind.RETRIEVAL, run_id, parent_run_id, name, tags, metadata, moment)
        if run is None:
            return
        operation = semconv.OPERATION_RETRIEVAL
        self._show(run, operation, {semconv.GEN_AI_OPERATION_NAME: operation}, kind=SpanKind.CLIENT)
        self._add_content(run, content)

    def retrieval_ended(self, run_id: UUID, documents: Sequence[Document], moment: Moment) -> None:
        """End a retrieval."""
        self._end(run_id, COMPLETED, moment, outputs=documents)

    def failed(self, run_id: UUID, error: BaseException, moment: Moment) -> None:
        """End a run that raised, or that control left with an exception."""
        self._end(run_id, ending_of(error), moment)

    # Interrupts

    def interrupted(self, run_id: UUID | None, checkpoint_id: str, count: int) -> None:
        """A graph stopped, to be resumed from a checkpoint."""
        run = self._runs.find(run_id)
        context = None if run is None else run.span_context()
        if run is None or run.span is None or context is None:
            return
        if run.as_graph is not None:
            run.as_graph.is_interrupted, run.as_graph.interrupts = True, count or None
        run.span.set_attribute(semconv.CHECKPOINT_ID, checkpoint_id)
        interruption = Interruption(root=context, executed=run.tree.executed)
        self._shared.interruptions.add(_thread_id(run), checkpoint_id, interruption)

    def resumed(self, run_id: UUID | None, checkpoint_id: str) -> None:
        """A graph goes on from the checkpoint at which it had stopped."""
        run = self._runs.find(run_id)
        if run is None or run.span is None or run.parent is not None:
            return
        run.span.set_attribute(semconv.CHECKPOINT_ID, checkpoint_id)
        run.span.add_event(semconv.EVENT_RESUME, timestamp=run.tree.unix_nano(Moment.now()))
        if (interruption := self._shared.interruptions.find(_thread_id(run), checkpoint_id)) is not None:
            run.span.add_link(interruption.root, {semconv.LINK_KIND: semconv.LINK_RESUMES})
            run.tree.replayable = interruption.executed

    # Starting

    def _begin(
        self,
        kind: RunKind,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: str | None,
        tags: Sequence[str],
        metadata: Mapping[str, Any],
        moment: Moment,
    ) -> Run | None:
        parent = _innermost(self._runs, self._runs.find(parent_run_id))
        ambient, task, is_inside_own_span = surroundings(parent, moment.context)
        tree = Tree(last_event_ns=moment.clock_ns) if parent is None else parent.tree
        run = Run(run_id, parent, self, tree, kind, name, tags, metadata, moment, ambient, task, is_inside_own_span)
        if parent is None:
            tree.root = run
            self._shared.watch_provider()
        else:
            run.graph, run.agent_name, run.step_id = parent.graph, parent.agent_name, parent.step_id
        return run if self._runs.add(run) else None

    def _show_attempt(
        self,
        run: Run,
        name: str,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        key: object = None,
        links: Sequence[Link] = (),
        is_first_named: bool = False,
    ) -> None:
        """Start a span that may be one attempt of several, or work that runs again after an interrupt."""
        replayed = None if key is None else run.tree.replayable.get(key)
        if replayed is not None:
            attributes[semconv.REPLAY] = True
            links = [*links, Link(replayed, {semconv.LINK_KIND: semconv.LINK_REPLAYS})]
        begin_attempt(run)
        if run.attempt is not None and (is_first_named or run.attempt.number > 1):
            attributes |= run.attempt.attributes()
            links = [*links, *run.attempt.links()]
        self._show(run, name, attributes, kind=kind, links=links)
        if run.attempt is not None:
            name_operation(run.attempt, is_first_named=is_first_named)
        if key is not None:
            _note_executed(run, key)

    def _show(
        self,
        run: Run,
        name: str,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
    ) -> None:
        attributes = {**run.shared_attributes(), **attributes}
        if run.span is not None:  # a branch that turned out to be a graph
            run.span.update_name(name)
            run.span.set_attributes(attributes)
            return
        run.span = self._tracer.start_span(
            name,
            context=run.parent_context(),
            kind=kind,
            attributes=attributes,
            links=links,
            start_time=run.tree.unix_nano(run.started),
        )

    def _attach(self, run: Run) -> None:
        if run.span is not None and run.attached is None and run.started.is_live:
            run.attached = AmbientSpan.attach(run.span)

    def _add_content(self, run: Run, describe: Callable[[], Attributes]) -> None:
        if self._capture.on_spans and run.span is not None and run.span.is_recording():
            run.span.set_attributes(self._capture.passed(describe()))

    # Ending

    def _end(
        self,
        run_id: UUID,
        ending: Ending,
        moment: Moment,
        *,
        outputs: Any = None,
    ) -> None:
        removed = self._runs.remove(run_id)
        if removed is None:
            return
        run, left_open = removed
        for inner in left_open:
            inner.owner.finish(inner, ABANDONED if ending is COMPLETED else ending, moment)
        run.owner.finish(run, ending, moment, outputs=outputs)

    def finish(self, run: Run, ending: Ending, moment: Moment, *, outputs: Any = None) -> None:
        """End a run's span, and pass on what the runs around it need to know."""
        if run.attached is not None:
            run.attached.heal()
        try:
            match run.kind:
                case RunKind.MODEL:
                    self._finish_model(run, ending, outputs)
                case RunKind.TOOL:
                    self._finish_tool(run, outputs)
                case RunKind.WORKFLOW | RunKind.AGENT:
                    ending = self._finish_graph(run, ending, outputs)
                case RunKind.NODE | RunKind.PART:
                    self._finish_node(run, ending, outputs, moment)
                case RunKind.RETRIEVAL if outputs is not None:
                    self._add_content(run, lambda: documents_content(outputs))
            if run.span is not None:
                self._mark_ending(run, run.span, ending)
            _tell_around(run, ending)
        finally:
            self._close(run, ending, run.tree.unix_nano(moment))

    def _finish_model(self, run: Run, ending: Ending, response: LLMResult | None) -> None:
        result = LLMResult(generations=[]) if response is None else response
        usage, attributes = token_usage(result), response_attributes(result)
        if ending.state is RunState.COMPLETED and is_cache_hit(result):
            usage, attributes[semconv.CACHE_HIT] = TokenUsage.from_inclusive(input_tokens=0, output_tokens=0), True
        elif ending is not COMPLETED and run.stream is not None and (usage is None or not usage.output_tokens):
            usage = estimated_usage(usage, run.stream.usage, characters=run.stream.characters)
            attributes[semconv.USAGE_ESTIMATED] = True
        if usage is not None:
            attributes |= usage.to_attributes()
        _add_usage(run, usage)
        if run.span is not None and run.span.is_recording():
            run.span.set_attributes(attributes)
            self._add_content(run, lambda: output_content(result))

    def _finish_tool(self, run: Run, output: Any) -> None:
        if output is not None:
            self._add_content(run, lambda: {semconv.GEN_AI_TOOL_CALL_RESULT: to_json(output)})

    def _finish_graph(self, run: Run, ending: Ending, outputs: Any) -> Ending:
        if run.span is not None and run.as_graph is not None and run.kind is RunKind.AGENT:
            run.span.set_attributes(_rolled_up(run.as_graph))
        if ending is COMPLETED:
            self._add_content(run, lambda: state_output_content(outputs))
        if (node := _node_of(run.parent)) is not None and node.as_node is not None:
            node.as_node.last_graph = run.span_context()
        if ending is COMPLETED and run.as_graph is not None and run.as_graph.is_interrupted:
            attributes = known((semconv.INTERRUPT_COUNT, run.as_graph.interrupts))
            return Ending(state=RunState.INTERRUPTED, event=semconv.EVENT_INTERRUPT, event_attributes=attributes)
        return ending

    def _finish_node(self, run: Run, ending: Ending, outputs: Any, moment: Moment) -> None:
        if run.as_node is None:
            return
        if ending.state is RunState.INTERRUPTED:
            run.tree.executed.update(run.as_node.executed)
        if run.kind is RunKind.NODE:
            _note_hand_off(run, run.as_node, ending, outputs)
        if ending is COMPLETED:
            self._show_answered_calls(run, run.as_node, moment, list(messages_of(outputs)))

    # Calls that were asked for and never ran

    def _show_answered_calls(
        self, node: Run, facts: NodeFacts, moment: Moment, messages: Sequence[BaseMessage]
    ) -> None:
        """A node that answers for a model or a tool leaves no run of it, only the message."""
        if node.role is NodeRole.MODEL:
            if any(isinstance(message, ToolMessage) for message in messages):
                await_repair(node)
            if facts.inference_calls == 0 and any(isinstance(message, AIMessage) for message in messages):
                self._show_skipped_model_call(node, moment)
            return
        for message in messages:
            if isinstance(message, ToolMessage) and message.tool_call_id not in facts.tool_call_ids:
                self._show_answered_tool_call(node, message, moment)

    def _show_skipped_model_call(self, node: Run, moment: Moment) -> None:
        operation = semconv.OPERATION_SKIP_MODEL_CALL
        attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: operation, semconv.ANSWERED_BY: "middleware"}
        self._show_for(node, operation, attributes, COMPLETED, moment)

    def _show_answered_tool_call(self, node: Run, message: ToolMessage, moment: Moment) -> None:
        name = message.name or _called_name(node, message.tool_call_id)
        facts = None if node.graph is None else node.graph.as_graph
        is_known = node.role is NodeRole.TOOLS and facts is not None and name in _names(facts.tools)
        has_failed = message.status == "error"
        if not has_failed and node.role is not NodeRole.TOOLS:
            return  # a node of the application's own, which may call its tools as it likes
        attributes = tool_attributes(name, description=None, call_id=message.tool_call_id)
        ending = COMPLETED
        if is_known or not has_failed:
            attributes[semconv.ANSWERED_BY] = "middleware"
        if has_failed:
            ending = Ending(state=RunState.FAILED, error_type=_TOOL_ERROR if is_known else _UNKNOWN_TOOL)
        self._show_for(node, _span_name(semconv.OPERATION_EXECUTE_TOOL, name), attributes, ending, moment)

    def _show_for(self, node: Run, name: str, attributes: Attributes, ending: Ending, moment: Moment) -> None:
        """A span below a node, as long as the node took, for a call that LangChain reported no run of."""
        shown = node.shown()
        if shown is None or shown.span is None:
            return
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(shown.span, node.ambient),
            attributes={**node.shared_attributes(), **attributes},
            start_time=node.tree.unix_nano(node.started),
        )
        self._mark_ending(node, span, ending)
        span.end(node.tree.unix_nano(moment))

    # How an ending shows

    def _mark_ending(self, run: Run, span: Span, ending: Ending) -> None:
        if ending.state not in (RunState.COMPLETED, RunState.FAILED):
            span.set_attribute(semconv.RUN_STATE, ending.state.value)
        if ending.event is not None:
            span.add_event(ending.event, ending.event_attributes)
        if ending.error_type is None:
            return
        span.set_attribute(semconv.ERROR_TYPE, ending.error_type)
        # An error's text repeats what the tool or the model was given, so it is content.
        message = None if ending.error is None else self._capture.text(EXCEPTION_MESSAGE, str(ending.error))
        span.set_status(Status(StatusCode.ERROR, message))
        if ending.error is not None:
            kind = _full_name(type(ending.error))
            span.add_event("exception", known((EXCEPTION_TYPE, kind), (EXCEPTION_MESSAGE, message)))

    def _close(self, run: Run, ending: Ending, unix_nano: int) -> None:
        if ending.state is RunState.FAILED and keep_attempt(run, unix_nano):
            return
        is_agents_call = run.kind is RunKind.MODEL and run.parent is not None and run.parent.role is NodeRole.MODEL
        if is_agents_call and ending is COMPLETED and keep_answer(run, unix_nano):
            return
        release_attempts(run)
        if run.span is not None:
            run.span.end(unix_nano)


def _innermost(runs: Runs, parent: Run | None) -> Run | None:
    """The run that a new one belongs to, where LangChain names the one around it.

    It does so for the runnables of `with_fallbacks`, and for what a tool calls with the `config` that was
    injected into it. The context that LangChain runs them in tells.
    """
    config = var_child_runnable_config.get()
    run_id = getattr(config.get("callbacks"), "parent_run_id", None) if config else None
    if run_id is None or (parent is not None and parent.run_id == run_id):
        return parent
    inner = runs.find(run_id)
    if inner is None or inner.parent is not parent:
        return parent
    return inner if inner.is_fallbacks or inner.kind is RunKind.TOOL else parent


def _node_of(run: Run | None) -> Run | None:
    """The nearest node, the run itself included."""
    return None if run is None else next((around for around in run.lineage() if around.kind is RunKind.NODE), None)


def _note_executed(run: Run, key: object) -> None:
    """Remember what ran inside a node, for the case that an interrupt makes it run again."""
    if "thread_id" not in run.metadata or (context := run.span_context()) is None:
        return  # without a thread there is no checkpoint to resume from
    for around in run.lineage():
        if around.as_node is not None:
            around.as_node.executed[key] = context


def _note_hand_off(node: Run, facts: NodeFacts, ending: Ending, outputs: Any) -> None:
    """A node that names the next one hands control to it, for the agent that ran in it if one did."""
    graph, context = None if node.graph is None else node.graph.as_graph, node.span_context()
    target = ending.event_attributes.get(semconv.HAND_OFF_TO) if ending.event else target_of(outputs)
    if graph is not None and context is not None and isinstance(target, str):
        graph.hand_off = target, facts.last_graph or context


def _taken_over(run: Run) -> list[Link]:
    """A link to the agent that handed control to the one that starts now."""
    if run.kind is RunKind.NODE:
        graph = None if run.graph is None else run.graph.as_graph
        if graph is None or graph.hand_off is None or graph.hand_off[0] != run.name:
            return []
        run.taken_over, graph.hand_off = graph.hand_off[1], None
    else:
        node = _node_of(run.parent)
        if node is None or node.taken_over is None:
            return []
        run.taken_over, node.taken_over = node.taken_over, None
    return [Link(run.taken_over, {semconv.LINK_KIND: semconv.LINK_TAKES_OVER})]


def _tell_around(run: Run, ending: Ending) -> None:
    """An interrupt ends the graphs around it without an error, so they have to be told."""
    if ending.state is not RunState.INTERRUPTED or run.parent is None:
        return
    count = ending.event_attributes.get(semconv.INTERRUPT_COUNT)
    for around in run.parent.lineage():
        if around.as_graph is not None:
            around.as_graph.is_interrupted = True
            around.as_graph.interrupts = count if isinstance(count, int) else around.as_graph.interrupts


def _count_model_call(run: Run) -> None:
    """Count a model call for the node and the agent that make it."""
    with run.tree.lock:
        for around in run.lineage():
            if around.as_node is not None:
                around.as_node.inference_calls += 1
            if around.as_graph is not None:
                around.as_graph.inference_calls += 1
                if around.kind is RunKind.AGENT:
                    return


def _count_tool_call(run: Run) -> None:
    """Count a tool call for the agent that makes it."""
    with run.tree.lock:
        for around in run.lineage():
            if around.as_graph is not None:
                around.as_graph.tool_calls += 1
                if around.kind is RunKind.AGENT:
                    return


def _add_usage(run: Run, usage: TokenUsage | None) -> None:
    """Add a model call's tokens to the agents around it."""
    input_tokens, output_tokens = (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)
    with run.tree.lock:
        graph = run.graph
        while graph is not None and graph.as_graph is not None:
            if input_tokens is None or output_tokens is None:
                graph.as_graph.unknown_calls += 1
            else:
                graph.as_graph.known_calls += 1
                graph.as_graph.input_tokens += input_tokens
                graph.as_graph.output_tokens += output_tokens
            graph = None if graph.parent is None else graph.parent.graph


def _rolled_up(facts: GraphFacts) -> Attributes:
    """What an agent consumed; a sum with an unknown part is unknown."""
    if facts.unknown_calls:
        return {semconv.USAGE_UNKNOWN_CALLS: facts.unknown_calls}
    if not facts.known_calls:
        return {}
    return {
        semconv.GEN_AI_USAGE_INPUT_TOKENS: facts.input_tokens,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: facts.output_tokens,
    }


def _called_name(node: Run, call_id: str) -> str | None:
    """The tool that the model named in a call; it is in what the node was given."""
    call = node.inputs.get("tool_call") if isinstance(node.inputs, Mapping) else None
    calls = [call] if isinstance(call, Mapping) else []
    calls += [c for m in messages_of(node.inputs) if isinstance(m, AIMessage) for c in m.tool_calls]
    return next((call["name"] for call in calls if call.get("id") == call_id), None)


def _names(tools: Sequence[Any]) -> set[str]:
    """Names of bound tools, in the shapes of OpenAI and Anthropic."""
    tables = [tool for tool in tools if isinstance(tool, Mapping)]
    functions = [tool["function"] if isinstance(tool.get("function"), Mapping) else tool for tool in tables]
    return {function["name"] for function in functions if isinstance(function.get("name"), str)}


def _thread_id(run: Run) -> str | None:
    thread_id = run.metadata.get("thread_id")
    return None if thread_id is None else str(thread_id)


def _span_name(operation: str, name: object) -> str:
    return f"{operation} {name}" if name else operation


def _full_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"

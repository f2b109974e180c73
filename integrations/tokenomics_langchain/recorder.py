"""From LangChain's events to spans: what each kind of run is shown as, and what its span says at its end.

Every event has one method here. They are called out of the backlog of a tree: in the order of its events, one at a
time, and a little later than the events. What the pieces mean is decided elsewhere: `chains` tells chain runs apart,
`endings` errors from control flow, `attempts` retries, `interrupts` replays, `hand_offs` who takes over,
`answered_calls` what never ran, `tallies` what agents used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from opentelemetry.context import Context
from opentelemetry.semconv.attributes.exception_attributes import EXCEPTION_MESSAGE, EXCEPTION_TYPE
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, format_span_id

from tokenomics_langchain.ambient import with_span
from tokenomics_langchain.answered_calls import TOOL_ERROR, AnsweredCall, answered_calls
from tokenomics_langchain.attempts import (
    attempt_attributes,
    attempt_links,
    await_repair,
    begin_attempt,
    keep_answer,
    keep_attempt,
    operation_id,
    release_attempts,
    release_replaced,
    supersede,
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
from tokenomics_langchain.backlog import Report
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
from tokenomics_langchain.context import Carried, Conversation
from tokenomics_langchain.endings import ABANDONED, COMPLETED, Ending, RunState, ending_of, full_name
from tokenomics_langchain.events import CallEvents
from tokenomics_langchain.hand_offs import note_agent, note_hand_off, taken_over
from tokenomics_langchain.interrupts import Interruption
from tokenomics_langchain.live_runs import LiveRun
from tokenomics_langchain.loops import LoopDetector
from tokenomics_langchain.messages import (
    documents_content,
    output_content,
    state_input_content,
    state_output_content,
    to_json,
    tools_content,
)
from tokenomics_langchain.metrics import CallMetrics
from tokenomics_langchain.outputs import has_structured_response, is_message, is_tool_message, messages_of
from tokenomics_langchain.planning import (
    asked_plan,
    begin_step,
    carried_out,
    end_step,
    links_of,
    revise_by_answer,
    revise_by_node,
    revise_by_tool,
    settle,
)
from tokenomics_langchain.plans import Planners, Revision
from tokenomics_langchain.providers import Shared
from tokenomics_langchain.runs import (
    GraphFacts,
    NodeFacts,
    NodeRole,
    Run,
    RunKind,
    Stream,
    Tree,
    finish_all,
    surroundings,
    wall_clock,
)
from tokenomics_langchain.steps import (
    KIND_OF_RETRIEVAL,
    Decided,
    StepKind,
    kind_of_model_call,
    kind_of_node,
    kind_of_tool,
)
from tokenomics_langchain.tallies import add_usage, count_model_call, count_tool_call, usage_attributes
from tokenomics_plugin import semconv
from tokenomics_plugin.fingerprint import FingerprintKeys
from tokenomics_plugin.usage import ZERO, TokenUsage

__all__ = ["Recorder"]

# Python 3.11 looks a member of an enum up in 80 ns, and a global in 10: some of these are asked for ten times a span.
_WORKFLOW: Final = RunKind.WORKFLOW
_AGENT: Final = RunKind.AGENT
_NODE: Final = RunKind.NODE
_BRANCH: Final = RunKind.BRANCH
_PART: Final = RunKind.PART
_MODEL: Final = RunKind.MODEL
_TOOL: Final = RunKind.TOOL
_MODEL_NODE: Final = NodeRole.MODEL
_CALLS: Final = (_MODEL, _TOOL)
_TOOL_FAILED: Final = Ending(state=RunState.FAILED, error_type=TOOL_ERROR)
# Backends tell the kind of other spans by their operation, but know no such operations.
_SHOWN_AS_CHAIN: Final = (semconv.OPENINFERENCE_SPAN_KIND, "CHAIN")
_PLANS_AS_DECLARED: Final = Decided(StepKind.PLAN, "declared")
_NO_RESPONSE: Final = LLMResult(generations=[])


class Recorder:
    """Records runs as spans of one tracer.

    Args:
        tracer: Makes the spans.
        shared: What the recorders of a provider share.
        capture: Where content goes.
        metrics: Where calls are counted.
        events: Where log events go.
        fingerprint_keys: Keys of the fingerprints that stand for content.
        planners: Nodes and schemas that the application declared to be plans.
        step_kinds: What it declared nodes to be for.
        report: Is told what failed.
    """

    def __init__(
        self,
        tracer: Tracer,
        *,
        shared: Shared,
        capture: ContentCapture,
        metrics: CallMetrics,
        events: CallEvents,
        fingerprint_keys: FingerprintKeys,
        planners: Planners,
        step_kinds: Mapping[str, StepKind],
        report: Report,
    ) -> None:
        self._tracer = tracer
        self._shared = shared
        self._runs = shared.runs
        self._capture = capture
        self._metrics = metrics
        self._events = events
        self._fingerprint_keys = fingerprint_keys
        self._planners, self._has_planners = planners, bool(planners)
        self._step_kinds = step_kinds
        self.report = report

    # Chains: workflows, agents, nodes, branches, and parts that get no span

    def chain_started(
        self,
        live: LiveRun,
        name: str | None,
        inputs: Any,
        tags: Sequence[str],
        metadata: Mapping[str, Any],
    ) -> None:
        """Show a workflow, an agent, a node or a branch; remember any other runnable as a part."""
        run = self._begin(_PART, live, name, tags, metadata)
        if run is None:
            return
        run.inputs = inputs
        if run.parent is not None and is_step(tags):
            self._show_graph(run.parent, first_node=name)
            run.graph, run.agent_name = run.parent.graph, run.parent.agent_name
            run.role = node_role(run)
        if run.role is None:
            run.kind, run.is_fallbacks = chain_kind(run), is_fallbacks(run)
        self._show_chain(run)

    def chain_ended(self, run_id: UUID, outputs: Any, clock_ns: int) -> None:
        """End a chain run."""
        self._end(run_id, COMPLETED, clock_ns, outputs)

    def _show_graph(self, graph: Run, *, first_node: str | None) -> None:
        """Show a run as a graph that took itself for something else until its first node started."""
        if graph.kind in (_PART, _BRANCH):
            graph.kind = graph_kind(graph, first_node=first_node)
            self._show_chain(graph)

    def _show_chain(self, run: Run) -> None:
        kind = run.kind
        if kind is _PART:
            if run.role is not None:
                run.as_node = NodeFacts()
            begin_attempt(run)
        elif kind is _NODE:
            self._show_node(run)
        elif kind is _BRANCH:
            self._show_branch(run)
        else:
            run.graph, run.as_graph = run, GraphFacts()
            if kind is _AGENT:
                run.agent_name = agent_name(run)
            self._show_workflow_or_agent(run)

    def _show_workflow_or_agent(self, run: Run) -> None:
        if run.kind is _AGENT:
            operation, name, links = semconv.OPERATION_INVOKE_AGENT, run.agent_name, taken_over(run)
            attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: operation}
        else:
            operation, name, links = semconv.OPERATION_INVOKE_WORKFLOW, workflow_name(run), []
            attributes = known(
                (semconv.GEN_AI_OPERATION_NAME, operation), (semconv.GEN_AI_WORKFLOW_NAME, name), _SHOWN_AS_CHAIN
            )
        self._show(run, _span_name(operation, name), attributes, links=links)
        if self._capture.on_spans:
            self._add_content(run, lambda: state_input_content(run.inputs))

    def _show_node(self, run: Run) -> None:
        run.as_node, run.live.is_current = NodeFacts(), True
        operation, step = semconv.OPERATION_RUN_NODE, run.metadata.get("langgraph_step")
        run.step_kind = kind_of_node(run.name, run.metadata, self._step_kinds)
        run.planner, title = self._planners.of_node(run.name or ""), run.name
        if run.planner is not None:
            operation, title, run.step_kind = semconv.OPERATION_PLAN, run.agent_name, _PLANS_AS_DECLARED
        attributes = known(
            (semconv.GEN_AI_OPERATION_NAME, operation),
            (semconv.NODE_NAME, run.name),
            (semconv.NODE_STEP, step),
            _SHOWN_AS_CHAIN,
        )
        if run.step_kind is not None:
            attributes |= run.step_kind.attributes
        begin_step(run, self._planners)
        key = _NODE, run.metadata.get("langgraph_checkpoint_ns")
        self._show(run, _span_name(operation, title), attributes, key=key, links=taken_over(run))
        carried_out(run)
        is_new = run.attempt_number == 1 and not attributes.get(semconv.REPLAY)
        if is_new and run.graph is not None and run.graph.kind is _WORKFLOW:
            # The nodes of an agent are its middleware's: they run once a turn, on a state that always grows.
            self._note_visit(run, run.name, _state_fingerprint(run))

    def _show_branch(self, run: Run) -> None:
        run.live.is_current = True
        operation, name = semconv.OPERATION_RUN_BRANCH, branch_name(run.tags)
        attributes = known((semconv.GEN_AI_OPERATION_NAME, operation), (semconv.BRANCH_NAME, name), _SHOWN_AS_CHAIN)
        self._show(run, _span_name(operation, name), attributes)

    # Models

    def model_started(
        self,
        operation: str,
        live: LiveRun,
        serialized: Mapping[str, Any],
        inputs: Sequence[Any],
        params: Mapping[str, Any],
        options: Mapping[str, Any],
        tags: Sequence[str],
        metadata: Mapping[str, Any],
        carried: Carried | None,
        content: Callable[[], Attributes],
    ) -> None:
        """Show a call of a model."""
        run = self._begin(_MODEL, live, None, tags, metadata)
        if run is None:
            return
        run.inputs = inputs
        # An agent's model is called to completion inside its node, so nobody's code runs between its chunks.
        live.is_current = live.is_current or _is_agents(run)
        attributes = request_attributes(
            operation, metadata=metadata, params=params, options=options, serialized=serialized
        )
        if not self._capture.on_spans:  # the names of people, for one, stop a dialogue
            attributes.pop(semconv.GEN_AI_REQUEST_STOP_SEQUENCES, None)
        model = attributes.get(semconv.GEN_AI_REQUEST_MODEL)
        run.name, run.request = model if isinstance(model, str) else None, attributes
        tools = params.get("tools")

        def described() -> Attributes:
            return {**content(), **tools_content(tools)}

        run.describe_input = described if self._capture.on_events else None
        key = _replay_key(run)
        if self._has_planners and (schema := asked_plan(options, self._planners)) is not None:
            run.plan_schema = schema
            self._show_plan(run, None)
        begin_step(run, self._planners)
        self._show(run, _span_name(operation, model), attributes, kind=model_span_kind(metadata), key=key)
        count_model_call(run)
        carried_out(run)
        if carried is not None and run.span is not None and run.span.is_recording():
            run.context = run.tree.conversation.carried(run.span_id, carried)
        if self._capture.on_spans:
            self._add_content(run, described)
        if run.graph is not None and run.graph.as_graph is not None and _is_agents(run):
            run.graph.as_graph.tools = tools or ()

    def chunk_arrived(
        self, run_id: UUID, chunk: object, text: str, usage: Mapping[str, Any] | None, clock_ns: int
    ) -> None:
        """Note a chunk of a stream."""
        run = self._runs.find(run_id)
        if run is None or run.owner is not self:
            return
        if run.stream is None:
            run.stream = self._begin_stream(run, chunk, clock_ns)
        elif run.stream.last_chunk is chunk:
            return
        else:
            run.stream.chunk_gaps_s.append((clock_ns - run.stream.last_chunk_ns) / 1e9)
            run.stream.last_chunk, run.stream.last_chunk_ns = chunk, clock_ns
        run.stream.characters += len(text)
        run.stream.usage = run.stream.usage or usage

    def model_ended(self, run_id: UUID, response: LLMResult, clock_ns: int) -> None:
        """End a call of a model with what the response says about itself."""
        self._end(run_id, COMPLETED, clock_ns, response)

    def model_failed(self, run_id: UUID, error: BaseException, response: LLMResult | None, clock_ns: int) -> None:
        """End a call of a model that raised; a broken stream still tells what it brought."""
        self._end(run_id, ending_of(error), clock_ns, response)

    def _begin_stream(self, run: Run, chunk: object, clock_ns: int) -> Stream:
        waited_s = (clock_ns - run.started.clock_ns) / 1e9
        if run.span is not None:
            run.span.set_attributes(
                {semconv.GEN_AI_REQUEST_STREAM: True, semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: waited_s}
            )
        return Stream(time_to_first_chunk_s=waited_s, last_chunk=chunk, last_chunk_ns=clock_ns)

    # Tools and retrievers

    def tool_started(
        self,
        live: LiveRun,
        name: str | None,
        description: str | None,
        call_id: str | None,
        arguments: Any,
        tags: Sequence[str],
        metadata: Mapping[str, Any],
    ) -> None:
        """Show the execution of a tool."""
        run = self._begin(_TOOL, live, name, tags, metadata)
        if run is None:
            return
        run.tool_call_id, run.inputs, live.is_current = call_id, arguments, True
        if call_id is not None:
            run.tree.answered_ids.add(call_id)
        if call_id is not None and run.parent is not None and run.parent.as_node is not None:
            run.parent.as_node.tool_call_ids.add(call_id)
        attributes = tool_attributes(name, description=description, call_id=call_id)
        attributes |= kind_of_tool(name).attributes
        if (revision := revise_by_tool(run, self._planners)) is not None:
            self._show_plan(run, revision)
        else:
            begin_step(run, self._planners)
        key = _replay_key(run, call_id)
        self._show(run, _span_name(semconv.OPERATION_EXECUTE_TOOL, name), attributes, key=key)
        count_tool_call(run)
        carried_out(run)
        if self._capture.on_spans:
            self._add_content(run, lambda: {semconv.GEN_AI_TOOL_CALL_ARGUMENTS: to_json(arguments)})

    def tool_ended(self, run_id: UUID, output: Any, clock_ns: int) -> None:
        """End a tool; one that answers with an error message has failed, though it raised nothing."""
        if type(output) is ToolMessage:
            failed = output.status == "error"
        else:
            failed = any(is_tool_message(message) and message.status == "error" for message in messages_of(output))
        self._end(run_id, _TOOL_FAILED if failed else COMPLETED, clock_ns, output)

    def retrieval_started(
        self,
        live: LiveRun,
        name: str | None,
        tags: Sequence[str],
        metadata: Mapping[str, Any],
        content: Callable[[], Attributes],
    ) -> None:
        """Show a retrieval; LangChain does not name the data source, so neither does the span."""
        run = self._begin(RunKind.RETRIEVAL, live, name, tags, metadata)
        if run is None:
            return
        operation = semconv.OPERATION_RETRIEVAL
        attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: operation} | KIND_OF_RETRIEVAL.attributes
        self._show(run, operation, attributes, kind=SpanKind.CLIENT)
        if self._capture.on_spans:
            self._add_content(run, content)

    def retrieval_ended(self, run_id: UUID, documents: Sequence[Document], clock_ns: int) -> None:
        """End a retrieval."""
        self._end(run_id, COMPLETED, clock_ns, documents)

    def failed(self, run_id: UUID, error: BaseException, clock_ns: int) -> None:
        """End a run that raised, or that control left with an exception."""
        self._end(run_id, ending_of(error), clock_ns)

    # Plans and loops

    def _show_plan(self, tool: Run, revision: Revision | None) -> None:
        """A plan is around the tool that writes it, or the model call that is made to answer with one."""
        operation = semconv.OPERATION_PLAN
        attributes = known((semconv.GEN_AI_OPERATION_NAME, operation), _SHOWN_AS_CHAIN)
        tool.plan_span = self._tracer.start_span(
            _span_name(operation, tool.agent_name),
            tool.parent_context(),
            attributes=tool.shared_attributes() | attributes | _PLANS_AS_DECLARED.attributes,
            start_time=tool.tree.unix_nano(tool.started.clock_ns),
        )
        if revision is not None:
            _describe_plan(tool.plan_span, tool, revision)

    def _note_visit(self, run: Run, *key: str | None) -> None:
        """Mark what a run repeats, if everything is known that makes it the same."""
        context, facts = run.span_context, None if run.graph is None else run.graph.as_graph
        if run.span is None or context is None or facts is None or None in key:
            return
        facts.loops = facts.loops or LoopDetector()
        repetition = facts.loops.visit("\0".join(map(str, key)), context)
        if repetition is not None:
            run.span.set_attributes(repetition.attributes())
            run.span.add_link(repetition.first, {semconv.LINK_KIND: semconv.LINK_REPEATS})

    # Interrupts

    def interrupted(self, run_id: UUID, checkpoint_id: str, count: int) -> None:
        """A graph stopped, to be resumed from a checkpoint."""
        run = self._runs.find(run_id)
        if run is None or run.span is None or run.as_graph is None:
            return
        run.as_graph.is_interrupted, run.as_graph.interrupts = True, count or None
        run.span.set_attribute(semconv.CHECKPOINT_ID, checkpoint_id)
        interruption = Interruption(root=run.span.get_span_context(), executed=run.tree.executed)
        self._shared.interruptions.add(run.thread_id, checkpoint_id, interruption)

    def remembers_interruption(self, thread_id: str | None, checkpoint_id: str) -> bool:
        """Whether a run that was interrupted there was recorded."""
        return self._shared.interruptions.find(thread_id, checkpoint_id) is not None

    def resumed(self, run_id: UUID, checkpoint_id: str, clock_ns: int) -> None:
        """A graph goes on from the checkpoint at which it had stopped."""
        run = self._runs.find(run_id)
        if run is None or run.span is None or run.tree.is_resumed:
            return
        run.tree.is_resumed = True
        run.span.set_attribute(semconv.CHECKPOINT_ID, checkpoint_id)
        run.span.add_event(semconv.EVENT_RESUME, timestamp=run.tree.unix_nano(clock_ns))
        if (interruption := self._shared.interruptions.find(run.thread_id, checkpoint_id)) is not None:
            run.span.add_link(interruption.root, {semconv.LINK_KIND: semconv.LINK_RESUMES})
            run.tree.replayable = dict(interruption.executed)

    # Starting

    def _begin(
        self, kind: RunKind, live: LiveRun, name: str | None, tags: Sequence[str], metadata: Mapping[str, Any]
    ) -> Run | None:
        started, parent = live.started, self._runs.find(live.parent_run_id)
        enclosing_id = started.enclosing_run_id
        if enclosing_id is not None and (parent is None or parent.run_id.int != enclosing_id.int):
            parent = self._innermost(parent, enclosing_id)
        ambient, task, is_inside = surroundings(parent, started.context)
        tree = self._new_tree(live) if parent is None else parent.tree
        run = Run(live.run_id, parent, self, tree, kind, name, tags, metadata, started, ambient, task, is_inside, live)
        if parent is None:
            tree.root = run
        else:
            run.graph, run.agent_name = parent.graph, parent.agent_name
            run.step_id, run.step_kind = parent.step_id, parent.step_kind
        if parent is None or parent.owner is not self:
            self._metrics.look_again()
        return run if self._runs.add(run) else None

    def _new_tree(self, live: LiveRun) -> Tree:
        distance_ns, started_ns = wall_clock.distance_ns(), live.started.clock_ns
        fingerprinter = self._fingerprint_keys.current(started_ns + distance_ns)
        return Tree(
            backlog=live.backlog,
            fingerprinter=fingerprinter,
            conversation=Conversation(fingerprinter),
            wall_distance_ns=distance_ns,
            last_event_ns=started_ns,
        )

    def _innermost(self, parent: Run | None, enclosing_id: UUID) -> Run | None:
        """The run that a new one belongs to, where LangChain names another one than its context does, or none.

        It names the one around for the runnables of `with_fallbacks`, and for what a tool calls with the `config`
        that was injected into it; it names none where a call is given callbacks of its own. The context that
        LangChain runs them in tells.
        """
        inner = self._runs.find(enclosing_id)
        if inner is None or parent is None:
            return inner or parent
        is_between = inner.parent is parent and (inner.is_fallbacks or inner.kind is _TOOL)
        return inner if is_between else parent

    def _show(
        self,
        run: Run,
        name: str,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        key: object = None,
        links: Sequence[Link] = (),
    ) -> None:
        """Start the span of a run; `key` tells what it does, for the case that an interrupt makes it run again."""
        begin_attempt(run)
        if run.kind in _CALLS or run.attempt_number > 1:
            attributes.update(attempt_attributes(run))
        if run.replaces is not None:
            links = [*links, *attempt_links(run)]
        if key is not None and (replayed := run.tree.replayable.pop(key, None)) is not None:
            attributes[semconv.REPLAY] = True
            links = [*links, Link(replayed, {semconv.LINK_KIND: semconv.LINK_REPLAYS})]
        shared = run.shared_attributes()
        shared.update(attributes)
        if run.span is not None:  # a branch that turned out to be a graph
            run.span.update_name(name)
            run.span.set_attributes(shared)
        else:
            started = run.tree.unix_nano(run.started.clock_ns)
            run.show_as(self._tracer.start_span(name, run.parent_context(), kind, shared, links, started))
        if run.kind in _CALLS and run.parent is not None and run.parent.decisions and run.span is not None:
            _tell_decisions(run.span, run.parent, run.tool_call_id)
        if run.replaces is not None:
            supersede(run)
        if key is not None:
            _note_executed(run, key)

    def _add_content(self, run: Run, describe: Callable[[], Attributes]) -> None:
        """Only called where content is captured: most of what it costs is in finding the content."""
        if run.span is not None and run.span.is_recording():
            try:
                content = describe()
            except (TypeError, ValueError, RecursionError):
                return  # it contains itself, or what no JSON can say
            run.span.set_attributes(self._capture.passed(content))

    # Ending

    def _end(self, run_id: UUID, ending: Ending, clock_ns: int, outputs: Any = None) -> None:
        removed = self._runs.remove(run_id, outlives=_drains if ending is COMPLETED else None)
        if removed is None:
            return
        run, left_open = removed
        run.is_reported = True
        if not left_open:
            run.owner.finish(run, ending, clock_ns, outputs)
            return
        inner_ending = ABANDONED if ending is COMPLETED else ending
        finish_all([*((inner, inner_ending) for inner in left_open), (run, ending)], clock_ns, outputs)

    def finish(self, run: Run, ending: Ending, clock_ns: int, outputs: Any = None) -> None:
        """End a run's span, and pass on what the runs around it need to know."""
        # What fails must not keep the rest from being said, least of all the end.
        try:
            ending = self._settle(run, ending, clock_ns, outputs)
        finally:
            try:
                if ending is not COMPLETED:
                    if run.span is not None:
                        self._mark(run.span, ending)
                    if ending.state is RunState.INTERRUPTED:
                        _tell_graphs(run, ending)
            finally:
                self._close(run, ending, run.tree.unix_nano(clock_ns))

    def _settle(self, run: Run, ending: Ending, clock_ns: int, outputs: Any) -> Ending:
        kind = run.kind
        if kind is _MODEL:
            self._finish_model(run, ending, clock_ns, _NO_RESPONSE if outputs is None else outputs)
        elif kind is _TOOL:
            self._finish_tool(run, ending, clock_ns, outputs)
        elif run.as_graph is not None:
            return self._finish_graph(run, run.as_graph, ending, clock_ns, outputs)
        elif run.as_node is not None:
            self._finish_node(run, run.as_node, ending, clock_ns, outputs)
        elif kind is RunKind.RETRIEVAL and outputs is not None and self._capture.on_spans:
            self._add_content(run, lambda: documents_content(outputs))
        return ending

    def _finish_model(self, run: Run, ending: Ending, clock_ns: int, response: LLMResult) -> None:
        usage, attributes = _told_of(run, ending, response)
        add_usage(run, usage)
        tool_calls = _tool_calls(response)
        step = kind_of_model_call(has_tool_calls=bool(tool_calls), inside=run.step_kind, in_agent=_is_agents(run))
        if step is not None and ending is COMPLETED:
            attributes.update(step.attributes)
        if run.span is not None and run.span.is_recording():
            if run.context is not None:
                attributes.update(run.context)
            if (operation := operation_id(run)) is not None:
                attributes[semconv.LOGICAL_OPERATION_ID] = operation
            if (answer := _answer_fingerprint(run, response, usage)) is not None:
                attributes[semconv.RESULT_FINGERPRINT] = answer
            run.span.set_attributes(attributes)
            if self._capture.on_spans:
                self._add_content(run, lambda: output_content(response))
        if run.plan_span is not None and (revision := revise_by_answer(run, tool_calls)) is not None:
            _describe_plan(run.plan_span, run, revision)
        # LangChain's own cache has called no model.
        if semconv.CACHE_HIT not in attributes and not self._metrics.is_idle:
            self._measure_model(run, ending, clock_ns, usage, attributes)
        if ending.error is not None or run.describe_input is not None:
            self._tell_of_model(run, ending, attributes, response)

    def _measure_model(
        self, run: Run, ending: Ending, clock_ns: int, usage: TokenUsage | None, attributes: Attributes
    ) -> None:
        stream = run.stream
        request = run.request or {}
        self._metrics.inference(
            operation=str(request.get(semconv.GEN_AI_OPERATION_NAME)),
            attributes={**request, **attributes, **known((semconv.ERROR_TYPE, ending.error_type))},
            usage=usage,
            duration_s=run.seconds(clock_ns),
            time_to_first_chunk_s=None if stream is None else stream.time_to_first_chunk_s,
            chunk_gaps_s=() if stream is None else stream.chunk_gaps_s,
            context=_context_of(run),
        )

    def _tell_of_model(self, run: Run, ending: Ending, attributes: Attributes, response: LLMResult) -> None:
        context = _context_of(run)
        if context is None:
            return
        if ending.error is not None:
            self._events.exception(ending.error, context, with_text=self._capture.on_events)
        if run.describe_input is not None:
            content = self._capture.passed(run.describe_input() | output_content(response))
            error = known((semconv.ERROR_TYPE, ending.error_type))
            said = run.shared_attributes() | (run.request or {}) | attributes | error
            self._events.details(said | content, context)

    def _finish_tool(self, run: Run, ending: Ending, clock_ns: int, output: Any) -> None:
        if run.span is not None and run.span.is_recording():
            arguments = run.tree.conversation.fingerprint(run.inputs)
            result = None if output is None else _result_fingerprint(run, output)
            attributes: Attributes = {}
            if (operation := operation_id(run)) is not None:
                attributes[semconv.LOGICAL_OPERATION_ID] = operation
            if arguments is not None:
                attributes[semconv.ARGUMENTS_FINGERPRINT] = arguments
            if result is not None:
                attributes[semconv.RESULT_FINGERPRINT] = result
            run.span.set_attributes(attributes)
            if output is not None:
                if self._capture.on_spans:
                    self._add_content(run, lambda: {semconv.GEN_AI_TOOL_CALL_RESULT: to_json(output)})
                self._note_visit(run, run.name, arguments, result)
        if not self._metrics.is_idle:
            self._metrics.tool(
                name=run.name,
                agent_name=run.agent_name,
                duration_s=run.seconds(clock_ns),
                error_type=ending.error_type,
                context=_context_of(run),
            )

    def _finish_graph(self, run: Run, facts: GraphFacts, ending: Ending, clock_ns: int, outputs: Any) -> Ending:
        if run.span is None:
            return ending
        if run.kind is _AGENT:
            run.span.set_attributes(usage_attributes(facts))
        if ending is COMPLETED and self._capture.on_spans:
            self._add_content(run, lambda: state_output_content(outputs))
        note_agent(run)
        if (revision := settle(run)) is not None:
            _add_links(run.span, links_of(revision))
        self._measure_graph(run, facts, ending, clock_ns)
        if ending is COMPLETED and facts.is_interrupted:
            attributes = known((semconv.INTERRUPT_COUNT, facts.interrupts))
            return Ending(state=RunState.INTERRUPTED, event=semconv.EVENT_INTERRUPT, event_attributes=attributes)
        return ending

    def _measure_graph(self, run: Run, facts: GraphFacts, ending: Ending, clock_ns: int) -> None:
        duration_s, error_type, context = run.seconds(clock_ns), ending.error_type, _context_of(run)
        if run.kind is _WORKFLOW:
            self._metrics.workflow(
                name=workflow_name(run), duration_s=duration_s, error_type=error_type, context=context
            )
        else:
            self._metrics.agent(
                name=run.agent_name,
                duration_s=duration_s,
                error_type=error_type,
                inference_calls=facts.inference_calls,
                tool_calls=facts.tool_calls,
                context=context,
            )

    def _finish_node(self, run: Run, facts: NodeFacts, ending: Ending, clock_ns: int, outputs: Any) -> None:
        if ending is not COMPLETED and ending.state is RunState.INTERRUPTED:
            run.tree.executed.update(facts.executed)
        if run.kind is _NODE:
            note_hand_off(run, ending, outputs)
            end_step(run, is_done=ending is COMPLETED)
            if run.span is not None and (revision := revise_by_node(run, outputs)) is not None:
                _describe_plan(run.span, run, revision)
        if ending is not COMPLETED:
            return
        is_model = run.role is _MODEL_NODE
        messages = messages_of(outputs)
        if is_model and any(map(is_tool_message, messages)) and not has_structured_response(outputs):
            await_repair(run)
        if is_model and facts.inference_calls:
            return
        for call in answered_calls(run, messages, shows_content=self._capture.on_spans):
            self._show_answered(run, call, clock_ns)

    def _show_answered(self, node: Run, call: AnsweredCall, clock_ns: int) -> None:
        """A span for a call that LangChain reported no run of, as long as the node that answered it."""
        shown = node.shown()
        if shown is None or shown.span is None:
            return
        span = self._tracer.start_span(
            _span_name(call.operation, call.name),
            with_span(shown.span, node.ambient),
            attributes=node.shared_attributes() | call.attributes,
            start_time=node.tree.unix_nano(node.started.clock_ns),
        )
        call_id = call.attributes.get(semconv.GEN_AI_TOOL_CALL_ID)
        _tell_decisions(span, node, call_id if isinstance(call_id, str) else None)
        self._mark(span, call.ending)
        span.end(node.tree.unix_nano(clock_ns))

    def _mark(self, span: Span, ending: Ending) -> None:
        if ending.state not in (RunState.COMPLETED, RunState.FAILED):
            span.set_attribute(semconv.RUN_STATE, ending.state.value)
        if ending.event is not None:
            span.add_event(ending.event, ending.event_attributes)
        if ending.error_type is None:
            return
        span.set_attribute(semconv.ERROR_TYPE, ending.error_type)
        # An error's text repeats what the tool or the model was given, so it is content.
        message = None if ending.error is None else self._text_of(ending.error)
        span.set_status(Status(StatusCode.ERROR, message))
        if ending.error is not None:
            kind = full_name(type(ending.error))
            span.add_event("exception", known((EXCEPTION_TYPE, kind), (EXCEPTION_MESSAGE, message)))

    def _text_of(self, error: BaseException) -> str | None:
        if not self._capture.on_spans:
            return None
        try:
            text = str(error)
        except Exception:
            return None
        return self._capture.text(EXCEPTION_MESSAGE, text)

    def _close(self, run: Run, ending: Ending, unix_nano: int) -> None:
        if run.parent is not None and run.parent.ended_unix_nano is not None:
            unix_nano = min(unix_nano, run.parent.ended_unix_nano)  # of a parent that it outlived
        run.ended_unix_nano = unix_nano
        if run.replaces is not None:
            release_replaced(run)
        if run.plan_span is not None:
            run.plan_span.end(unix_nano)
        if ending is COMPLETED:
            if run.kind is _MODEL and _is_agents(run) and keep_answer(run, unix_nano):
                return
        elif ending.state is RunState.FAILED and keep_attempt(run, unix_nano):
            return
        if run.replaceable is not None:
            release_attempts(run)
        if run.span is not None:
            run.span.end(unix_nano)


def _is_agents(call: Run) -> bool:
    """Whether the loop of an agent calls this model."""
    return call.parent is not None and call.parent.role is _MODEL_NODE


def _context_of(run: Run) -> Context | None:
    """The context in which a run's span is current."""
    return None if run.span is None else run.context_inside(run.ambient)


def _replay_key(run: Run, call_id: str | None = None) -> object:
    """What a model or tool call does, to know it again after an interrupt; `None` where nothing can be resumed."""
    if "thread_id" not in run.metadata:
        return None
    what = run.inputs[-1] if run.kind is _MODEL and run.inputs else run.inputs
    done = call_id or run.tree.conversation.fingerprint(what)
    return run.kind, run.metadata.get("langgraph_checkpoint_ns"), run.name, done


def _state_fingerprint(run: Run) -> str | None:
    """Of the state that a node was given; a history of messages counts as its length and its last message."""
    state = run.inputs
    if isinstance(state, Mapping):
        state = {
            channel: (len(value), value[-1]) if isinstance(value, list) and value and is_message(value[-1]) else value
            for channel, value in state.items()
        }
    return run.tree.conversation.fingerprint(state)


def _told_of(run: Run, ending: Ending, response: LLMResult) -> tuple[TokenUsage | None, Attributes]:
    """What a model call used, and what its span says about the response."""
    usage, attributes = token_usage(response), response_attributes(response)
    if ending is COMPLETED:
        if is_cache_hit(response):
            usage, attributes[semconv.CACHE_HIT] = ZERO, True
    elif run.stream is not None and (usage is None or not usage.output_tokens):
        usage = estimated_usage(usage, run.stream.usage, characters=run.stream.characters)
        attributes[semconv.USAGE_ESTIMATED] = True
    if usage is not None:
        attributes.update(usage.to_attributes())
    return usage, attributes


def _answer_fingerprint(run: Run, response: LLMResult, usage: TokenUsage | None) -> str | None:
    """Of what a model answered, which later calls carry as a block of their context."""
    choices = response.generations[0] if response.generations else ()
    if not choices or not isinstance(answer := choices[0], ChatGeneration):
        return None
    return run.tree.conversation.produced(answer.message, run.span_id, None if usage is None else usage.output_tokens)


def _result_fingerprint(run: Run, output: Any) -> str | None:
    """Of what a tool returned, which later calls carry as a block of their context when it is a message."""
    if type(output) is ToolMessage:
        return run.tree.conversation.produced(output, run.span_id)
    produced = [run.tree.conversation.produced(message, run.span_id) for message in messages_of(output)]
    return produced[0] if len(produced) == 1 else run.tree.conversation.fingerprint(output)


def _describe_plan(span: Span, run: Run, revision: Revision) -> None:
    """What a span says about the revision of a plan that it shows."""
    facts = None if run.graph is None else run.graph.as_graph
    if facts is None:
        return
    facts.plan_id = facts.plan_id or format_span_id(span.get_span_context().span_id)
    span.set_attributes(revision.attributes(facts.plan_id))
    _add_links(span, links_of(revision))


def _add_links(span: Span, links: Sequence[Link]) -> None:
    for link in links:
        span.add_link(link.context, link.attributes)


def _tool_calls(response: LLMResult) -> list[Any]:
    calls: list[Any] = []
    for choice in response.generations[0] if response.generations else ():
        if isinstance(choice, ChatGeneration) and isinstance(choice.message, AIMessage):
            calls += choice.message.tool_calls
    return calls


def _drains(run: Run) -> bool:
    """Whether a model call goes on though the chain around it is over.

    A chain whose stream its consumer closes reports a good end, and then drains the model's.
    """
    return run.kind is _MODEL and run.stream is not None


def _tell_decisions(span: Span, node: Run, call_id: str | None) -> None:
    for decision in (node.decisions or {}).pop(call_id, ()):
        span.add_event(semconv.EVENT_POLICY_DECISION, decision)


def _note_executed(run: Run, key: object) -> None:
    """Remember what ran inside a node, for the case that an interrupt makes it run again."""
    if "thread_id" not in run.metadata or (context := run.span_context) is None:
        return  # without a thread there is no checkpoint to resume from
    for around in run.lineage():
        if around.as_node is not None:
            around.as_node.executed[key] = context


def _tell_graphs(run: Run, ending: Ending) -> None:
    """An interrupt ends the graphs around it without an error, so they have to be told."""
    count = ending.event_attributes.get(semconv.INTERRUPT_COUNT)
    for around in run.parent.lineage() if run.parent is not None else ():
        if around.as_graph is not None:
            around.as_graph.is_interrupted = True
            around.as_graph.interrupts = count if isinstance(count, int) else around.as_graph.interrupts
        if around.kind is _NODE:
            return  # it may go on after the interrupt of a graph inside it; if not, it tells the graph around it


def _span_name(operation: str, name: object) -> str:
    return f"{operation} {name}" if name else operation

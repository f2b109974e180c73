"""The runs that have not ended, as trees: which span shows each of them, and what they share.

Parents are found by run id and handed to OpenTelemetry explicitly, because LangChain ends a run in another
thread, task or generator frame than it began in. A run without a span of its own is kept too, so that its
children find the nearest ancestor that has one.

LangChain does not report every end: a cancelled model call, a tool under `wait_for` or a stream that nobody
closes just stop. So whatever is still open below a run that ends is closed with it, a tree in which nothing
happens for long is given up, and so is the oldest one when there are too many. An end that arrives after
that is late, and finds nothing to do.

All handlers of a tracer provider share one table, and a run belongs to the handler that hears of it first:
however many of them listen, it is recorded once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any, Final, Protocol
from uuid import UUID

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, format_span_id, get_current_span

from tokenomics_langchain.ambient import AmbientSpan, span_in, with_span, without_span_of_run
from tokenomics_langchain.attributes import Attributes
from tokenomics_langchain.backlog import Backlog, Report
from tokenomics_langchain.context import Conversation
from tokenomics_langchain.endings import ABANDONED, Ending
from tokenomics_langchain.live_runs import LiveRun, LiveRuns
from tokenomics_langchain.loops import LoopDetector
from tokenomics_langchain.moments import Moment
from tokenomics_langchain.plans import Plan, Planner, PlanSchema
from tokenomics_langchain.steps import Decided
from tokenomics_plugin import semconv
from tokenomics_plugin.fingerprint import Fingerprinter
from tokenomics_plugin.tasks import task_attributes

__all__ = [
    "GraphFacts",
    "NodeFacts",
    "NodeRole",
    "Owner",
    "Run",
    "RunKind",
    "Runs",
    "Stream",
    "Tree",
    "finish_all",
    "surroundings",
]


class RunKind(Enum):
    """What a run is; LangChain calls the first five of them all chains."""

    WORKFLOW = "workflow"
    AGENT = "agent"
    NODE = "node"
    BRANCH = "branch"
    PART = "part"
    MODEL = "model"
    TOOL = "tool"
    RETRIEVAL = "retrieval"


class NodeRole(Enum):
    """What a node of an agent that `create_agent` made is for; these nodes have no span of their own."""

    MODEL = "model"
    TOOLS = "tools"


class _WallClock:
    """How far the wall clock is from the monotonic one.

    Two clocks read one after the other may lie milliseconds apart when the thread is made to wait in between, so
    that a run would seem to end after the one around it. Their distance is measured once, and again only after the
    wall clock was set.
    """

    def __init__(self) -> None:
        self._distance_ns: int | None = None

    def distance_ns(self) -> int:
        """From the monotonic clock to the wall clock now."""
        ahead_ns = time.time_ns() - time.perf_counter_ns()
        if self._distance_ns is None or abs(ahead_ns - self._distance_ns) > _CLOCK_STEP_NS:
            self._distance_ns = self._measured()
        return self._distance_ns

    @staticmethod
    def _measured() -> int:
        samples = []
        for _ in range(5):
            before, wall, after = time.perf_counter_ns(), time.time_ns(), time.perf_counter_ns()
            samples.append((after - before, wall - (before + after) // 2))
        return min(samples)[1]


_CLOCK_STEP_NS: Final = 1_000_000_000
wall_clock: Final = _WallClock()


class Owner(Protocol):
    """Who records a run."""

    report: Report

    def finish(self, run: Run, ending: Ending, clock_ns: int, outputs: Any = None) -> None:
        """End a run's span."""


@dataclass(kw_only=True, slots=True, eq=False)
class Tree:
    """What the runs below one outermost run share."""

    root: Run = field(init=False)
    """The outermost run that the handler sees."""
    backlog: Backlog
    """What is still to be recorded of it."""
    fingerprinter: Fingerprinter
    """The key of its fingerprints."""
    conversation: Conversation
    """What its model calls carried so far."""
    wall_distance_ns: int
    """From the monotonic clock to the wall clock, when it began."""
    last_event_ns: int
    """When something last happened in it, on the monotonic clock."""
    answered_ids: set[str] = field(default_factory=set)
    """Tool calls that ran, or that were found to have been answered otherwise."""
    executed: dict[object, SpanContext] = field(default_factory=dict)
    """What ran inside the nodes that were interrupted, and the spans that showed it."""
    replayable: dict[object, SpanContext] = field(default_factory=dict)
    """The same of the tree that this one resumes."""
    is_resumed: bool = False
    """Whether it goes on where another one was interrupted."""

    def unix_nano(self, clock_ns: int) -> int:
        """The wall clock at a time of the monotonic one, which no step of the wall clock brings out of order."""
        return clock_ns + self.wall_distance_ns


@dataclass(slots=True, eq=False)
class GraphFacts:
    """What an agent or a workflow did so far."""

    input_tokens: int = 0
    """Of the model calls that ended below it."""
    output_tokens: int = 0
    """Of the model calls that ended below it."""
    known_calls: int = 0
    """Model calls below it whose usage was reported."""
    unknown_calls: int = 0
    """Model calls below it whose usage nobody reported."""
    inference_calls: int = 0
    """Model calls that began below it, not counting those of agents below it."""
    tool_calls: int = 0
    """Tool calls that began below it, not counting those of agents below it."""
    tools: Sequence[Any] = ()
    """The tools that its model was last given."""
    hand_off: tuple[str, SpanContext] | None = None
    """The node to which control goes next, and the span that sent it there."""
    is_interrupted: bool = False
    """Whether an interrupt ended something below it."""
    interrupts: int | None = None
    """How many interrupts stopped it."""
    loops: LoopDetector | None = None
    """Its actions so far."""
    plan: Plan | None = None
    """What it set out to do."""
    plan_id: str | None = None
    """Span id of the plan's first version."""


@dataclass(slots=True, eq=False)
class NodeFacts:
    """What a node of a graph did so far."""

    inference_calls: int = 0
    """Model calls that began below it."""
    tool_call_ids: set[str] = field(default_factory=set)
    """Tool calls that ran right below it."""
    executed: dict[object, SpanContext] = field(default_factory=dict)
    """What ran inside it, for the case that it is interrupted and runs again."""
    last_graph: SpanContext | None = None
    """The agent or workflow that last ended below it."""


@dataclass(slots=True, eq=False)
class Stream:
    """What has arrived of a model's answer."""

    time_to_first_chunk_s: float
    """Seconds from the start of the call."""
    last_chunk: object
    """The chunk that arrived last, to know it again when a handler hears of it twice."""
    last_chunk_ns: int
    """When it arrived, on the monotonic clock."""
    chunk_gaps_s: list[float] = field(default_factory=list)
    """Seconds between the chunks."""
    characters: int = 0
    """Length of the text."""
    usage: Mapping[str, Any] | None = None
    """The first usage that a chunk reported."""


@dataclass(slots=True, eq=False)
class Run:
    """One LangChain run between its start and its end."""

    run_id: UUID
    """LangChain's id."""
    parent: Run | None
    """The run that it belongs to; `None` for the outermost run that the handler sees."""
    owner: Owner
    """Who records it."""
    tree: Tree
    """What it shares with the runs around it."""
    kind: RunKind
    """What it is."""
    name: str | None
    """LangChain's name for it; the model's name for a model call."""
    tags: Sequence[str]
    """As LangChain gave them."""
    metadata: Mapping[str, Any]
    """As LangChain gave it, inherited keys included."""
    started: Moment
    """When it started."""
    ambient: Context
    """The application's context at the start, whose baggage says which task this run serves."""
    task: Mapping[str, str]
    """The `tokenomics.task.*` attributes of that context."""
    is_inside_own_span: bool
    """Whether the application opened a span between the parent and this run."""
    live: LiveRun
    """As it was heard."""

    graph: Run | None = None
    """The agent or workflow that this run is, or the nearest around it."""
    agent_name: str | None = None
    """The name that the agent was given which this run is, or is part of."""
    step_id: str | None = None
    """The step of a plan that it carries out."""
    step_kind: Decided | None = None
    """What it is for, or the node that it is part of."""
    plan_span: Span | None = None
    """Of a tool that writes a plan: the span around its own."""
    request: Attributes | None = None
    """Of a model call: what its span said at the start."""
    context: Attributes | None = None
    """Of a model call: the context that it carried, for its span's end."""
    describe_input: Callable[[], Attributes] | None = None
    """Of a model call: its input as content, where an event shall carry it."""
    plan_schema: PlanSchema | None = None
    """Of a model call: the plan that it is made to answer with."""
    planner: Planner | None = None
    """Of a node that plans: how its output is read."""
    is_executor: bool = False
    """Whether it is a node that was declared to carry out the steps of a plan."""
    inputs: Any = None
    """What it was given."""
    role: NodeRole | None = None
    """What the node of an agent is for."""
    is_fallbacks: bool = False
    """Whether it tries one runnable after another."""
    tool_call_id: str | None = None
    """The id that the model gave to the call of a tool."""
    as_graph: GraphFacts | None = None
    """What it did so far, if it is an agent or a workflow."""
    as_node: NodeFacts | None = None
    """What it did so far, if it is a node."""
    stream: Stream | None = None
    """What has arrived of its answer, if it streams."""

    span: Span | None = None
    """The span that shows it, if one does."""
    span_context: SpanContext | None = None
    """Of that span."""
    span_id: str = ""
    """Of that span, 16 hex digits; empty when none shows it."""
    inner_context: tuple[Context, Context] | None = None
    """An application's context, and the same with that span as the current one: of the child that asked last."""
    open_children: dict[int, Run] | None = None
    """The runs right below it that have not ended, by id."""
    has_ended: bool = False
    """Whether it is over."""
    ended_unix_nano: int | None = None
    """When it ended; `None` also while that is still to be said."""
    is_reported: bool = False
    """Whether LangChain reported its end."""

    attempt_number: int = 1
    """Which attempt at its operation it is."""
    attempt_kind: str | None = None
    """What made it: `with_retry`, `model_retry`, `tool_retry`, `node_retry`, `fallback` or
    `structured_output_repair`; `None` for a first attempt."""
    operation_id: str | None = None
    """Span id of the first attempt; `None` when this is it."""
    replaces: Run | None = None
    """The attempt before; for a run without a span, the run that stands for the attempts below it."""
    replaceable: dict[object, Run] | None = None
    """Attempts right below it that another may replace, by what was attempted."""
    decisions: dict[str | None, list[Mapping[str, str | float]]] | None = None
    """Of a node: what policies decided about calls whose spans have not begun, by tool call; a model's under `None`."""
    kept_since_unix_nano: int | None = None
    """When it ended, while its span is kept open."""

    taken_over: SpanContext | None = None
    """The span that handed control to it."""

    def lineage(self) -> Iterator[Run]:
        """This run, its parent, and so on to the outermost one."""
        run: Run | None = self
        while run is not None:
            yield run
            run = run.parent

    def shown(self) -> Run | None:
        """The nearest run with a span, this one included."""
        run: Run | None = self
        while run is not None and run.span is None:
            run = run.parent
        return run

    def show_as(self, span: Span) -> None:
        """Have a span show it from now on."""
        self.span, self.span_context = span, span.get_span_context()
        self.span_id = format_span_id(self.span_context.span_id)

    def context_inside(self, ambient: Context) -> Context:
        """A context in which the span is current, over one of the application's."""
        if self.span is None:
            return ambient
        rest = without_span_of_run(ambient)
        # Most of what runs inside a run has the same context of the application's, and each is a copied dict.
        if self.inner_context is None or self.inner_context[0] is not rest:
            self.inner_context = rest, with_span(self.span, rest)
        return self.inner_context[1]

    def parent_context(self) -> Context:
        """The context that this run's span starts in: the nearest shown ancestor, over the ambient baggage."""
        if self.plan_span is not None:
            return with_span(self.plan_span, self.ambient)
        shown = None if self.is_inside_own_span or self.parent is None else self.parent.shown()
        return self.ambient if shown is None else shown.context_inside(self.ambient)

    def shared_attributes(self) -> Attributes:
        """What every span of a run says about the work that it is part of."""
        shared: Attributes = dict(self.task)
        if (thread_id := self.thread_id) is not None:
            shared[semconv.GEN_AI_CONVERSATION_ID] = thread_id
        if self.agent_name is not None:
            shared[semconv.GEN_AI_AGENT_NAME] = self.agent_name
        if self.step_id is not None:
            shared[semconv.PLAN_STEP_ID] = self.step_id
            if self.graph is not None and self.graph.as_graph is not None and self.graph.as_graph.plan_id is not None:
                shared[semconv.PLAN_ID] = self.graph.as_graph.plan_id
        return shared

    @property
    def thread_id(self) -> str | None:
        """The thread of the graph's configuration."""
        thread_id = self.metadata.get("thread_id")
        return None if thread_id is None else str(thread_id)

    def seconds(self, clock_ns: int) -> float:
        """How long it has been running at a time of the monotonic clock."""
        return (clock_ns - self.started.clock_ns) / 1e9


class Runs:
    """Open runs by id; safe to use from any thread.

    Args:
        max_open: Number of open runs at which the oldest tree is given up.
        idle_limit_s: Seconds without an event after which a tree is given up.
    """

    def __init__(self, *, max_open: int, idle_limit_s: float) -> None:
        self._max_open = max_open
        self._idle_limit_ns = int(idle_limit_s * 1e9)
        # By the id as an integer: a dict compares those without running Python code, so that each of its
        # operations is atomic, where one with UUIDs as keys would need a lock around all of them.
        self._open: dict[int, Run] = {}
        # The outermost ones, and those that outlive the run around them.
        self._roots: dict[int, Run] = {}
        self.live = LiveRuns(self._span_of)
        """The runs that are open, those included of which nothing is recorded yet."""

    def __len__(self) -> int:
        return len(self._open)

    def find(self, run_id: UUID | None) -> Run | None:
        """An open run; `None` when it has ended, or began where no handler listened."""
        return None if run_id is None else self._open.get(run_id.int)

    def _span_of(self, run_id: UUID) -> Span | None:
        run = self.find(run_id)
        return None if run is None else run.span

    def add(self, run: Run) -> bool:
        """Register a run that starts; false when another handler has registered it already."""
        key, parent = run.run_id.int, run.parent
        if self._open.setdefault(key, run) is not run:
            return False
        run.tree.last_event_ns = run.started.clock_ns
        if parent is None:
            self._roots[key] = run
            self._give_up_idle(run.started.clock_ns)
        elif parent.open_children is None:
            parent.open_children = {key: run}
        else:
            parent.open_children[key] = run
        if parent is not None and parent.has_ended:  # in another thread, since we found it
            self._open.pop(key, None)
            return False
        if len(self._open) > self._max_open:
            self._give_up_oldest(run)
        return True

    def remove(self, run_id: UUID, *, outlives: Callable[[Run], bool] | None = None) -> tuple[Run, list[Run]] | None:
        """Forget a run that ends, and the runs still open below it, innermost first; `None` when it is not open.

        Args:
            run_id: Of the run that ends.
            outlives: Which of those below it go on by themselves, and stay.
        """
        run = self._open.pop(run_id.int, None)
        if run is None:
            return None
        left_open = self._forget_below(run, outlives) if run.open_children else []
        self._forget(run)
        return run, left_open

    def sweep(self) -> None:
        """Give up every run that is open."""
        self._give_up(list(self._roots.values()), time.perf_counter_ns())

    def _forget(self, run: Run) -> None:
        key = run.run_id.int
        run.has_ended = True
        if not run.live.has_ended:
            self.live.end(run.run_id)
        if run.parent is not None and run.parent.open_children is not None:
            run.parent.open_children.pop(key, None)
        # In vain for most runs, but for one that outlives the run around it.
        self._roots.pop(key, None)

    def _forget_below(self, run: Run, outlives: Callable[[Run], bool] | None) -> list[Run]:
        left_open: list[Run] = []
        for child in list((run.open_children or {}).values()):
            if outlives is not None and outlives(child):
                self._roots[child.run_id.int] = child
                continue
            left_open += self._forget_below(child, outlives)
            if self._open.pop(child.run_id.int, None) is not None:
                self._forget(child)
                left_open.append(child)
        return left_open

    def _give_up_idle(self, now_ns: int) -> None:
        # The oldest few are enough: every new tree looks at them again.
        oldest = list(self._roots.values())[:4]
        self._give_up([run for run in oldest if now_ns - run.tree.last_event_ns > self._idle_limit_ns], now_ns)

    def _give_up_oldest(self, newcomer: Run) -> None:
        # Never the newcomer's own: one tree may be as large as it needs to be.
        others = (run for run in list(self._roots.values()) if run.tree is not newcomer.tree)
        self._give_up(list(islice(others, 1)), newcomer.started.clock_ns)

    def _give_up(self, roots: Sequence[Run], now_ns: int) -> None:
        for outermost in roots:
            if (removed := self.remove(outermost.run_id)) is not None:
                root, left_open = removed
                ended = [(run, ABANDONED) for run in (*left_open, root)]
                root.tree.backlog.add((root.owner.report, finish_all, (ended, now_ns)))
                root.tree.backlog.drain()


def finish_all(ended: Iterable[tuple[Run, Ending]], clock_ns: int, outputs: Any = None) -> None:
    """End runs, the outermost one last, whose outputs these are; what fails for one does not keep the others open."""
    failure: Exception | None = None
    for run, ending in ended:
        try:
            run.owner.finish(run, ending, clock_ns, outputs if run.is_reported else None)
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure


def surroundings(parent: Run | None, current: Context) -> tuple[Context, Mapping[str, str], bool]:
    """The application's context for a run that starts now, its task, and whether it opened a span of its own around it.

    A worker thread may have no context at all, so a run inside another takes its parent's, unless the
    program has entered a task of its own in between.
    """
    if parent is None:
        return current, task_attributes(current), False
    if current is parent.live.ambient or current is parent.ambient:
        return current, parent.task, False
    task = task_attributes(current)
    # A span that a handler made current is none of the application's, though it be another provider's.
    is_inside = not isinstance(current, AmbientSpan) and _has_own_span(parent, current)
    return (current, task, is_inside) if task or is_inside else (parent.ambient, parent.task, False)


def _has_own_span(parent: Run, current: Context) -> bool:
    """Whether the program opened a span since `parent` started, which is then what a child belongs under."""
    span = get_current_span(current)
    if not span.get_span_context().is_valid:
        return False
    return all(span is not run.span and span is not span_in(run.ambient) for run in parent.lineage())

"""Plans: reading them from what agents write, and following their steps from one revision to the next.

LangChain has no notion of a plan. Three things are one for certain: what the tool `write_todos` was given, what a
node returned that the application declared as its planner, and a structured answer whose schema it declared.

A step is known by a fingerprint of its text, so plans can be followed where no text may leave the process. Two
kinds of planners differ in what a missing step means. A todo list says of each step how far it is; an item that is
gone was given up, unless it was completed. A planner that an executor follows lists what is still to do; an item
that is gone was given up, unless it was carried out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Any, Final, Literal, TypeVar

from langgraph.types import Command
from opentelemetry.trace import SpanContext

from tokenomics_langchain.attributes import Attributes, known
from tokenomics_plugin import semconv

__all__ = [
    "Fingerprint",
    "Plan",
    "PlanSchema",
    "PlanStep",
    "Planner",
    "Planners",
    "Revision",
    "StepStatus",
    "steps_of_input",
    "steps_of_output",
    "steps_of_todos",
]

Fingerprint = Callable[[str], str]
"""From a step's text to its id, the same for the same text."""

StepStatus = Literal["pending", "in_progress", "completed"]

_STATUSES: Final[Mapping[str, StepStatus]] = {
    "pending": "pending",
    "todo": "pending",
    "not_started": "pending",
    "in_progress": "in_progress",
    "completed": "completed",
    "complete": "completed",
    "done": "completed",
}
_TEXT_FIELDS: Final = ("content", "description", "step", "task", "text", "title", "goal", "instruction", "name")
_Declaration = TypeVar("_Declaration", bound="Planner | PlanSchema")
# A longer list is data, not a plan.
_MAX_STEPS: Final = 1_000
_MAX_SPANS: Final = 32


@dataclass(frozen=True)
class Planner:
    """Declares a node whose output is a plan.

    Raises:
        ValueError: If a name is empty, or the node is its own executor.
    """

    node: str
    """The node's name."""
    steps: str = field(default="plan", kw_only=True)
    """The key of its output that holds the list of steps; `plan.steps` for the field of an object there."""
    executor: str | None = field(default=None, kw_only=True)
    """The node that carries the steps out, one a run."""

    def __post_init__(self) -> None:
        _require_name("node", self.node, "as given to add_node")
        _require_path(self.steps, "the key of the node's output that holds the steps")
        if self.executor is None:
            return
        _require_name("executor", self.executor, "as given to add_node, or leave it out")
        if self.executor == self.node:
            raise ValueError(
                f"a node either plans or carries out, got node={self.node!r} and executor={self.executor!r}: "
                "name another node, or leave the executor out"
            )


@dataclass(frozen=True)
class PlanSchema:
    """Declares a schema whose instances are plans: structured output of a model, or the arguments of a tool.

    Raises:
        ValueError: If a name is empty.
    """

    name: str
    """The name of a class, the title of a JSON schema or the name of a tool."""
    steps: str = field(default="steps", kw_only=True)
    """The field that holds the list of steps; `plan.steps` for the field of an object there."""

    def __post_init__(self) -> None:
        _require_name("name", self.name, "of a class, or the title of a JSON schema")
        _require_path(self.steps, "the field that holds the steps")


class Planners:
    """What an application declared about its plans, by the names that it meets while it runs.

    Args:
        declared: Nodes and schemas.

    Raises:
        ValueError: If two declarations contradict each other.
    """

    def __init__(self, declared: Iterable[Planner | PlanSchema] = ()) -> None:
        self._by_node: dict[str, Planner] = {}
        self._by_executor: dict[str, Planner] = {}
        self._by_schema: dict[str, PlanSchema] = {}
        for one in declared:
            if isinstance(one, PlanSchema):
                _declare(self._by_schema, one.name, one)
            else:
                _declare(self._by_node, one.node, one)
                self._declare_executor(one)
        for node in self._by_node.keys() & self._by_executor.keys():
            raise ValueError(
                f"a node either plans or carries out, got {self._by_node[node]} and {self._by_executor[node]}: "
                "drop the first, or the executor of the second"
            )

    def __bool__(self) -> bool:
        """Whether anything is declared."""
        return bool(self._by_node or self._by_schema)

    def of_node(self, name: str) -> Planner | None:
        """The planner that the node of this name is."""
        return self._by_node.get(name)

    def of_executor(self, name: str) -> Planner | None:
        """A planner whose steps the node of this name carries out; all such planners write the same plan."""
        return self._by_executor.get(name)

    def of_schema(self, name: str) -> PlanSchema | None:
        """The schema of this name."""
        return self._by_schema.get(name)

    def _declare_executor(self, planner: Planner) -> None:
        if planner.executor is None:
            return
        other = self._by_executor.setdefault(planner.executor, planner)
        if other.steps != planner.steps:
            raise ValueError(
                f"a node carries out the steps of one plan, got {other} and {planner}: "
                "give both the same steps, or leave the executor of one out"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanStep:
    """A step as a plan lists it."""

    id: str
    """Fingerprint of its text."""
    status: StepStatus | None = None
    """How far it is; `None` when the plan does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """A plan as it was written at one time, and what changed since the time before."""

    number: int
    """0 for the first."""
    steps: tuple[str, ...]
    """Ids of the steps, in the plan's order."""
    statuses: tuple[StepStatus | None, ...]
    """How far each one is, in the same order; `None` where the plan does not say."""
    added: tuple[str, ...]
    """Steps that were not in the plan before."""
    removed: tuple[str, ...]
    """Steps that are gone and were not done."""
    completed: tuple[str, ...]
    """Steps that are done since the revision before: their status says so, or they were carried out and are gone."""
    carried_out_by: Mapping[str, tuple[SpanContext, ...]]
    """Completed step to the spans that carried it out, the first 32 at most."""
    left_out: Mapping[str, int]
    """Completed step to the number of further spans, for steps that have any."""

    def attributes(self, plan_id: str) -> Attributes:
        """What the span of the plan says about it; statuses only when the plan states every one."""
        statuses = tuple(status for status in self.statuses if status is not None)
        return known(
            (semconv.PLAN_ID, plan_id),
            (semconv.PLAN_REVISION, self.number),
            (semconv.PLAN_STEPS, self.steps),
            (semconv.PLAN_STEP_STATUSES, statuses if len(statuses) == len(self.steps) else None),
            (semconv.PLAN_STEPS_ADDED, len(self.added)),
            (semconv.PLAN_STEPS_REMOVED, len(self.removed)),
            (semconv.PLAN_STEPS_COMPLETED, len(self.completed)),
        )


class Plan:
    """Follows one plan of an agent or graph run through its revisions.

    A step's id is the fingerprint of its text. Where a plan has the same text several times, a number tells the
    others apart: `id#2`, `id#3`.

    Not safe to use from several threads at once: the caller holds a lock.
    """

    def __init__(self) -> None:
        self._next_number = 0
        self._steps: dict[str, PlanStep] = {}
        self._ids_by_text: Mapping[str, Sequence[str]] = {}
        self._in_progress: Sequence[str] = ()
        self._begun: dict[str, None] = {}  # in the order of their beginning
        self._carried_out: set[str] = set()
        self._spans: dict[str, _Spans] = {}

    @property
    def active(self) -> str | None:
        """The step that is being carried out; `None` when there is none, or more than one.

        It is the step that the plan says is in progress, or else the one that an executor has begun.
        """
        doing = self._in_progress or tuple(self._begun)
        return doing[0] if len(doing) == 1 else None

    def revise(self, steps: Sequence[PlanStep]) -> Revision:
        """Take over the plan as it is written now.

        Args:
            steps: All of them, though those that an executor has carried out may be missing. One that it has
                carried out and that is listed again, not as completed, is to be done again.
        """
        before, after = self._steps, self._identify(steps)
        gone = [step_id for step_id in before if step_id not in after]
        completed = (
            *(step_id for step_id in gone if step_id in self._carried_out and not _is_completed(before[step_id])),
            *(key for key, step in after.items() if _is_completed(step) and not _is_completed(before.get(key))),
        )
        spans = {step_id: self._spans.pop(step_id) for step_id in completed if step_id in self._spans}
        revision = Revision(
            number=self._next_number,
            steps=tuple(after),
            statuses=tuple(step.status for step in after.values()),
            added=tuple(step_id for step_id in after if step_id not in before),
            removed=tuple(step_id for step_id in gone if not self._is_done(step_id)),
            completed=completed,
            carried_out_by={step_id: tuple(one.first) for step_id, one in spans.items()},
            left_out={step_id: one.left_out for step_id, one in spans.items() if one.left_out},
        )
        self._take_over(after)
        return revision

    def settle(self) -> Revision | None:
        """Count as completed what was carried out since the last revision; `None` when nothing was.

        For a planner that answers instead of planning on, and for the end of the run: no later revision tells.
        """
        if not self._carried_out:
            return None
        return self.revise([step for step_id, step in self._steps.items() if step_id not in self._carried_out])

    def begin_step(self, inputs: Sequence[PlanStep] = ()) -> str | None:
        """An executor begins to carry out a step.

        Args:
            inputs: The steps that it was given, read by `steps_of_input`.

        Returns:
            The first of those that is still to do, or when the plan knows none of them, its own next one.
            `None` when nothing is to do.
        """
        texts = dict.fromkeys(step.id for step in inputs if not _is_completed(step))
        given = [step_id for text in texts for step_id in self._ids_by_text.get(text, ())]
        to_do = (
            step_id for step_id in given or self._steps if step_id not in self._begun and not self._is_done(step_id)
        )
        step_id = next(to_do, given[0] if given else None)
        if step_id is not None:
            self._begun[step_id] = None
            self._carried_out.discard(step_id)
        return step_id

    def end_step(self, step_id: str, *, is_done: bool) -> None:
        """An executor stops working on a step that it had begun; a step that is not done remains to do."""
        if step_id in self._begun:
            del self._begun[step_id]
            if is_done:
                self._carried_out.add(step_id)

    def carried_out(self, where: SpanContext, step_id: str | None = None) -> str | None:
        """Remember that a span carried out a step.

        Args:
            where: The span.
            step_id: The step; the active one by default.

        Returns:
            The step; `None` when there is none, or it is not in the plan.
        """
        step_id = step_id or self.active
        if step_id is None or step_id not in self._steps:
            return None
        if (spans := self._spans.get(step_id)) is None:
            spans = self._spans[step_id] = _Spans()
        spans.add(where)
        return step_id

    def _is_done(self, step_id: str) -> bool:
        return step_id in self._carried_out or _is_completed(self._steps[step_id])

    def _identify(self, steps: Sequence[PlanStep]) -> dict[str, PlanStep]:
        """The steps by their ids in this plan, which they keep from one revision to the next."""
        same_text: defaultdict[str, list[PlanStep]] = defaultdict(list)
        for step in steps:
            same_text[step.id].append(step)
        ids = {text: self._ids(text, listed) for text, listed in same_text.items()}
        return {next(ids[step.id]): step for step in steps}

    def _ids(self, text: str, listed: Sequence[PlanStep]) -> Iterator[str]:
        """The ids of steps with the same text: first of those that stay in the plan, then free ones."""
        staying = dict.fromkeys(self._staying(self._ids_by_text.get(text, ()), listed))
        yield from staying
        for number in count(1):
            step_id = text if number == 1 else f"{text}#{number}"
            if step_id not in staying:
                yield step_id

    def _staying(self, ids: Sequence[str], listed: Sequence[PlanStep]) -> Sequence[str]:
        """Which of several steps with the same text are meant when fewer are listed: the done ones went first."""
        if len(ids) <= len(listed):
            return ids
        done = [step_id for step_id in ids if self._is_done(step_id)]
        last_to_do = [step_id for step_id in reversed(ids) if not self._is_done(step_id)]
        unlisted = max(0, len(done) - sum(map(_is_completed, listed)))
        leaving = frozenset([*done[:unlisted], *last_to_do, *done[unlisted:]][: len(ids) - len(listed)])
        return [step_id for step_id in ids if step_id not in leaving]

    def _take_over(self, steps: dict[str, PlanStep]) -> None:
        ids_by_text: defaultdict[str, list[str]] = defaultdict(list)
        for step_id, step in steps.items():
            ids_by_text[step.id].append(step_id)
        self._next_number += 1
        self._steps, self._ids_by_text = steps, ids_by_text
        self._in_progress = [step_id for step_id, step in steps.items() if step.status == "in_progress"]
        self._begun = {step_id: None for step_id in self._begun if step_id in steps}
        self._spans = {step_id: spans for step_id, spans in self._spans.items() if step_id in steps}
        self._carried_out.clear()


@dataclass(slots=True)
class _Spans:
    """The spans that carried out one step."""

    first: list[SpanContext] = field(default_factory=list)
    left_out: int = 0

    def add(self, where: SpanContext) -> None:
        if len(self.first) < _MAX_SPANS:
            self.first.append(where)
        else:
            self.left_out += 1


def steps_of_todos(todos: Any, fingerprint: Fingerprint) -> tuple[PlanStep, ...] | None:
    """The steps of a todo list as `write_todos` takes it; `None` when it is no list of steps.

    Args:
        todos: Texts, or mappings or objects with a text field, such as `{"content": ..., "status": ...}`.
            Entries without a text are passed over.
        fingerprint: Gives a step its id.
    """
    if not isinstance(todos, list | tuple) or len(todos) > _MAX_STEPS:
        return None
    steps = tuple(
        PlanStep(id=fingerprint(text), status=_status(todo)) for todo in todos if (text := _text(todo)) is not None
    )
    return None if todos and not steps else steps


def steps_of_output(output: Any, key: str, fingerprint: Fingerprint) -> tuple[PlanStep, ...] | None:
    """The steps in what a planner returned; `None` when it returned no plan.

    Args:
        output: A mapping, an object, a `Command` that updates the state with one, or a list of these.
        key: Where the list of steps is: a key or field, or several joined by dots.
        fingerprint: Gives a step its id.
    """
    for update in _updates(output):
        steps = steps_of_todos(_find(update, key), fingerprint)
        if steps is not None:
            return steps
    return None


def steps_of_input(inputs: Any, key: str, fingerprint: Fingerprint) -> tuple[PlanStep, ...]:
    """The steps that an executor was given: the list in the state, or the one step that `Send` brought.

    Args:
        inputs: The input of the executor's node.
        key: Where the state has the list, as for `steps_of_output`.
        fingerprint: Gives a step its id.
    """
    return steps_of_output(inputs, key, fingerprint) or steps_of_todos([inputs], fingerprint) or ()


def _updates(output: Any) -> Iterator[Any]:
    """The updates of the state that a node's output consists of."""
    for one in output if isinstance(output, list) else (output,):
        update = one.update if isinstance(one, Command) else one
        if isinstance(update, list | tuple):  # a Command may have pairs of key and value
            yield from (dict([pair]) for pair in update if _is_pair(pair))
        else:
            yield update


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _find(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = _fields(value).get(name)
    return value


def _fields(value: Any) -> Mapping[Any, Any]:
    """A mapping, or what an object holds; its properties are the application's code, and stay unread."""
    if isinstance(value, Mapping):
        return value
    held = getattr(value, "__dict__", None)
    return held if isinstance(held, dict) else {}


def _text(step: Any) -> str | None:
    """The words of a step, without the space around them."""
    fields = _fields(step)
    candidates = (step,) if isinstance(step, str) else (fields.get(name) for name in _TEXT_FIELDS)
    return next((text.strip() for text in candidates if isinstance(text, str) and text.strip()), None)


def _status(step: Any) -> StepStatus | None:
    status = _fields(step).get("status")
    if isinstance(status, Enum):
        status = status.value
    return _STATUSES.get(status.lower().replace(" ", "_").replace("-", "_")) if isinstance(status, str) else None


def _is_completed(step: PlanStep | None) -> bool:
    return step is not None and step.status == "completed"


def _require_name(field_name: str, value: str, meaning: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{field_name} must be a name, got {value!r}: give the name {meaning}")


def _require_path(value: str, meaning: str) -> None:
    if not isinstance(value, str) or not all(name.strip() for name in value.split(".")):
        raise ValueError(f"steps must be a name or names joined by dots, got {value!r}: give {meaning}")


def _declare(declared: dict[str, _Declaration], name: str, one: _Declaration) -> None:
    if name in declared:
        raise ValueError(f"{name!r} must be declared once, got {declared[name]} and {one}: drop one of them")
    declared[name] = one

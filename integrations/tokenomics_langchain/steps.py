"""What a step of an agent is for: to plan, act, observe, reflect, verify or answer, and how that was decided.

LangChain does not say. What the application declares counts first, then what the shape of a run shows (a model
that calls tools acts, one that calls none answers), and last the words of a node's name. Names are read word by
word, since `checkout` checks nothing and the `latest` node is no test. Where nothing tells, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Literal

from tokenomics_langchain.attributes import Attributes
from tokenomics_plugin import semconv

__all__ = [
    "KIND_OF_RETRIEVAL",
    "STEP_KIND_METADATA",
    "WRITE_TODOS",
    "Decided",
    "StepKind",
    "declared_step_kinds",
    "kind_of_model_call",
    "kind_of_node",
    "kind_of_tool",
]

STEP_KIND_METADATA: Final = "tokenomics_step_kind"
"""Key of a node's metadata that declares its kind: `add_node(..., metadata={"tokenomics_step_kind": "verify"})`."""
WRITE_TODOS: Final = "write_todos"
"""The tool by which `TodoListMiddleware` lets an agent write its plan."""


class StepKind(Enum):
    """What a step is for; the values of `tokenomics.step.kind`."""

    PLAN = "plan"
    ACT = "act"
    OBSERVE = "observe"
    REFLECT = "reflect"
    VERIFY = "verify"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Decided:
    """The kind of a step, and how it was decided."""

    kind: StepKind
    """What the step is for."""
    source: Literal["declared", "structure", "name"]
    """By the application, by the shape of the run, or by the words of a name."""
    attributes: Attributes = field(init=False, compare=False, repr=False)
    """What the step's span says about it."""

    def __post_init__(self) -> None:
        # Once for the many spans that share it.
        attributes: Attributes = {semconv.STEP_KIND: self.kind.value, semconv.STEP_KIND_SOURCE: self.source}
        object.__setattr__(self, "attributes", attributes)


KIND_OF_RETRIEVAL: Final = Decided(StepKind.OBSERVE, "structure")
"""The kind of a retriever's run."""
_PLANS: Final = Decided(StepKind.PLAN, "structure")
_ACTS: Final = Decided(StepKind.ACT, "structure")
_ANSWERS: Final = Decided(StepKind.ANSWER, "structure")

# In the order in which they decide a name that has words of several kinds: `review_plan` and `plan_review` review,
# `execute_plan` and `plan_executor` act, `final_check` verifies.
_WORDS: Final = tuple(
    (kind, frozenset(words.split()))
    for kind, words in (
        (StepKind.REFLECT, "reflect reflection reflector critique critic review reviewer revise reviser revisor"),
        (
            StepKind.VERIFY,
            "verify verifier verification validate validator validation check checker test tester "
            "judge grade grader evaluate evaluator evaluation",
        ),
        (StepKind.ACT, "act execute executor execution"),
        (StepKind.PLAN, "plan planner planning replan replanner"),
        (StepKind.OBSERVE, "observe observer retrieve retriever retrieval search read reader fetch fetcher"),
        (StepKind.ANSWER, "answer respond responder response"),
        (StepKind.ACT, "tool tools"),
        (StepKind.ANSWER, "final finish finalize"),
    )
)
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Two words that together mean something else: ReAct, and what hotels and shops do.
_COMPOUNDS: Final = frozenset({("re", "act"), ("check", "in"), ("check", "out")})
_CONJUNCTIONS: Final = frozenset({"and", "or"})
# Nodes of middleware are called after their class and hook: `ToolCallLimitMiddleware.after_model` calls no tool.
_HOOKS: Final = ("before_agent", "before_model", "after_model", "after_agent")


def declared_step_kinds(declared: Mapping[str, str] | None) -> Mapping[str, StepKind]:
    """What the application declared: names of nodes to kinds.

    Raises:
        ValueError: If a kind is unknown.
    """
    return {node: _declared_kind(node, kind) for node, kind in (declared or {}).items()}


def kind_of_node(name: str | None, metadata: Mapping[str, Any], declared: Mapping[str, StepKind]) -> Decided | None:
    """What a node is for, if anything tells.

    Args:
        name: The node's name.
        metadata: The metadata of its run. What a node declares there holds for the nodes inside it too, for
            they inherit it.
        declared: Kinds by the names of nodes, which count most.
    """
    kind = declared.get(name or "") or _KINDS.get(str(metadata.get(STEP_KIND_METADATA)))
    if kind is not None:
        return Decided(kind, "declared")
    return _kind_of_name(name) if name else None


def kind_of_model_call(*, has_tool_calls: bool, inside: Decided | None, in_agent: bool) -> Decided | None:
    """What a call of a model was for, known when it has answered.

    Args:
        has_tool_calls: Whether the answer calls tools.
        inside: The kind of the node around it, which it shares.
        in_agent: Whether an agent's loop made the call.
    """
    if inside is not None or not in_agent:
        return inside
    return _ACTS if has_tool_calls else _ANSWERS


def kind_of_tool(name: str | None) -> Decided:
    """What a tool is for."""
    return _PLANS if name == WRITE_TODOS else _ACTS


_KINDS: Final = {kind.value: kind for kind in StepKind}


def _declared_kind(node: str, kind: str) -> StepKind:
    if kind not in _KINDS:
        raise ValueError(f"the step kind of node {node!r} must be one of {', '.join(_KINDS)}, got {kind!r}")
    return _KINDS[kind]


@lru_cache(maxsize=1_024)
def _kind_of_name(name: str) -> Decided | None:
    if name.endswith(_HOOKS):
        return None
    words = frozenset(_words(name))
    kinds = list(dict.fromkeys(kind for kind, telling in _WORDS if words & telling))
    if not kinds or (len(kinds) > 1 and words & _CONJUNCTIONS):  # `plan_and_execute` does both
        return None
    return Decided(kinds[0], "name")


def _words(name: str) -> Iterator[str]:
    words = [word.lower() for word in _WORD.findall(name)]
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if (word, after) not in _COMPOUNDS and (before, word) not in _COMPOUNDS:
            yield word

"""The seam at which budgets, retry caps and loop breakers stop calls.

A policy is asked before each model and tool call, and told after it what came of it. What it sees are names, numbers
and keyed fingerprints, never content, and all of it can be read from recorded spans as well: so a policy can be tried
on past runs before it stops anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from tokenomics_plugin import semconv
from tokenomics_plugin.usage import TokenUsage

__all__ = [
    "Allowed",
    "CallPolicy",
    "CallResult",
    "Decision",
    "Mode",
    "ProposedCall",
    "Recalled",
    "Refused",
    "Verdict",
]

Mode = Literal["shadow", "enforce"]
"""`shadow` only records what would be done; `enforce` does it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposedCall:
    """A call that is about to be made. What is unknown is `None`."""

    kind: Literal["model", "tool"]
    """What is called."""
    name: str | None
    """The model or the tool."""
    operation_id: str
    """The same for all attempts at one call, and for no other call."""
    attempt: int
    """1 for the first attempt; 1 always where retries happen out of sight, as inside a client library."""
    run_id: str | None
    """The run that the application started, sub-agents included. What a run may spend is kept by it."""
    agent_run_id: str | None
    """The run of the agent that makes the call; a sub-agent has another one each time. Loops are looked for in it."""
    agent_name: str | None
    """`gen_ai.agent.name`."""
    task_id: str | None
    """The business task, as given to `tokenomics_plugin.task`."""
    conversation_id: str | None
    """`gen_ai.conversation.id`."""
    provider: str | None = None
    """`gen_ai.provider.name` of a model."""
    tool_call_id: str | None = None
    """Id by which the model asked for a tool."""
    arguments_fingerprint: str | None = None
    """Of a tool's arguments, as `tokenomics.arguments.fingerprint`."""
    input_characters: int | None = None
    """Length of the text that a model is sent: its system prompt and messages, without the tools' schemas."""
    max_output_tokens: int | None = None
    """The most tokens that a model may answer with, where the request says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallResult:
    """What came of a call."""

    state: str
    """`completed`, `failed`, `refused` by a policy further in, `recalled` from memory, or a value of `tokenomics.run.state`: a call that was
    interrupted or cancelled has not failed."""
    duration_ns: int
    """Nanoseconds it took, on a monotonic clock."""
    usage: TokenUsage | None = None
    """Tokens of a model call; of the last attempt, where several are made out of sight."""
    error_type: str | None = None
    """`error.type`, as on the call's span."""
    result_fingerprint: str | None = None
    """Of what it returned, as `tokenomics.result.fingerprint`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a rule decided about a call, or would have: an event on the span that makes the call."""

    rule: str
    """Short name of the rule, such as `budget`; no content."""
    acts: bool
    """Whether the rule is for stopping the call or answering it; in shadow mode the call is made all the same."""
    mode: Mode
    """Whether it was done."""
    reason: str
    """Why, in a sentence without content."""
    estimate: float | None = None
    """What it was decided by, in the rule's unit: USD for a budget; `None` where there is no number."""
    propensity: float | None = None
    """Probability with which chance took this decision; `None` where nothing was drawn."""

    def to_attributes(self) -> dict[str, str | bool | float]:
        """The event's attributes."""
        attributes: dict[str, str | bool | float] = {
            semconv.POLICY_RULE: self.rule,
            semconv.POLICY_ACTS: self.acts,
            semconv.POLICY_MODE: self.mode,
            semconv.POLICY_REASON: self.reason,
        }
        if self.estimate is not None:
            attributes[semconv.POLICY_ESTIMATE] = self.estimate
        if self.propensity is not None:
            attributes[semconv.POLICY_PROPENSITY] = self.propensity
        return attributes


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """The call may be made."""

    decisions: tuple[Decision, ...] = ()
    """What rules say of it that is worth recording."""
    remember_as: str | None = None
    """Key under which to keep the result of a tool, so that it can be `Recalled`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """The call is not made.

    A refused model call is answered with `reason` and asks for no tool, which ends the agent's loop. A refused tool
    call is answered with `reason` as an error, which the model reads.
    """

    reason: str
    """The answer in the call's place, for a model or a person to read."""
    rule: str
    """Short name of what refused, such as `budget`. It goes on the call's span: put no content here."""
    decisions: tuple[Decision, ...] = ()
    """What rules say of it that is worth recording."""

    def to_attributes(self) -> dict[str, str | bool]:
        """What the span of the refused call says about it."""
        return {semconv.POLICY_REFUSED: True, semconv.POLICY_RULE: self.rule}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalled:
    """The tool is not run: it is answered with a result that was kept."""

    key: str
    """What it was remembered as. If nothing is kept under it any more, the tool is run."""
    decisions: tuple[Decision, ...] = ()
    """What rules say of it that is worth recording."""


Verdict = Allowed | Refused | Recalled
"""A policy's answer."""


class CallPolicy(Protocol):
    """Decides about calls one by one, with what it remembers of earlier ones.

    Calls of one run, and several runs, may ask at the same time, from different threads. Both methods run on the
    path of the call, on the event loop too, and must not block. One that raises is logged once, and its call allowed.
    """

    def ask(self, call: ProposedCall) -> Verdict:
        """Decide about a call before it is made."""
        ...

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Learn the result of a call that was allowed: the call that `ask` was given, once, however it ended."""
        ...

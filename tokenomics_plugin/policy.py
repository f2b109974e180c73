"""The seam at which budgets, retry caps and loop breakers stop calls.

A policy is asked before each model and tool call, and told after it what came of it. What it sees are names, numbers
and keyed fingerprints, never content, and all of it can be read from recorded spans as well: so a policy can be tried
on past runs before it stops anything. A tool's answer passes through it unread, to be given again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tokenomics_plugin import semconv
from tokenomics_plugin.usage import TokenUsage

__all__ = ["Allowed", "Answered", "CallPolicy", "CallResult", "Decision", "Mode", "ProposedCall", "Refused", "Verdict"]

Mode = Literal["shadow", "enforce"]
"""Whether a policy only says what it would do, or does it."""


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
    """`completed`, `failed`, `refused` by another policy, `answered` by one from memory, or a value of
    `tokenomics.run.state`: a call that was interrupted or cancelled has not failed."""
    duration_ns: int
    """Nanoseconds it took, on a monotonic clock."""
    usage: TokenUsage | None = None
    """Tokens of a model call; of the last attempt, where several are made out of sight."""
    error_type: str | None = None
    """`error.type`, as on the call's span."""
    result_fingerprint: str | None = None
    """Of what it returned, as `tokenomics.result.fingerprint`."""
    answer: Any = field(default=None, repr=False, compare=False)
    """What a completed tool call answered, where giving it again would do all that the call did to the agent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a policy decided, or would have decided, about a call: an event of the call's span."""

    rule: str
    """Short name of the policy."""
    mode: Mode
    """In `shadow`, the call was made all the same."""
    action: Literal["stop", "block", "answer", "warn", "go_on"]
    """What it did about the call."""
    reason: str
    """Why, in a sentence of numbers: it is recorded, so no content."""
    estimate: float | None = None
    """The figure that decided."""
    propensity: float | None = None
    """Probability with which the call would be made, where chance decided."""
    kind: str | None = None
    """What was left to chance."""

    def to_attributes(self) -> dict[str, str | float]:
        """The event's attributes; what is unknown is left out."""
        named = {
            semconv.POLICY_RULE: self.rule,
            semconv.POLICY_MODE: self.mode,
            semconv.POLICY_ACTION: self.action,
            semconv.POLICY_REASON: self.reason,
            semconv.POLICY_ESTIMATE: self.estimate,
            semconv.POLICY_PROPENSITY: self.propensity,
            semconv.POLICY_DECISION: self.kind,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Allowed:
    """The call may be made."""

    decisions: tuple[Decision, ...] = ()
    """What is to be recorded about it."""


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
    """What is to be recorded about it."""

    def to_attributes(self) -> dict[str, str | bool]:
        """What the span of the refused call says about it."""
        return {semconv.POLICY_REFUSED: True, semconv.POLICY_RULE: self.rule}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """The tool is not called: an earlier answer to the same call is given again."""

    answer: Any = field(repr=False)
    """As it came in `CallResult.answer`."""
    rule: str
    """Short name of what answered."""
    decisions: tuple[Decision, ...] = ()
    """What is to be recorded about it."""

    def to_attributes(self) -> dict[str, str | bool]:
        """What the span of the answered call says about it."""
        return {semconv.POLICY_ANSWERED: True, semconv.POLICY_RULE: self.rule}


Verdict = Allowed | Answered | Refused
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

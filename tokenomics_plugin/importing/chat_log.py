"""One line of a chat log, checked and typed: what a run said, what the provider counted, what became of it.

`chat_log.schema.json` is the format; what a schema cannot say is checked here. A line that breaks a rule is
refused whole, because half a conversation would be counted as a cheap one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Final

from tokenomics_plugin.errors import MalformedLineError
from tokenomics_plugin.importing.blocks import ToolCall, parsed_json
from tokenomics_plugin.importing.json_schema import Checker
from tokenomics_plugin.outcome import Outcome, OutcomeStatus, as_money
from tokenomics_plugin.usage import TokenUsage

__all__ = ["ChatLogError", "ChatRun", "Message", "read_run", "usage_of"]

_MAX_PROBLEMS: Final = 3
_MAX_TOKENS: Final = 2**53 - 1  # what a JSON number holds exactly
_MAX_SECONDS: Final = 9_000_000_000  # 2255
_ANTHROPIC_CACHE: Final = ("cache_read_input_tokens", "cache_creation_input_tokens")


class ChatLogError(MalformedLineError):
    """A line that is not a run; the message names the fields, the rules and the way out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message of the conversation."""

    role: str
    """As the log says it."""
    content: Any = None
    """Text, parts, or `None`."""
    calls: tuple[ToolCall, ...] = ()
    """Tool calls that it asks for."""
    answers: str | None = None
    """Id of the tool call that it answers."""
    tool: str | None = None
    """Name of the tool that it comes from."""
    is_error: bool = False
    """Whether it tells of an error."""
    model: str | None = None
    """The model that wrote it."""
    response_id: str | None = None
    """The provider's id of the response."""
    finish_reason: str | None = None
    """Why the model stopped."""
    timestamp: int | None = None
    """When it was complete, nanoseconds since 1970."""
    usage: TokenUsage | None = None
    """What its call consumed; `None` when the log does not say."""
    cost: Decimal | None = None
    """USD that its call cost; `None` when the log does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRun:
    """One run of an agent on one task."""

    task_id: str
    """What its outcome is about; with `#` and the trial where there are several."""
    group: str | None
    """Cluster of tasks that are alike."""
    agent: str | None
    """Name of the agent."""
    provider: str | None
    """Who serves the model."""
    model: str | None
    """The model of messages that name none."""
    started: int | None
    """Nanoseconds since 1970; `None` when the log does not say. So is `ended`."""
    ended: int | None
    """When the run was over."""
    cost: Decimal | None
    """USD of the whole run, as the log says."""
    tools: tuple[Any, ...]
    """Definitions of the tools that every call carried."""
    messages: tuple[Message, ...]
    """The conversation."""
    outcome: Mapping[str, Any] | None
    """What the log says of the outcome; `judged` makes one of it."""

    def judged(self, *, observed: int, trace_id: str) -> Outcome | None:
        """The outcome; `None` when the run was not judged.

        Args:
            observed: When the run ended, for a judgement that has no time of its own.
            trace_id: The run's trace.
        """
        if self.outcome is None:
            return None
        said = {name: value for name, value in self.outcome.items() if value is not None}
        stated = _instant(said.get("observed"), "outcome.observed")
        return Outcome(
            task_id=self.task_id,
            status=_status(self.outcome),
            score=None if "score" not in said else float(said["score"]),
            value=said.get("value"),
            harm=said.get("harm"),
            currency=said.get("currency", "USD"),
            evaluator=said.get("evaluator", "log"),
            evidence=said.get("evidence"),
            observed_time_unix_nano=observed if stated is None else stated,
            version=int(said.get("version", 0)),
            group=self.group,
            trace_id=trace_id,
        )


def read_run(line: str | bytes) -> ChatRun:
    """Read one line.

    Raises:
        ChatLogError: If it is not JSON, or breaks a rule of the schema or of this module.
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ChatLogError(f"not JSON: {error}") from error
    _refuse(_checker().problems(document))
    try:
        run = _run(document)
        run.judged(observed=0, trace_id="0" * 32)
    except ValueError as error:
        raise error if isinstance(error, ChatLogError) else ChatLogError(str(error)) from error
    return run


def usage_of(usage: Mapping[str, Any]) -> TokenUsage:
    """Token counts in the convention that their field names tell of.

    `prompt_tokens`: OpenAI Chat Completions, cached tokens included, and LiteLLM, which puts Anthropic's names of
    the cached parts beside it. `input_tokens` with Anthropic's names: Anthropic, cached tokens left out. Else
    `input_tokens`: OpenAI Responses.
    """
    if "prompt_tokens" in usage:
        return TokenUsage.from_openai(_with_cached_parts(usage))
    if any(name in usage for name in _ANTHROPIC_CACHE):
        return TokenUsage.from_anthropic(usage)
    return TokenUsage.from_openai(usage)


@cache
def _checker() -> Checker:
    schema = files(__package__).joinpath("chat_log.schema.json").read_text(encoding="utf-8")
    return Checker(json.loads(schema))


def _refuse(problems: Iterator[str]) -> None:
    found = list(problems)
    if found:
        more = f"; and {len(found) - _MAX_PROBLEMS} more" if len(found) > _MAX_PROBLEMS else ""
        raise ChatLogError("; ".join(found[:_MAX_PROBLEMS]) + more)


def _run(document: Mapping[str, Any]) -> ChatRun:
    task = str(document["task_id"])
    trial, run_id = document.get("trial"), document.get("run_id")
    if trial is not None and run_id is not None:
        raise ChatLogError("trial and run_id both tell runs of one task apart; give one of the two")
    which = run_id if trial is None else str(int(trial))
    return ChatRun(
        task_id=task if which is None else f"{task}#{which}",
        group=document.get("group") or (None if which is None else task),
        agent=document.get("agent"),
        provider=document.get("provider"),
        model=document.get("model"),
        started=_instant(document.get("started"), "started"),
        ended=_instant(document.get("ended"), "ended"),
        cost=_cost(document.get("cost"), "cost"),
        tools=tuple(document.get("tools") or ()),
        messages=tuple(_message(said, f"messages[{at}]") for at, said in enumerate(document["messages"])),
        outcome=document.get("outcome"),
    )


def _message(said: Mapping[str, Any], where: str) -> Message:
    usage = said.get("usage")
    return Message(
        role=said["role"],
        content=said.get("content"),
        calls=tuple(map(_call, said.get("tool_calls") or ())),
        answers=said.get("tool_call_id"),
        tool=said.get("name"),
        is_error=bool(said.get("error")),
        model=said.get("model"),
        response_id=said.get("id"),
        finish_reason=said.get("finish_reason"),
        timestamp=_instant(said.get("timestamp"), f"{where}.timestamp"),
        usage=None if usage is None else _usage(usage, f"{where}.usage"),
        cost=None if usage is None else _cost(usage.get("cost"), f"{where}.usage.cost"),
    )


def _call(said: Mapping[str, Any]) -> ToolCall:
    function = said["function"]
    return ToolCall(id=said.get("id"), name=function["name"], arguments=parsed_json(function.get("arguments")))


def _usage(said: Mapping[str, Any], where: str) -> TokenUsage | None:
    try:
        usage = usage_of(said)
    except (AttributeError, TypeError) as error:
        raise ChatLogError(f"{where}: its *_details must be objects, as the provider sends them") from error
    counts = (usage.input_tokens, usage.output_tokens)
    if any(count is not None and abs(count) > _MAX_TOKENS for count in counts):
        raise ChatLogError(f"{where} must count at most {_MAX_TOKENS} tokens, got {max(filter(None, counts))}")
    return None if counts == (None, None) else usage


def _with_cached_parts(usage: Mapping[str, Any]) -> Mapping[str, Any]:
    read, written = map(usage.get, _ANTHROPIC_CACHE)
    if read is None and written is None:
        return usage
    details = {"cached_tokens": read, "cache_write_tokens": written}
    given = {name: count for name, count in (usage.get("prompt_tokens_details") or {}).items() if count is not None}
    return {**usage, "prompt_tokens_details": {**details, **given}}


def _cost(said: Any, where: str) -> Decimal | None:
    amount = as_money(where, said)
    if amount is not None and amount < 0:
        raise ChatLogError(f"{where} must not be negative, got {amount}; leave it out when it is unknown")
    return amount


def _instant(said: Any, where: str) -> int | None:
    """A time in nanoseconds since 1970."""
    if said is None:
        return None
    if isinstance(said, str):
        return _from_rfc3339(said, where)
    if not math.isfinite(said) or not 0 <= said <= _MAX_SECONDS:
        raise ChatLogError(f"{where} must be seconds since 1970, up to {_MAX_SECONDS}, got {said!r}")
    # Through its text: a float's own binary value has noise below the microsecond.
    return int(Decimal(str(said)).scaleb(9))


def _from_rfc3339(text: str, where: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ChatLogError(f"{where} must be a time with its offset, as 2026-01-31T12:00:00+00:00, got {text[:40]!r}")
    seconds = int(moment.replace(microsecond=0).timestamp())
    if not 0 <= seconds <= _MAX_SECONDS:
        raise ChatLogError(f"{where} must lie between 1970 and 2255, got {text!r}")
    return seconds * 10**9 + moment.microsecond * 1_000


def _status(said: Mapping[str, Any]) -> OutcomeStatus:
    success, score, value, harm = (said.get(name) for name in ("success", "score", "value", "harm"))
    if success is None and "success" in said:
        return OutcomeStatus.PENDING
    if success:
        return OutcomeStatus.SUCCEEDED
    if as_money("outcome.harm", harm):
        return OutcomeStatus.HARMFUL
    if success is not None:
        return OutcomeStatus.FAILED
    return _graded(score, said.get("threshold"), as_money("outcome.value", value))


def _graded(score: float | None, threshold: float | None, value: Decimal | None) -> OutcomeStatus:
    if score is not None:
        has_passed = score >= (1 if threshold is None else threshold)
    elif value is not None:
        has_passed = value > 0
    else:
        raise ChatLogError("outcome says nothing; give success, score, value or harm, or leave it out when not judged")
    return OutcomeStatus.SUCCEEDED if has_passed else OutcomeStatus.FAILED

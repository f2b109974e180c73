"""The conversations of a run, each turn learned once.

An agent sends its whole history with each call, so calls that go on from one another are one conversation, and the
last of them holds it. Calls that were offered other tools, or were sent another history, see another prompt, and are
in a conversation of their own. A model should learn what this run's calls said and what was worth saying; the rest
stays as context, with the `weight` 0 that OpenAI's fine-tuning has for it:

- what came from elsewhere: examples in the prompt, turns of earlier runs;
- answers that were cut off, or replaced by another attempt;
- calls of a tool that failed: their error is what the next turn reacts to.

A turn that is no loss is taken out with its results: one that a detector shows to be needless (a read that could not
have changed, D1; a second try after the same failure, D3), and a failed call that was made again and then worked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from tokenomics_plugin.dataset.chat import Exchange, Json, Message
from tokenomics_plugin.trajectory import ModelCall, ToolCall, Trajectory
from tokenomics_plugin.waste import DuplicateRead, RetryAfterSameFailure

__all__ = ["Conversation", "conversations"]

_NEEDLESS: Final = (DuplicateRead(), RetryAfterSameFailure())


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One line of a fine-tuning set."""

    messages: tuple[Message, ...]
    """In OpenAI's form, up to the last that is learned; the assistant's that are context only have the weight 0."""
    tools: tuple[Json, ...]
    """In OpenAI's form."""
    tokens: int | None
    """What the provider counted at its last call, prompt and answer; `None` when it did not say."""

    @property
    def key(self) -> str:
        """The same for conversations that teach the same."""
        return json.dumps([self.messages, self.tools], ensure_ascii=False, sort_keys=True)


def conversations(trajectory: Trajectory, exchanges: Mapping[str, Exchange]) -> list[Conversation]:
    """What can be learned from a run.

    Args:
        trajectory: The run; only reads that were declared as such are known to be needless when they repeat.
        exchanges: Span id of a model call -> what it was sent and answered, where that is known.
    """
    drafts = list[_Draft]()
    for call in trajectory.model_calls:
        exchange = exchanges.get(call.span_id)
        if exchange is not None and not call.is_replay:
            _draft_of(exchange, drafts).add(call, exchange)
    needless = {span for detector in _NEEDLESS for found in detector.find(trajectory) for span in found.spans}
    failures = _Failures.of(trajectory.tool_calls)
    found = (draft.conversation(needless, failures) for draft in drafts)
    return [conversation for conversation in found if conversation is not None]


@dataclass(frozen=True, kw_only=True)
class _Failures:
    """Ids of tool calls that failed."""

    failed: AbstractSet[str]
    """All of them."""
    made_good: AbstractSet[str]
    """Those after which the same call was made again, and worked."""

    @classmethod
    def of(cls, calls: Sequence[ToolCall]) -> _Failures:
        last = [call for call in calls if call.superseded_by is None and call.call_id is not None]
        named = Counter(call.call_id for call in last)
        failed = [call for call in last if call.error_type is not None]
        return cls(
            failed=frozenset(str(call.call_id) for call in failed),
            # An id that several calls have does not say which of them a turn asked for.
            made_good=frozenset(
                str(call.call_id) for call in failed if named[call.call_id] == 1 and _worked(call, last)
            ),
        )


def _worked(failed: ToolCall, calls: Iterable[ToolCall]) -> bool:
    return failed.arguments_hash is not None and any(
        (call.tool, call.arguments_hash) == (failed.tool, failed.arguments_hash)
        and call.started_unix_nano > failed.started_unix_nano
        and call.error_type is None
        and call.run_state is None
        for call in calls
    )


class _Draft:
    """A conversation as far as calls have brought it."""

    def __init__(self, tools: Sequence[Json]) -> None:
        self.tools = tools
        self.messages: list[Message] = []
        self._calls: dict[int, ModelCall] = {}
        self._whole: set[int] = set()

    def begins(self, exchange: Exchange) -> bool:
        """Whether an exchange goes on from here."""
        return self.tools == exchange.tools and self.messages == list(exchange.sent[: len(self.messages)])

    def add(self, call: ModelCall, exchange: Exchange) -> None:
        """Go on with it."""
        place = len(exchange.sent)
        self.messages = [*exchange.sent, exchange.answer]
        self._calls[place] = call
        if exchange.is_whole and call.error_type is None and call.superseded_by is None and call.run_state is None:
            self._whole.add(place)

    def conversation(self, needless: AbstractSet[str], failures: _Failures) -> Conversation | None:
        """What there is to learn from it; `None` when that is nothing."""
        dropped = {
            place
            for place, call in self._calls.items()
            if call.span_id in needless or self._is_made_good(place, failures)
        }
        learned = [
            place for place in sorted(self._whole - dropped) if not _call_ids(self.messages[place]) & failures.failed
        ]
        if not learned:
            return None
        end = learned[-1] + 1
        kept = [
            message if message["role"] != "assistant" or place in learned else message | {"weight": 0}
            for place, message in _without(dropped, self.messages[:end])
        ]
        return Conversation(
            messages=tuple(_renumbered(kept)), tools=tuple(self.tools), tokens=_tokens(self._calls[learned[-1]])
        )

    def _is_made_good(self, place: int, failures: _Failures) -> bool:
        ids = _call_ids(self.messages[place])
        return bool(ids) and ids <= failures.made_good


def _draft_of(exchange: Exchange, drafts: list[_Draft]) -> _Draft:
    """The longest that it goes on from, or a new one."""
    begun = [draft for draft in drafts if draft.begins(exchange)]
    if begun:
        return max(begun, key=lambda draft: len(draft.messages))
    drafts.append(_Draft(exchange.tools))
    return drafts[-1]


def _call_ids(message: Message) -> frozenset[str | None]:
    return frozenset(call["id"] for call in message.get("tool_calls", ()))


def _without(dropped: AbstractSet[int], messages: Sequence[Message]) -> Iterator[tuple[int, Message]]:
    """The messages with their places, without some turns and the results that follow those."""
    is_dropped = False
    for place, message in enumerate(messages):
        is_dropped = place in dropped or (is_dropped and message["role"] == "tool")
        if not is_dropped:
            yield place, message


def _renumbered(messages: Iterable[Message]) -> Iterator[Message]:
    """With call ids that count, so that two runs that say the same are the same."""
    count, open_calls = 0, list[tuple[str | None, str]]()
    for message in messages:
        if calls := message.get("tool_calls"):
            open_calls = [(call["id"], f"call_{number}") for number, call in enumerate(calls, start=count + 1)]
            count += len(calls)
            new_ids = [new for _, new in open_calls]
            yield message | {"tool_calls": [call | {"id": new} for call, new in zip(calls, new_ids, strict=True)]}
        elif message["role"] == "tool" and open_calls:
            answered = next((pair for pair in open_calls if pair[0] == message["tool_call_id"]), open_calls[0])
            open_calls.remove(answered)
            yield message | {"tool_call_id": answered[1]}
        else:
            yield message


def _tokens(call: ModelCall) -> int | None:
    return None if call.usage is None else call.usage.total_tokens

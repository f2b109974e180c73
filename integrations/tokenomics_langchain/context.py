"""What the model calls of one run carried, and who produced it, as keyed hashes.

An agent hands its whole conversation to the model on every turn, so what was hashed before must not be hashed
again. A message is known again by what its hash depends on, and not by the object: some middleware copies every
message on every turn, and some edits a message in place. Strings that nobody touched are the same object even
then, so comparing two long conversations costs a few pointer comparisons a message.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter, is_
from typing import Any, Final, NamedTuple, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel

from tokenomics_langchain.attributes import Attributes
from tokenomics_plugin import semconv
from tokenomics_plugin.context_blocks import ContextBlock, ContextDelta, common_prefix, encode_blocks
from tokenomics_plugin.fingerprint import Fingerprinter, canonical

__all__ = ["Carried", "Conversation"]

_MAX_BRANCHES: Final = 16
_MAX_MESSAGES: Final = 4_096
_RECENT: Final = 4
_CONTENT: Final = attrgetter("content")

_ROLES: Final = {
    "human": "user",
    "HumanMessageChunk": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "SystemMessageChunk": "system",
    "tool": "tool",
    "ToolMessageChunk": "tool",
    "function": "tool",
    "FunctionMessageChunk": "tool",
}
# Blocks of content whose size says something about their tokens.
_TEXTUAL: Final = frozenset({"text", "reasoning", "thinking", "refusal", "tool_use", "tool_call", "function_call"})
_WITHOUT_CALLS: Final = frozenset({HumanMessage, SystemMessage, ToolMessage})

_State = tuple[Any, ...]
_Name = TypeVar("_Name")
_Value = TypeVar("_Value")


class Carried(NamedTuple):
    """The messages that a model call sends, and what they say now: some middleware edits messages in place."""

    messages: Sequence[BaseMessage]
    """The messages, in their order."""
    contents: Sequence[Any]
    """The content of each."""

    @classmethod
    def now(cls, messages: Sequence[BaseMessage]) -> Carried:
        """Messages as they are."""
        return cls(messages, list(map(_CONTENT, messages)))


class Conversation:
    """The model calls of one root run. Safe to share between threads.

    It holds on to what the run carried until the run ends, as the run's own state does. The number of things
    that it remembers is bounded: what it forgot costs bytes on a span, or leaves a producer unknown.

    Args:
        fingerprinter: The key of this run.
    """

    def __init__(self, fingerprinter: Fingerprinter) -> None:
        self._fingerprinter = fingerprinter
        # Reentrant: the garbage collector may close a stream while we hold it, and that calls back.
        self._lock = threading.RLock()
        self._branches: list[_Branch] = []
        self._hashed: dict[int | str | None, _Hashed] = {}
        self._produced: dict[tuple[str, str], _Production] = {}

    def carried(self, span_id: str, carried: Carried) -> Attributes:
        """The `tokenomics.context.*` attributes of a model call; later calls of the run may refer to it.

        Args:
            span_id: The call's span, 16 hex digits.
            carried: What it sends.
        """
        messages = carried.messages
        with self._lock:
            if self._branches and self._branches[-1].begins(carried):
                return self._go_on(self._branches[-1], span_id, carried)
            states = list(map(_state, messages, carried.contents))
            branch, kept = self._closest(states)
            if 0 < kept == len(branch.blocks):
                attributes = self._go_on(branch, span_id, carried)
                branch.messages[:kept] = messages[:kept]
                return attributes
            added = list(map(self._hash, messages[kept:], states[kept:]))
            blocks = branch.blocks[:kept] + list(map(self._block, added))
            earlier = self._most_alike(blocks)
            delta = ContextDelta.between(blocks, previous=earlier.span_id or None, before=earlier.blocks)
            kept_states = branch.states[:kept] + [hashed.state for hashed in added]
            self._remember(_Branch.of(span_id, blocks, kept_states, messages))
        return dict(delta.to_attributes())

    def produced(self, message: BaseMessage, span_id: str, tokens: int | None = None) -> str:
        """Remember which span produced a message, and return the message's fingerprint.

        A message that is carried later is known again as the object, by its id, or by the id of the tool call
        that it answers. Its block has this fingerprint, unless the message was edited in between: then it
        keeps the producer, and its tokens are unknown.

        Args:
            message: A model's answer, or a tool's.
            span_id: The span, 16 hex digits.
            tokens: What the provider counted for this message; `None` when it did not.
        """
        with self._lock:
            hashed = self._hash(message, _state(message, message.content))
            hashed.block = None
            hashed.production = production = _Production(span_id, tokens, hashed.hash)
            for name in _names(message):
                _put(self._produced, name, production)
        return hashed.hash

    def fingerprint(self, value: Any) -> str | None:
        """A fingerprint of arguments, of a result or of a state, equal for equal values.

        Messages count as their blocks do, Pydantic models and dataclasses by their fields; `canonical` says what
        else is read, and that nothing of the program's own is called to read it.

        Returns:
            `None`, unknown, when the value holds anything else, or, its messages not counted, more than 1,000
            values or 65,536 characters.
        """
        text = canonical(value, expand=self._expand)
        return None if text is None else self._fingerprinter.of("value", text)

    def _closest(self, states: Sequence[_State]) -> tuple[_Branch, int]:
        """The branch with the longest common beginning, the latest of several, and that length."""
        closest, kept = _Branch(), 0
        for branch in reversed(self._branches):
            # To be closer it must agree at the next place: one comparison settles most branches.
            if min(len(branch.states), len(states)) > kept and branch.states[kept] == states[kept]:
                length = common_prefix(branch.states, states)
                if length > kept:
                    closest, kept = branch, length
        return closest, kept

    def _most_alike(self, blocks: Sequence[ContextBlock]) -> _Branch:
        """The branch that most of the blocks can be copied from; the latest one that has half of them will do."""
        hashes = {block.hash for block in blocks}
        most_alike, most = _Branch(), 0
        for branch in reversed(self._branches):
            common = sum(block.hash in hashes for block in branch.blocks)
            if common > most:
                most_alike, most = branch, common
            if 2 * most >= len(blocks):
                break
        return most_alike

    def _go_on(self, branch: _Branch, span_id: str, carried: Carried) -> Attributes:
        """The difference of a call that carries all that the last one of a branch did, and more.

        This is every turn of an agent but its first, so it says what `ContextDelta.to_attributes` would without one.
        """
        kept = len(branch.blocks)
        added = carried.messages[kept:]
        hashed = list(map(self._hash, added, map(_state, added, carried.contents[kept:])))
        blocks = list(map(self._block, hashed))
        attributes: Attributes = {
            semconv.CONTEXT_PREVIOUS: branch.span_id,
            semconv.CONTEXT_KEPT: kept,
            semconv.CONTEXT_BLOCKS: encode_blocks(blocks),
        }
        branch.span_id = span_id
        branch.blocks += blocks
        for one in hashed:
            branch.states.append(one.state)
            branch.contents.append(one.state[1])
        branch.messages += added
        self._remember(branch)
        return attributes

    def _remember(self, branch: _Branch) -> None:
        if not self._branches or self._branches[-1] is not branch:
            others = [other for other in self._branches if other is not branch]
            self._branches = [*others[1 - _MAX_BRANCHES :], branch]

    def _block(self, hashed: _Hashed) -> ContextBlock:
        if hashed.block is None:
            production = hashed.production or self._production(hashed.message)
            counted = production is not None and production.hash == hashed.hash
            hashed.block = ContextBlock(
                hash=hashed.hash,
                role=hashed.role,
                size=hashed.size,
                tokens=production.tokens if production is not None and counted else None,
                producer=None if production is None else production.span_id,
            )
        return hashed.block

    def _production(self, message: BaseMessage) -> _Production | None:
        for name in _names(message):
            if (production := self._produced.get(name)) is not None:
                return production
        return None

    def _hash(self, message: BaseMessage, state: _State) -> _Hashed:
        """What was hashed of this object or, of the same id, of a copy; else hash it now."""
        message_id, production = state[-1], None
        found = self._hashed.get(id(message))
        if found is not None and found.message is message:
            if found.state[:-1] == state[:-1]:
                if found.state[-1] != message_id:  # LangGraph sets ids in place, and no hash depends on them
                    found.state = (*found.state[:-1], message_id)
                    _put(self._hashed, message_id, found)
                return found
            production = found.production  # it was edited in place
        found = None if message_id is None else self._hashed.get(message_id)
        if found is None or found.state != state:
            found = self._newly_hashed(message, state)
            found.production = production
            _put(self._hashed, id(message), found)
            if message_id is not None:
                _put(self._hashed, message_id, found)
        return found

    def _newly_hashed(self, message: BaseMessage, state: _State) -> _Hashed:
        role, author = _role(message)
        _, content, calls, _ = state
        body, asked = _encoded(content), _encoded_calls(calls)
        if body is None or asked is None:
            return _Hashed(message, _frozen_state(state), self._fingerprinter.unlike_any(), role, None)
        form, is_text = ("text", True) if isinstance(content, str) else ("blocks", _is_text(content))
        hash_ = self._fingerprinter.of(author, form, body, asked)
        return _Hashed(message, _frozen_state(state), hash_, role, len(body) + len(asked) if is_text else None)

    def _expand(self, value: Any) -> tuple[str, Any] | None:
        kind = type(value)  # isinstance would ask a proxy for its __class__
        if kind is list or kind is tuple:
            # All at once: a state repeats its whole conversation at every node.
            return ("messages", self._hash_all(value)) if _are_messages(value) else None
        if issubclass(kind, BaseMessage):
            return "message", self._hash_all((value,))
        if issubclass(kind, BaseModel):
            stored = object.__getattribute__(value, "__dict__")
            extra = object.__getattribute__(value, "__pydantic_extra__")
            return kind.__qualname__, [{name: stored[name] for name in kind.model_fields}, extra]
        return None

    def _hash_all(self, messages: Sequence[BaseMessage]) -> str:
        with self._lock:
            hashes = [self._hash(message, _state(message, message.content)).hash for message in messages]
        return self._fingerprinter.of(" ".join(hashes))


@dataclass(eq=False, slots=True)
class _Branch:
    """Calls that each carried what the one before did and more; parallel sub-agents are branches of their own."""

    span_id: str = ""
    """The latest call."""
    blocks: list[ContextBlock] = field(default_factory=list)
    """What it carried."""
    states: list[_State] = field(default_factory=list)
    """The messages behind the blocks, as they were then."""
    contents: list[Any] = field(default_factory=list)
    """Their contents alone, to compare them in one go."""
    messages: list[BaseMessage] = field(default_factory=list)
    """The messages themselves."""

    @classmethod
    def of(
        cls, span_id: str, blocks: list[ContextBlock], states: list[_State], messages: Sequence[BaseMessage]
    ) -> _Branch:
        """A branch that begins with one call."""
        return cls(span_id, blocks, states, [state[1] for state in states], list(messages))

    def begins(self, carried: Carried) -> bool:
        """Whether what is carried begins with all of this: the same objects, and nothing was edited in place.

        What was said long ago is asked for its content only; whoever edits tool calls edits the last ones.
        """
        count = len(self.messages)
        if not 0 < count <= len(carried.messages) or not all(map(is_, self.messages, carried.messages)):
            return False
        if self.contents != (carried.contents if count == len(carried.contents) else carried.contents[:count]):
            return False
        recent = slice(max(0, count - _RECENT), count)
        return self.states[recent] == list(map(_state, carried.messages[recent], carried.contents[recent]))


@dataclass(eq=False, slots=True)
class _Hashed:
    """A message that was hashed."""

    message: BaseMessage
    """The message; holding it keeps its `id()` from being given to another."""
    state: _State
    """What it was when it was hashed."""
    hash: str
    role: str
    size: int | None
    block: ContextBlock | None = None
    """Made when a call first carries it."""
    production: _Production | None = None
    """Set when a span is known to have produced this very object."""


@dataclass(eq=False, slots=True)
class _Production:
    """A message that a span produced."""

    span_id: str
    tokens: int | None
    hash: str


class _Unlike:
    """Stands for what we may not compare, because that could run code of the traced program: equals nothing."""

    def __eq__(self, other: object) -> bool:
        return False


_UNLIKE: Final = _Unlike()
_PLAIN: Final = (str, int, float, type(None))


def _are_messages(values: Sequence[Any]) -> bool:
    # The first one settles it for nearly every list, however long.
    return bool(values) and issubclass(type(values[0]), BaseMessage) and all(map(_is_message, set(map(type, values))))


def _is_message(kind: type) -> bool:
    return issubclass(kind, BaseMessage)


def _state(message: BaseMessage, content: Any) -> _State:
    """What a message's block depends on, by reference: type, content, tool calls, and last its id.

    Runs for many messages of every call, so the common types come first.
    """
    if type(message) is AIMessage:
        return AIMessage, content, message.tool_calls or message.invalid_tool_calls, message.id
    kind = type(message)
    if kind in _WITHOUT_CALLS:
        return kind, content, None, message.id
    return (kind, _role(message)), content, _calls(message), message.id


def _calls(message: BaseMessage) -> list[Any]:
    """The tool calls that a model asked for; the malformed ones when there are no others."""
    fields = message.__dict__
    return fields.get("tool_calls") or fields.get("invalid_tool_calls") or []


def _role(message: BaseMessage) -> tuple[str, str]:
    """The role as a block says it, and the author as it is hashed; a program's own roles may be anything."""
    role = _ROLES.get(message.type)
    return ("other", f"{message.type} {message.__dict__.get('role')}") if role is None else (role, role)


def _names(message: BaseMessage) -> list[tuple[str, str]]:
    """What a copy of a message can be known again by, the surest first."""
    names = [] if message.id is None else [("message", message.id)]
    if type(message) is not AIMessage and isinstance(message, ToolMessage):  # which is slow where it is none
        names.append(("tool call", message.tool_call_id))
    return names


def _encoded(content: Any) -> bytes | None:
    """What of a content is hashed, without bounds: it is sent to a model, and it is hashed once."""
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    return canonical(content, max_leaves=sys.maxsize, max_characters=sys.maxsize)


def _encoded_calls(calls: list[Any] | None) -> bytes | None:
    return _encoded([[call.get("name"), call.get("args"), call.get("id")] for call in calls]) if calls else b""


def _is_text(content: list[Any]) -> bool:
    return all(isinstance(block, str) or block.get("type", "text") in _TEXTUAL for block in content)


def _frozen_state(state: _State) -> _State:
    kind, content, calls, message_id = state
    if type(content) is str and not calls:
        return state  # nothing in it can be edited
    return kind, _frozen(content), _frozen(calls), message_id


def _frozen(value: Any) -> Any:
    """A copy that an edit in place does not reach. It goes to the left of `==`, so that `_UNLIKE` decides."""
    if isinstance(value, _PLAIN):
        return value
    if type(value) is list:
        return [_frozen(item) for item in value]
    if type(value) is dict:
        return {key: _frozen(item) for key, item in value.items()}
    return _UNLIKE


def _put(table: dict[_Name, _Value], name: _Name, value: _Value) -> None:
    table[name] = value
    if len(table) > _MAX_MESSAGES:
        del table[next(iter(table))]

"""Which calls carried which block, from when to when, without comparing every context with every other.

Contexts grow with the square of the turns, and mostly they repeat. So each context is compared with the one that it
goes on from, which is a comparison of pointers, and only blocks that are new there are looked at. A carry says that
one block stood at one place in a row of calls. A tree of all contexts, block by block, tells equal contexts, and how
much of a context some earlier call began with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tokenomics_plugin.context_blocks import Context, ContextBlock, common_prefix
from tokenomics_plugin.trajectory import ModelCall, Trajectory

__all__ = ["Carriage", "CarriedContext", "Carry"]

_ROOT = 0


@dataclass(slots=True)
class Carry:
    """One block at one place of a conversation, in consecutive calls of it."""

    block: ContextBlock
    """The block."""
    producer: str | None
    """Span id of the call that produced it, also where the block does not say so itself; `None` when from outside."""
    position: int
    """Its place in the contexts, from 0."""
    calls: list[ModelCall]
    """All calls of the conversation, in order."""
    first: int
    """Index of the first of them that carried it here."""
    last: int | None = None
    """Index of the last; `None` when it was never dropped."""

    def uses(self) -> Iterator[ModelCall]:
        """The calls that carried it here."""
        yield from self.calls[self.first : None if self.last is None else self.last + 1]

    def is_in(self, context: CarriedContext) -> bool:
        """Whether that context has it."""
        return self.calls is context.calls and self.first <= context.index and not self._is_over(context.index)

    def _is_over(self, index: int) -> bool:
        return self.last is not None and self.last < index


@dataclass(slots=True)
class CarriedContext:
    """The context of one call, among the others."""

    call: ModelCall
    """The call."""
    calls: list[ModelCall]
    """All calls of its conversation, in order."""
    index: int
    """Which of them it is."""
    known_prefix: int
    """How many of its blocks, from the first on, some earlier call began with too."""
    node: int | None
    """The same for equal contexts and for no others; `None` when one of its blocks is unknown."""
    prefix_node: int | None
    """The node of its known prefix."""
    added: list[Carry]
    """Carries that begin here."""
    displaced: list[int]
    """Positions after the known prefix of blocks that the conversation's call before had too, ascending."""
    has_moved: bool
    """Whether some of those stand at another place now."""


@dataclass(slots=True)
class _Conversation:
    """Calls that go on from each other, and where the last of them stands."""

    calls: list[ModelCall] = field(default_factory=list)
    context: Context = ()
    carries: list[Carry | None] = field(default_factory=list)
    nodes: list[int | None] = field(default_factory=list)


class Carriage:
    """All contexts of a trajectory.

    Args:
        trajectory: One task's work in one trace.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self.contexts: dict[str, CarriedContext] = {}
        """By span id of the call; those that are unknown are absent."""
        self.of_producer: defaultdict[str, list[Carry]] = defaultdict(list)
        """Carries of the blocks that a call produced, by its span id."""
        self.asked_by: dict[str, str] = {}
        """Span id of a tool call to that of the model call that asked for it, as later contexts show."""
        self._tree: dict[tuple[int, str], int] = {}
        self._conversations: dict[tuple[str | None, ...], _Conversation] = {}
        self._results = _spans_by_hash((call.result_hash, call.span_id) for call in trajectory.tool_calls)
        self._answers = _spans_by_hash((call.answer_hash, call.span_id) for call in trajectory.model_calls)
        for call in trajectory.model_calls:
            if call.context is not None:
                self.contexts[call.span_id] = self._add(call, call.context)
        self.is_complete = len(self.contexts) == len(trajectory.model_calls) and all(
            context.node is not None for context in self.contexts.values()
        )
        """Whether every context is known in full, so that what none of them has was read by no model."""

    def _add(self, call: ModelCall, context: Context) -> CarriedContext:
        conversation = self._conversation(call, context)
        before, conversation.context = conversation.context, context
        conversation.calls.append(call)
        kept = _kept(before, context)
        del conversation.nodes[kept:]
        known, prefix_node = self._extend_tree(conversation.nodes, context, kept)
        dropped, added = self._replace_carries(conversation, before, kept)
        moved = _moved(dropped, added, known) if dropped else []
        in_place = [] if kept == len(before) else _in_place(before, context, start=max(kept, known))
        return CarriedContext(
            call=call,
            calls=conversation.calls,
            index=len(conversation.calls) - 1,
            known_prefix=known,
            node=conversation.nodes[-1] if conversation.nodes else None,
            prefix_node=prefix_node,
            added=added,
            displaced=sorted(in_place + moved),
            has_moved=bool(moved),
        )

    def _conversation(self, call: ModelCall, context: Context) -> _Conversation:
        """The one that a call most likely goes on from: a wrong guess costs time, and hides what is displaced."""
        front = [None if block is None else block.hash for block in context[:2]]
        first, second = front + [None] * (2 - len(front))
        exact = call.agent, call.node, first, second
        # The front may be written anew each time, or have been all that there was.
        alike = (call.agent, call.node, "", second) if len(front) > 1 else (call.agent, call.node, first, "")
        found = (self._conversations.get(key) for key in (exact, alike, (call.agent, call.node, first, "")))
        conversation = next((known for known in found if known is not None), None) or _Conversation()
        self._conversations[exact] = self._conversations[alike] = conversation
        return conversation

    def _extend_tree(self, nodes: list[int | None], context: Context, kept: int) -> tuple[int, int | None]:
        """Follow the tree along the new blocks; how far an earlier call had gone already, and the node there."""
        node = nodes[-1] if nodes else _ROOT
        # Two blocks of which nothing is known need not be the same.
        known = kept if node is not None else nodes.index(None)
        prefix_node = nodes[known - 1] if known else _ROOT
        for block in context[kept:]:
            if node is not None and block is not None:
                new = len(self._tree) + 1
                node = self._tree.setdefault((node, block.hash), new)
                if node != new and known == len(nodes):
                    known, prefix_node = known + 1, node
            else:
                node = None
            nodes.append(node)
        return known, prefix_node

    def _replace_carries(
        self, conversation: _Conversation, before: Context, kept: int
    ) -> tuple[list[Carry], list[Carry]]:
        """End the carries of blocks that are gone and begin those of new ones; a block that keeps its place goes on."""
        context, carries, index = conversation.context, conversation.carries, len(conversation.calls) - 1
        common = min(len(before), len(context))
        changed = [place for place in range(kept, common) if before[place] is not context[place]]
        dropped = [carry for place in (*changed, *range(common, len(before))) if (carry := carries[place]) is not None]
        for carry in dropped:
            carry.last = index - 1
        del carries[common:]
        carries += [None] * (len(context) - common)
        added = []
        for place in (*changed, *range(common, len(context))):
            carries[place] = None
            if (block := context[place]) is not None:
                carry = Carry(block, self._producer(block, context, place), place, conversation.calls, index)
                carries[place] = carry
                added.append(carry)
        self._note_producers(carries, added)
        return dropped, added

    def _note_producers(self, carries: Sequence[Carry | None], added: Iterable[Carry]) -> None:
        asker, place = None, -1
        for carry in added:
            if carry.block.role == "tool":
                asker = asker if place == carry.position - 1 else _asker_before(carries, carry.position)
            else:
                asker = carry.producer if carry.block.role == "assistant" else None
            place = carry.position
            if carry.producer is not None:
                self.of_producer[carry.producer].append(carry)
                if asker is not None and carry.block.role == "tool":
                    self.asked_by[carry.producer] = asker

    def _producer(self, block: ContextBlock, context: Context, position: int) -> str | None:
        if block.producer is not None:
            return block.producer
        spans = {"tool": self._results, "assistant": self._answers}.get(block.role, {}).get(block.hash)
        if spans is None:
            return None
        if len(spans) == 1:
            return spans[0]
        # Several calls said the same: they stand in a context in their order.
        before = sum(1 for other in context[:position] if other is not None and other.hash == block.hash)
        return spans[min(before, len(spans) - 1)]


def _kept(before: Context, after: Context) -> int:
    """How many blocks two contexts have in common from the first on, by their hashes."""
    kept = common_prefix(before, after)
    # Blocks of one hash may differ in what else is known of them.
    while kept < len(before) and kept < len(after) and _is_same(before[kept], after[kept]):
        kept += 1
    return kept


def _is_same(one: ContextBlock | None, other: ContextBlock | None) -> bool:
    return one is not None and other is not None and one.hash == other.hash


def _asker_before(carries: Sequence[Carry | None], place: int) -> str | None:
    """Who asked for the tool result at a place, which may have others before it."""
    for before in range(place - 1, -1, -1):
        carry = carries[before]
        if carry is None or carry.block.role != "tool":
            return carry.producer if carry is not None and carry.block.role == "assistant" else None
    return None


def _in_place(before: Context, context: Context, *, start: int) -> list[int]:
    """Positions from `start` on of blocks that are where they were."""
    pairs = enumerate(zip(before[start:], context[start:], strict=False), start)
    return [place for place, (old, new) in pairs if old is new is not None]


def _moved(dropped: Iterable[Carry], added: Iterable[Carry], known: int) -> list[int]:
    before = {carry.block.hash for carry in dropped}
    return [carry.position for carry in added if carry.position >= known and carry.block.hash in before]


def _spans_by_hash(calls: Iterable[tuple[str | None, str]]) -> dict[str, list[str]]:
    spans: defaultdict[str, list[str]] = defaultdict(list)
    for fingerprint, span_id in calls:
        if fingerprint is not None:
            spans[fingerprint].append(span_id)
    return dict(spans)

"""How many tokens each block of each call is, and which of them the provider's cache served.

Providers report sums. What a block is worth comes from, in this order: what was reported for it; what it was found to
be before; what a call's input grew by when it was added; its share by UTF-8 size. What a provider counted beyond the
blocks (tool schemas, the template around messages) is the call's template, so that every call's tokens add up to the
provider's count whatever the estimates are.

An agent sends its conversation again on every turn, so cells grow with the square of the turns. They are never listed
here: calls that go on from one another share one `Lineage`, in which each block stands once, with running sums of
tokens before it. A call is then a place in a lineage and two positions, since a cache serves nothing but a prefix:
what it read ends at the first, what it wrote at the second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from tokenomics_plugin.cells.apportion import apportion
from tokenomics_plugin.context_blocks import Context, ContextBlock, common_prefix
from tokenomics_plugin.pricing import Counts
from tokenomics_plugin.trajectory import ModelCall

__all__ = ["EVIDENCE", "INSTRUCTIONS", "OTHER", "BlockKey", "Carrying", "Layout", "Lineage", "block_key"]

BlockKey = tuple[str, str | None]
"""Hash and producer: two results of the same content are two blocks when two spans produced them."""
_MAX_LINEAGES: Final = 16
_UNKNOWN: Final[Context] = (None,)


# What a block can be for, whatever call carries it.
OTHER: Final = 0
EVIDENCE: Final = 1
INSTRUCTIONS: Final = 2


def block_key(block: ContextBlock) -> BlockKey:
    """What a block is known again by."""
    return block.hash, block.producer


class Lineage:
    """Calls that each carried what the one before did, and more; its lists have an item a block, in order."""

    __slots__ = (
        "blocks",
        "calls",
        "context",
        "ends",
        "evidence",
        "extra_cost",
        "first_cost",
        "instructions",
        "is_first",
        "joined",
        "keys",
        "kinds",
        "price_steps",
        "template",
        "tokens",
    )

    def __init__(self) -> None:
        self.context: Context = ()
        """What its last call carried."""
        self.blocks: list[ContextBlock | None] = []
        self.keys: list[BlockKey | None] = []
        self.tokens: list[int] = []
        self.kinds: list[int] = []
        self.is_first: list[bool] = []
        """Whether the call that added a block to this lineage was the first to send it."""
        self.joined: list[int] = []
        """Calls of the lineage before the block joined it."""
        self.ends: list[int] = [0]
        """Tokens up to the end of each block, from 0: one item more."""
        self.evidence: list[int] = [0]
        """The same, of blocks of evidence only."""
        self.instructions: list[int] = [0]
        """The same, of instructions only."""
        self.first_cost: list[int] = []
        """Attodollars of sending a block for the first time."""
        self.extra_cost: list[int] = []
        """Attodollars of sending it again, where `price_steps` cannot say it: a part of the block, a lone block."""
        self.price_steps: list[int] = [0]
        """Attodollars a token of sending blocks again, as steps: what all blocks from this one on pay more."""
        self.calls = 0
        self.template = 0
        """Tokens beyond the blocks, of its last call."""

    def append(self, block: ContextBlock | None, tokens: int, kind: int, *, is_first: bool) -> None:
        """Add a block at the end."""
        self.blocks.append(block)
        self.keys.append(None if block is None else block_key(block))
        self.tokens.append(tokens)
        self.kinds.append(kind)
        self.is_first.append(is_first)
        self.joined.append(self.calls)
        self.ends.append(self.ends[-1] + tokens)
        self.evidence.append(self.evidence[-1] + (tokens if kind == EVIDENCE else 0))
        self.instructions.append(self.instructions[-1] + (tokens if kind == INSTRUCTIONS else 0))
        self.first_cost.append(0)
        self.extra_cost.append(0)
        self.price_steps.append(0)

    def before(self, position: int) -> tuple[int, int, int]:
        """Tokens before a position, by kind: other, evidence, instructions."""
        index = self.index_at(position)
        evidence, instructions = self.evidence[index], self.instructions[index]
        part = position - self.ends[index]
        if part:
            kind = self.kinds[index]
            if kind == EVIDENCE:
                evidence += part
            elif kind == INSTRUCTIONS:
                instructions += part
        return position - evidence - instructions, evidence, instructions

    def index_at(self, position: int) -> int:
        """Index of the block in which a position lies; the number of blocks, when it is at their end."""
        return bisect_right(self.ends, position) - 1

    def charge(self, index: int, cost: int) -> None:
        """Note what sending a block cost in the call that added it."""
        if self.is_first[index]:
            self.first_cost[index] += cost
        else:
            self.extra_cost[index] += cost

    def charge_again(self, start: int, end: int, kept: int, price: int) -> None:
        """Note that the tokens between two positions, of the first `kept` blocks, were sent again at a price."""
        if start >= end or not price:
            return
        ends, extra = self.ends, self.extra_cost
        first, last = self.index_at(start), min(self.index_at(end), kept)
        if ends[first] < start:  # begins inside a block
            extra[first] += (min(ends[first + 1], end) - start) * price
            first += 1
        if last < kept and last >= first:  # ends inside one
            extra[last] += (end - ends[last]) * price
        if last > first:
            self.price_steps[first] += price
            self.price_steps[last] -= price


class Layout(NamedTuple):
    """Where one call's input lies: the template first, as providers send it, then the blocks of a lineage."""

    call: ModelCall
    counts: Counts
    """Tokens by class, as the provider reported them."""
    lineage: Lineage
    kept: int
    """How many of the lineage's first blocks earlier calls of it carried."""
    length: int
    """How many of them this call carries."""
    template: int
    """Tokens beyond the blocks."""
    read_end: int
    """Position, in tokens of blocks, before which the cache served the input."""
    write_end: int
    """Position before which the input was at least written to the cache."""

    @property
    def template_classes(self) -> tuple[int, int, int]:
        """Tokens of the template: fresh, written, read."""
        if not self.template:
            return 0, 0, 0
        _, write, read, _, _ = self.counts
        from_cache = min(self.template, read)
        written = min(self.template - from_cache, write)
        return self.template - from_cache - written, written, from_cache

    def block_classes(self, index: int) -> tuple[int, int, int]:
        """Tokens of a block: fresh, written, read."""
        ends = self.lineage.ends
        start, end = ends[index], ends[index + 1]
        if start >= self.write_end:  # nearly every new block
            return end - start, 0, 0
        from_cache = max(0, min(end, self.read_end) - start)
        fresh = max(0, end - max(start, self.write_end))
        return fresh, end - start - from_cache - fresh, from_cache


class Carrying:
    """What the model calls of one trajectory carried, call by call in order of start."""

    def __init__(self, calls: Sequence[ModelCall], *, evidence: AbstractSet[str]) -> None:
        """Start with nothing sent.

        Args:
            calls: The calls that `add` will be given; their longest context says how many tokens a byte is.
            evidence: Spans of the evidence slice.
        """
        self._evidence = evidence
        self._density = _density(calls)
        self._by_model: dict[str | None, list[Lineage]] = {}
        self._templates: dict[str | None, int] = {}
        self._found: dict[tuple[str | None, BlockKey], int] = {}
        self._sent: set[BlockKey] = set()
        self.lineages: list[Lineage] = []
        """All lineages, those that no call goes on from included."""

    def add(self, call: ModelCall, counts: Counts) -> Layout:
        """Lay out a call whose tokens are known."""
        fresh, write, read, _, _ = counts
        total = fresh + write + read
        context = _UNKNOWN if call.context is None else call.context
        lineage, kept = self._base(call.model, context)
        new = context[kept:]
        tokens = self._tokens_of(new, total - lineage.ends[-1], call.model, lineage)
        if lineage.ends[-1] + sum(tokens) > total:
            # The estimates exceed what was counted: all of them shrink, in a lineage of its own.
            tokens = apportion(total, lineage.tokens + tokens)
            lineage = self._copy(lineage, tokens[:kept])
            tokens = tokens[kept:]
        self._append(lineage, new, tokens, kept)
        lineage.context = context
        lineage.calls += 1
        lineage.template = template = total - lineage.ends[-1]
        if call.context is not None:
            self._templates[call.model] = template
            self._remember(call.model, lineage)
        return Layout(
            call,
            counts,
            lineage,
            kept,
            len(context),
            template,
            max(0, read - template),
            max(0, read + write - template),
        )

    def _base(self, model: str | None, context: Context) -> tuple[Lineage, int]:
        """The lineage that a context goes on from, and how many of its blocks that is."""
        known = self._by_model.get(model, ())
        if context is _UNKNOWN:
            return self._new(), 0
        for lineage in reversed(known):
            length = len(lineage.context)
            if context[:length] == lineage.context:
                return lineage, length
        closest, kept = None, 0
        for lineage in reversed(known):
            length = common_prefix(lineage.context, context)
            if length > kept:
                closest, kept = lineage, length
        return (self._new(), 0) if closest is None else (self._copy(closest, closest.tokens[:kept]), kept)

    def _new(self) -> Lineage:
        lineage = Lineage()
        self.lineages.append(lineage)
        return lineage

    def _copy(self, lineage: Lineage, tokens: Sequence[int]) -> Lineage:
        """A lineage of the same first blocks; what they cost so far stays with the old one."""
        copy = self._new()
        copy.template = lineage.template
        for block, kind, count in zip(lineage.blocks, lineage.kinds, tokens, strict=False):
            copy.append(block, count, kind, is_first=False)
        return copy

    def _remember(self, model: str | None, lineage: Lineage) -> None:
        known = self._by_model.setdefault(model, [])
        if not known or known[-1] is not lineage:
            self._by_model[model] = [*(other for other in known if other is not lineage), lineage][-_MAX_LINEAGES:]

    def _append(self, lineage: Lineage, blocks: Context, tokens: Sequence[int], kept: int) -> None:
        for block, count in zip(blocks, tokens, strict=True):
            is_first = block is not None and self._is_first(block, lineage, kept)
            lineage.append(block, count, self._kind(block), is_first=is_first)

    def _is_first(self, block: ContextBlock, lineage: Lineage, kept: int) -> bool:
        """Whether a block was never sent: not even a copy, unless this context carries that one too."""
        key = block_key(block)
        if key not in self._sent:
            self._sent.add(key)
            return True
        return key in lineage.keys[:kept]

    def _kind(self, block: ContextBlock | None) -> int:
        if block is None:
            return OTHER
        if block.producer is not None:
            return EVIDENCE if block.producer in self._evidence else OTHER
        if block.role == "system":
            return INSTRUCTIONS
        return EVIDENCE if block.role == "user" and self._evidence else OTHER

    def _tokens_of(self, blocks: Context, room: int, model: str | None, lineage: Lineage) -> list[int]:
        """Tokens of blocks that a call adds, for which there is so much room with the template."""
        counts = [self._known(block, model) for block in blocks]
        open_ = [block for block, count in zip(blocks, counts, strict=True) if count is None]
        if open_:
            left = room - sum(count for count in counts if count is not None)
            estimates = iter(self._estimates(open_, left, model, lineage))
            counts = [next(estimates) if count is None else count for count in counts]
            for block, count in zip(blocks, counts, strict=True):
                if block is not None and count is not None:
                    self._found[model, block_key(block)] = count
        return [count or 0 for count in counts]

    def _known(self, block: ContextBlock | None, model: str | None) -> int | None:
        if block is None or block.tokens is not None:
            return None if block is None else block.tokens
        return self._found.get((model, block_key(block)))

    def _estimates(
        self, blocks: Sequence[ContextBlock | None], left: int, model: str | None, lineage: Lineage
    ) -> list[int]:
        template = lineage.template if lineage.calls or lineage.blocks else self._templates.get(model)
        sizes = [None if block is None else block.size for block in blocks]
        sized = [size for size in sizes if size is not None]
        if template is None and self._density is not None and len(sized) == len(sizes):
            # A first call: what its blocks leave, going by their sizes, is the template.
            tokens, size = self._density
            estimates = [count * tokens // size for count in sized]
            if sum(estimates) <= left:
                return estimates
        typical = max(1, sum(sized) // len(sized)) if sized else 1
        return apportion(max(0, left - (template or 0)), [typical if size is None else size for size in sizes])


def _density(calls: Sequence[ModelCall]) -> tuple[int, int] | None:
    """Tokens and bytes of the blocks whose tokens were reported, in the longest context; `None` when there are none."""
    longest = max((call.context for call in calls if call.context is not None), key=len, default=())
    counted = [(block.tokens, block.size) for block in longest if block and block.tokens and block.size]
    return (sum(tokens for tokens, _ in counted), sum(size for _, size in counted)) if counted else None

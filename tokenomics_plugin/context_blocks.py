"""What a model call carried: blocks of context, stored as the difference from an earlier call.

An agent sends its whole conversation again on every turn. A trace that stored each call's blocks in full would
grow with the square of the turns, so a call names an earlier one, says how many of its first blocks it keeps,
and lists the rest: blocks that are new, and runs of blocks copied from further on in the earlier call. The
copies keep the growth linear where the front of the context changes: a system prompt with the time in it, a
window that slides, a history that was summarised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any, Final

from tokenomics_plugin import semconv

__all__ = [
    "BlockRun",
    "Context",
    "ContextBlock",
    "ContextDelta",
    "common_prefix",
    "decode_blocks",
    "encode_blocks",
    "resolve",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextBlock:
    """One message of a context, told apart by a keyed hash. Its text is not here."""

    hash: str
    """Fingerprint of role and content: key id, `:`, hex digits."""
    role: str
    """system | user | assistant | tool, or `other`."""
    size: int | None = None
    """UTF-8 bytes of what was hashed, to apportion a call's tokens by; `None` where it holds more than text."""
    tokens: int | None = None
    """Tokens that the provider reported for this very block; `None` for blocks that it only reports in a sum."""
    producer: str | None = None
    """Id of the span that produced it, 16 hex digits; `None` when it came from outside the trace."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRun:
    """Consecutive blocks of the earlier call that are carried again, at another place."""

    start: int
    """Index of the first of them in the earlier call, from 0."""
    count: int
    """How many."""


Entry = ContextBlock | BlockRun
Context = tuple[ContextBlock | None, ...]
"""The blocks of one call in their order; `None` for one that was carried and of which nothing else is known."""

_MAX_BLOCKS: Final = 1_000_000  # What a span says came over the network: a forged count must not fill the memory.
_HASH: Final = re.compile(r"(?:[0-9a-f]+:)?[0-9a-f]+")
_PADDING: Final = {length: [None] * (5 - length) for length in range(2, 5)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextDelta:
    """The context of one call as its span stores it."""

    previous: str | None = None
    """Span id of the earlier call that the rest refers to, 16 hex digits; `None` when it refers to none."""
    kept: int = 0
    """How many of the earlier call's blocks, from its first on, this context begins with."""
    entries: tuple[Entry, ...] = ()
    """What follows them."""

    @classmethod
    def between(
        cls, blocks: Sequence[ContextBlock], *, previous: str | None = None, before: Sequence[ContextBlock] = ()
    ) -> ContextDelta:
        """The difference of a context from that of an earlier call.

        Args:
            blocks: The context.
            previous: Span id of the earlier call.
            before: The earlier call's context.
        """
        kept = common_prefix(before, blocks)
        # Appending is the common case, and then there is nothing left to copy from.
        rest = blocks[kept:] if kept == len(before) else _with_runs(blocks[kept:], before)
        refers = kept > 0 or any(isinstance(entry, BlockRun) for entry in rest)
        return cls(previous=previous if refers else None, kept=kept, entries=tuple(rest))

    def to_attributes(self) -> dict[str, str | int]:
        """The `tokenomics.context.*` attributes of the call's span."""
        text = encode_blocks(self.entries)
        if self.previous is None:
            return {semconv.CONTEXT_BLOCKS: text}
        return {
            semconv.CONTEXT_PREVIOUS: self.previous,
            semconv.CONTEXT_KEPT: self.kept,
            semconv.CONTEXT_BLOCKS: text,
        }

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> ContextDelta | None:
        """What a span's attributes say, numbers also as text; `None` when they say nothing about its context.

        Raises:
            ValueError: If they are malformed; the message says how.
        """
        # A store of text by name may give the empty text for what is absent.
        text = attributes.get(semconv.CONTEXT_BLOCKS) or None
        if text is None:
            return None
        previous = attributes.get(semconv.CONTEXT_PREVIOUS) or None
        if not isinstance(previous, str | None):
            raise ValueError(f"{semconv.CONTEXT_PREVIOUS} must be a span id, got {previous!r:.100}")
        kept = _count(attributes.get(semconv.CONTEXT_KEPT) or 0, semconv.CONTEXT_KEPT)
        delta = cls(previous=previous, kept=kept, entries=decode_blocks(text))
        if previous is None and (kept or any(isinstance(entry, BlockRun) for entry in delta.entries)):
            raise ValueError(
                f"{semconv.CONTEXT_PREVIOUS} must name the call whose blocks are kept or copied; it is absent"
            )
        return delta

    def applied_to(self, before: Context | None) -> Context:
        """The whole context, given the earlier call's; what that one cannot tell is `None`, block by block."""
        known = before or ()
        blocks: list[ContextBlock | None] = list(_run(known, 0, self.kept))
        for entry in self.entries:
            if isinstance(entry, BlockRun):
                blocks.extend(_run(known, entry.start, entry.count))
            else:
                blocks.append(entry)
        return tuple(blocks)


def encode_blocks(entries: Sequence[Entry]) -> str:
    """Entries as compact JSON, the value of `tokenomics.context.blocks`.

    A new block is `[hash, role, size, tokens, producer]` without its trailing nulls; a key id stands only where it
    differs from that of the block before. A run of copied blocks is `[start, count]`.
    """
    rows: list[str] = []
    key = ""
    for entry in entries:
        if isinstance(entry, BlockRun):
            rows.append(f"[{entry.start},{entry.count}]")
            continue
        own_key, _, digest = entry.hash.rpartition(":")
        if not own_key:
            raise ValueError(f"a block's hash must name its key, as in `1f2e3d4c:0123456789abcdef`, got {entry.hash!r}")
        rows.append(_row(digest if own_key == key else entry.hash, entry))
        key = own_key
    return f"[{','.join(rows)}]"


def decode_blocks(text: str) -> tuple[Entry, ...]:
    """The entries of a `tokenomics.context.blocks` attribute.

    Raises:
        ValueError: If the text is not what `encode_blocks` writes, as when an attribute length limit cut it.
    """
    try:
        rows = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"context blocks must be JSON, got {len(str(text))} characters that are not") from error
    if not isinstance(rows, list):
        raise ValueError(f"context blocks must be a JSON array, got {type(rows).__name__}")
    entries = _entries(rows)
    total = len(entries) + sum(entry.count - 1 for entry in entries if isinstance(entry, BlockRun))
    if total > _MAX_BLOCKS:
        raise ValueError(f"a context has at most {_MAX_BLOCKS} blocks, got {total}")
    return entries


def common_prefix(before: Sequence[Any], after: Sequence[Any]) -> int:
    """How many items two sequences have in common from the first on; `==` of the left ones decides."""
    shorter = min(len(before), len(after))
    # Nearly always one begins with the other: a comparison of lists runs in C, and knows the same object at once.
    if list(before[:shorter]) == list(after[:shorter]):
        return shorter
    return next((index for index in range(shorter) if before[index] != after[index]), shorter)


def resolve(calls: Mapping[str, Mapping[str, Any]]) -> dict[str, Context | None]:
    """The full context of each call of a trace, in the order of `calls`.

    Args:
        calls: Span id to the attributes of its span, in any order.

    Returns:
        Span id to its blocks. A block is `None` when the call that it is taken from is not among `calls` (sampled
        out, lost, of another trace), is malformed, or has fewer blocks than this one takes. The whole context is
        `None` when the span says nothing about it, or something malformed.
    """
    deltas = {span_id: _delta(attributes) for span_id, attributes in calls.items()}
    contexts: dict[str, Context | None] = {}
    for span_id in deltas:
        # A loop and not a recursion: each turn refers to the one before, and there may be thousands.
        for link in reversed(_unresolved(span_id, deltas, contexts)):
            delta = deltas[link]
            contexts[link] = None if delta is None else delta.applied_to(contexts.get(delta.previous or ""))
    return {span_id: contexts[span_id] for span_id in calls}


def _delta(attributes: Mapping[str, Any]) -> ContextDelta | None:
    try:
        return ContextDelta.from_attributes(attributes)
    except ValueError:
        return None


def _unresolved(
    span_id: str, deltas: Mapping[str, ContextDelta | None], contexts: Mapping[str, Context | None]
) -> list[str]:
    """The call and those that it refers to, one through the other, as far as they are not resolved yet."""
    chain: dict[str, None] = {}
    link: str | None = span_id
    while link is not None and link in deltas and link not in contexts and link not in chain:
        chain[link] = None
        delta = deltas[link]
        link = None if delta is None else delta.previous
    return list(chain)


def _with_runs(blocks: Sequence[ContextBlock], before: Sequence[ContextBlock]) -> list[Entry]:
    """Blocks, with those that the earlier call had as runs; greedy, a run goes on for as long as it can."""
    places = {block.hash: index for index, block in enumerate(before)}
    entries: list[Entry] = []
    index = 0
    while index < len(blocks):
        start = places.get(blocks[index].hash, len(before))
        count = _run_length(blocks, index, before, start)
        entries.append(BlockRun(start=start, count=count) if count else blocks[index])
        index += count or 1
    return entries


def _run_length(blocks: Sequence[ContextBlock], index: int, before: Sequence[ContextBlock], start: int) -> int:
    end = index
    longest = min(len(blocks), index + len(before) - start)
    while end < longest and (blocks[end] is (earlier := before[start + end - index]) or blocks[end] == earlier):
        end += 1
    return end - index


def _run(before: Context, start: int, count: int) -> Context:
    """Blocks of the earlier call, `None` for those that it does not have."""
    found = before[start : start + count]
    return found if len(found) == count else found + (None,) * (count - len(found))


def _row(digest: str, block: ContextBlock) -> str:
    # Written by hand, for a JSON encoder is set up anew in every call: this takes a quarter of the time.
    row = f"[{encode_basestring(digest)},{encode_basestring(block.role)}"
    if block.producer is not None:
        return f"{row},{_number(block.size)},{_number(block.tokens)},{encode_basestring(block.producer)}]"
    if block.tokens is not None:
        return f"{row},{_number(block.size)},{block.tokens}]"
    return f"{row}]" if block.size is None else f"{row},{block.size}]"


def _number(count: int | None) -> str:
    return "null" if count is None else str(count)


def _entries(rows: list[Any]) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    key = ""
    for row in rows:
        if isinstance(row, list) and len(row) == 2 and _is_count(row[0]) and _is_count(row[1]):
            entries.append(BlockRun(start=row[0], count=row[1]))
        else:
            block = _block(row, key)
            key = block.hash.partition(":")[0]
            entries.append(block)
    return tuple(entries)


def _block(row: Any, key: str) -> ContextBlock:
    if not isinstance(row, list) or not 2 <= len(row) <= 5:
        raise ValueError(f"a context block must be an array of 2 to 5, or [start, count], got {row!r:.100}")
    digest, role, size, tokens, producer = row if len(row) == 5 else row + _PADDING[len(row)]
    if not isinstance(digest, str) or not _HASH.fullmatch(digest) or not (key or ":" in digest):
        raise ValueError(
            f"a context block's hash must be hex digits, the first one's with a key id, got {digest!r:.100}"
        )
    if not isinstance(role, str) or not (producer is None or isinstance(producer, str)):
        raise ValueError(f"a context block's role and producer must be text, got {role!r:.100} and {producer!r:.100}")
    if not ((size is None or _is_count(size)) and (tokens is None or _is_count(tokens))):
        raise ValueError(
            f"a context block's size and tokens must not be negative, got {size!r:.100} and {tokens!r:.100}"
        )
    named = digest if ":" in digest else f"{key}:{digest}"
    return ContextBlock(hash=named, role=role, size=size, tokens=tokens, producer=producer)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _count(value: Any, name: str) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if not _is_count(number) or number > _MAX_BLOCKS:
        raise ValueError(f"{name} must be an integer from 0 to {_MAX_BLOCKS}, got {value!r:.100}")
    return int(number)

"""What a layer holds of a batch of sequences: sinks, codes, and the newest tokens.

The windows keep keys and values as the model computed them, not rotated as OSCAR does: they stay exact to the bit,
nothing has to be rotated while it is still in a window, and a token is rotated in the same way however it arrived. The
layout is a function of the number of tokens alone, so codes do not depend on how a prompt was cut.

Sequences of a batch may begin at different positions, the ones before being padding. Each has the sink at its own
beginning; codes and recent tokens lie at the same positions for all, and a token that is in a sink counts only there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from tokenomics_local_llm import kernels
from tokenomics_local_llm.kernels.store import writable
from tokenomics_local_llm.oscar.codec import SideCodec
from tokenomics_local_llm.oscar.packing import CODES_PER_BYTE, PackedTokens
from tokenomics_local_llm.oscar.recipe import OscarRecipe

__all__ = ["STORED", "CodeStore", "Codes", "Held", "PackedStore", "SideStore", "Starts", "TiledCodes", "TiledStore"]

STORED: Final = ("sink", "codes", "scale", "minimum", "recent")
"""What a side consists of in a file."""

_GROWTH: Final = 8  # a full buffer grows by an eighth: little is held in vain, and a token is copied few times
_ENCODED_AT_ONCE: Final = 2048  # tokens; bounds what a long prompt needs beside its codes


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Where the sequences of a batch begin."""

    rows: Tensor
    """The first position of each sequence that is not padding, (B,), int64."""
    earliest: int
    """The smallest of them when the batch was made: nothing before it is kept."""

    @classmethod
    def of_mask(cls, attention_mask: Tensor) -> Starts | None:
        """Of a batch's mask (B, T), which is 0 for padding; `None` where nothing is padded.

        Raises:
            ValueError: If something other than the beginning of a row is masked.
        """
        present = attention_mask.bool()
        rows = present.int().argmax(-1)
        if not bool((present.sum(-1) == present.shape[1] - rows).all()):
            raise ValueError(
                "the attention mask hides more than the beginning of its rows: pad on the left, and give every row at "
                "least one token"
            )
        return cls(rows=rows, earliest=int(rows.min())) if bool(rows.any()) else None

    def each_row(self, change: Callable[[Tensor], Tensor]) -> Starts:
        """Repeated, selected or reordered with their sequences."""
        return Starts(rows=change(self.rows), earliest=self.earliest)


class _Buffer:
    """A tensor of (B, H, T, ...) that grows at the end of T; views of it stay what they were until it is truncated."""

    def __init__(self, empty: Tensor) -> None:
        self._data = empty
        self.tokens = 0

    @property
    def view(self) -> Tensor:
        return self._data[:, :, : self.tokens]

    @property
    def nbytes(self) -> int:
        return self._data.numel() * self._data.element_size()

    def append(self, rows: Tensor) -> None:
        needed = self.tokens + rows.shape[2]
        if needed > self._data.shape[2]:
            self._move(self.view, needed + self.tokens // _GROWTH)
        self._data = writable(self._data)
        self._data[:, :, self.tokens : needed] = rows
        self.tokens = needed

    def drop_front(self, tokens: int, *, room: int) -> None:
        self._move(self.view[:, :, tokens:], max(room, self.tokens - tokens))
        self.tokens -= tokens

    def _move(self, kept: Tensor, room: int) -> None:
        data = kept.new_empty(*kept.shape[:2], room, *kept.shape[3:])
        data[:, :, : kept.shape[2]] = kept
        self._data = data

    def truncate(self, tokens: int) -> None:
        self.tokens = tokens

    def each_row(self, change: Callable[[Tensor], Tensor]) -> None:
        self._data = change(self._data)


@dataclass(frozen=True, kw_only=True)
class TiledCodes:
    """Codes in the tiles that the compiled kernels read, and in planar form on demand."""

    tiles: kernels.PackedStore
    """Not appended to."""

    @property
    def tokens(self) -> int:
        """How many tokens are held."""
        return self.tiles.length

    def planar(self) -> PackedTokens:
        """The same codes, copied."""
        codes, scale, minimum = self.tiles.planar()
        return PackedTokens(codes=codes, scale=scale, minimum=minimum)


Codes = PackedTokens | TiledCodes
"""Codes of one side at one moment."""


class CodeStore(Protocol):
    """The codes of one side, growing."""

    @property
    def tokens(self) -> int:
        """Tokens held."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes held, room for growth included."""
        ...

    @property
    def view(self) -> Codes:
        """All tokens, without a copy; they stay what they are while newer ones are added."""
        ...

    def append(self, packed: PackedTokens) -> None:
        """Add newer tokens."""
        ...

    def truncate(self, tokens: int) -> None:
        """Keep the oldest `tokens`."""
        ...

    def each_row(self, change: Callable[[Tensor], Tensor]) -> None:
        """Repeat, select or reorder the sequences."""
        ...


class TiledStore:
    """Codes in the compiled kernels' tiles, growing."""

    def __init__(self, tiles: kernels.PackedStore) -> None:
        self._tiles = tiles

    @property
    def tokens(self) -> int:
        """Tokens held."""
        return self._tiles.length

    @property
    def nbytes(self) -> int:
        """Bytes held, room for growth included."""
        return self._tiles.nbytes

    @property
    def view(self) -> TiledCodes:
        """All tokens, without a copy."""
        return TiledCodes(tiles=self._tiles.snapshot())

    def append(self, packed: PackedTokens) -> None:
        """Add newer tokens."""
        self._tiles.append(packed.codes, packed.scale, packed.minimum)

    def truncate(self, tokens: int) -> None:
        """Keep the oldest `tokens`."""
        self._tiles.crop(tokens)

    def each_row(self, change: Callable[[Tensor], Tensor]) -> None:
        """Repeat, select or reorder the sequences."""
        self._tiles.select(change(torch.arange(self._tiles.batch)))


class PackedStore:
    """Codes in planar form, growing: on any device, for groups of any size."""

    def __init__(self, batch: int, heads: int, head_dim: int, groups: int, device: torch.device) -> None:
        def empty(width: int, dtype: torch.dtype) -> _Buffer:
            return _Buffer(torch.empty(batch, heads, 0, width, dtype=dtype, device=device))

        self._codes = empty(head_dim // CODES_PER_BYTE, torch.uint8)
        self._scale, self._minimum = empty(groups, torch.float16), empty(groups, torch.float16)
        self._buffers = (self._codes, self._scale, self._minimum)

    @property
    def tokens(self) -> int:
        """Tokens held."""
        return self._codes.tokens

    @property
    def nbytes(self) -> int:
        """Bytes held, room for growth included."""
        return sum(buffer.nbytes for buffer in self._buffers)

    @property
    def view(self) -> PackedTokens:
        """All tokens, without a copy."""
        return PackedTokens(codes=self._codes.view, scale=self._scale.view, minimum=self._minimum.view)

    def append(self, packed: PackedTokens) -> None:
        """Add newer tokens."""
        for buffer, rows in zip(self._buffers, (packed.codes, packed.scale, packed.minimum), strict=True):
            buffer.append(rows)

    def truncate(self, tokens: int) -> None:
        """Keep the oldest `tokens`."""
        for buffer in self._buffers:
            buffer.truncate(tokens)

    def each_row(self, change: Callable[[Tensor], Tensor]) -> None:
        """Repeat, select or reorder the sequences."""
        for buffer in self._buffers:
            buffer.each_row(change)


@dataclass(frozen=True, kw_only=True)
class Held:
    """One side of a layer at one moment; views, which stay what they are while the store goes on."""

    sink: Tensor
    """(B, H, S, D): the first tokens of each sequence from its own beginning."""
    packed: Codes
    """Codes of what lies between the windows."""
    recent: Tensor
    """(B, H, R, D): the newest tokens, those of the current call included."""
    tokens: int
    """Positions so far, padding included."""
    starts: Starts | None
    """Where the sequences begin; `None` is position 0 for all."""
    codec: SideCodec
    """What the codes were made by."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of what `restore` returns."""
        batch, heads, _, channels = self.recent.shape
        return batch, heads, self.tokens, channels

    def restore(self) -> Tensor:
        """All tokens in the model's own space and dtype, (B, H, T, D); padding that is not kept is 0."""
        parts = [self.recent]
        if self.packed.tokens:
            parts.insert(0, self.codec.decode(self.packed.planar()).to(self.recent.dtype))
        if self.starts is None:
            return torch.cat([self.sink, *parts], dim=2)
        later = torch.cat(parts, dim=2)
        restored = later.new_zeros(self.shape)
        restored[:, :, self.tokens - later.shape[2] :] = later
        for row, start in enumerate(self.starts.rows.tolist()):
            own = self.sink[row, :, : max(self.tokens - start, 0)]
            restored[row, :, start : start + own.shape[1]] = own
        return restored


class SideStore:
    """The keys, or the values, of one layer.

    Args:
        first: The first tokens, (B, H, T, D), for their shape, dtype and device; they are not stored yet.
        codec: To codes and back.
        recipe: Windows.
        starts: Where the sequences begin.
        codes: Holds what is between the windows.
    """

    def __init__(
        self, first: Tensor, codec: SideCodec, recipe: OscarRecipe, starts: Starts | None, codes: CodeStore
    ) -> None:
        batch, heads, _, channels = first.shape
        codec.to(first.device)
        self._codec = codec
        self._recipe = recipe
        self._starts = starts
        self._earliest = starts.earliest if starts else 0
        self._sink = first.new_zeros(batch, heads, recipe.sink_tokens, channels)
        self._packed = codes
        self._recent = _Buffer(first.new_empty(batch, heads, 0, channels))
        self.tokens = 0
        """Positions so far, padding included."""

    @property
    def nbytes(self) -> int:
        """Bytes held, room for growth included."""
        return self._sink.numel() * self._sink.element_size() + self._packed.nbytes + self._recent.nbytes

    @property
    def held(self) -> Held:
        """All of it as it is now."""
        filled = self._sink if self._starts else self._sink[:, :, : self.tokens]
        return Held(
            sink=filled, packed=self._packed.view, recent=self._recent.view, tokens=self.tokens, starts=self._starts,
            codec=self._codec,
        )  # fmt: skip

    def append(self, rows: Tensor) -> Held:
        """Add newer tokens (B, H, T, D); what leaves the recent window becomes codes.

        Returns:
            What was held before anything left: the new tokens as they came.
        """
        self._fill_sink(rows)
        beyond = max(self._earliest + self._recipe.sink_tokens - self.tokens, 0)
        self.tokens += rows.shape[2]
        self._recent.append(rows[:, :, beyond:])
        held = self.held
        self._demote()
        return held

    def _fill_sink(self, rows: Tensor) -> None:
        self._sink = writable(self._sink)
        if self._starts is None:
            room = self._sink[:, :, self.tokens : self.tokens + rows.shape[2]]
            room.copy_(rows[:, :, : room.shape[2]])
            return
        for row, start in enumerate(self._starts.rows.tolist()):
            first = max(start - self.tokens, 0)  # of the new tokens, the first that is no padding
            room = self._sink[row, :, max(self.tokens - start, 0) :]
            own = rows[row, :, first : first + room.shape[1]]
            room[:, : own.shape[1]] = own

    def _demote(self) -> None:
        leaving = self._recipe.quantized_tokens(self.tokens - self._earliest) - self._packed.tokens
        if leaving <= 0:
            return
        for first in range(0, leaving, _ENCODED_AT_ONCE):
            part = self._recent.view[:, :, first : min(first + _ENCODED_AT_ONCE, leaving)]
            self._packed.append(self._codec.encode(part))
        self._recent.drop_front(leaving, room=self._recipe.recent_tokens + self._recipe.demotion_tokens)

    def crop(self, tokens: int) -> None:
        """Keep the first `tokens` positions.

        Codes cannot become exact again: what remains of a block that was quantised goes back to the recent window as
        its codes stand for it, and whole blocks stay codes.
        """
        removed = self.tokens - tokens
        self.tokens = tokens
        if removed <= self._recent.tokens:
            self._recent.truncate(self._recent.tokens - removed)
            return
        left = max(self._packed.tokens + self._recent.tokens - removed, 0)
        whole = left - left % self._recipe.demotion_tokens
        tail = self._codec.decode(_between(self._packed.view.planar(), whole, left))
        self._packed.truncate(whole)
        self._recent.truncate(0)
        self._recent.append(tail.to(self._sink.dtype))

    def tensors(self) -> dict[str, Tensor]:
        """All that is held, by name, for a file."""
        packed = self._packed.view.planar()
        return {
            "sink": self._sink,
            "codes": packed.codes.contiguous(),
            "scale": packed.scale.contiguous(),
            "minimum": packed.minimum.contiguous(),
            "recent": self._recent.view.contiguous(),
        }

    def take(self, tensors: dict[str, Tensor], tokens: int) -> None:
        """Hold what another store's `tensors` were, instead of nothing."""
        self._sink = tensors["sink"]
        self._packed.append(PackedTokens(codes=tensors["codes"], scale=tensors["scale"], minimum=tensors["minimum"]))
        self._recent.append(tensors["recent"])
        self.tokens = tokens

    def each_row(self, change: Callable[[Tensor], Tensor]) -> None:
        """Repeat, select or reorder the sequences."""
        self._sink = change(self._sink)
        self._packed.each_row(change)
        self._recent.each_row(change)
        self._starts = self._starts.each_row(change) if self._starts else None


def _between(packed: PackedTokens, first: int, last: int) -> PackedTokens:
    part = slice(first, last)
    return PackedTokens(
        codes=packed.codes[:, :, part], scale=packed.scale[:, :, part], minimum=packed.minimum[:, :, part]
    )

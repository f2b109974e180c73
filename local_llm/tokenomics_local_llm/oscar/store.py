"""What a layer holds of a batch of sequences: sinks, codes, and the newest tokens.

The windows keep keys and values as the model computed them, not rotated as OSCAR does: they stay exact to the bit,
nothing has to be rotated while it is still in a window, and a token is rotated in the same way however it arrived. The
layout is a function of the number of tokens alone, so codes do not depend on how a prompt was cut.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tokenomics_local_llm.oscar.codec import SideCodec
from tokenomics_local_llm.oscar.packing import CODES_PER_BYTE, PackedTokens
from tokenomics_local_llm.oscar.recipe import OscarRecipe

__all__ = ["PackedStore", "SideStore"]

_GROWTH = 8  # a full buffer grows by an eighth: little is held in vain, and a token is copied eight times on average
_ENCODED_AT_ONCE = 2048  # tokens; bounds what a long prompt needs beside its codes


class _Buffer:
    """Tensors of (B, H, T, ...) that grow at the end of T and shrink at either."""

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
            self._grow(needed)
        self._data[:, :, self.tokens : needed] = rows
        self.tokens = needed

    def _grow(self, needed: int) -> None:
        room = max(needed, self.tokens + self.tokens // _GROWTH) if self.tokens else needed
        grown = self._data.new_empty(*self._data.shape[:2], room, *self._data.shape[3:])
        grown[:, :, : self.tokens] = self.view
        self._data = grown

    def truncate(self, tokens: int) -> None:
        self.tokens = tokens

    def drop_front(self, tokens: int, *, room: int) -> None:
        kept = self.view[:, :, tokens:]
        self.tokens -= tokens
        data = self._data.new_empty(*self._data.shape[:2], max(room, self.tokens), *self._data.shape[3:])
        data[:, :, : self.tokens] = kept
        self._data = data

    def each_row(self, change: Callable[[Tensor], Tensor]) -> None:
        self._data = change(self._data)


class PackedStore:
    """The codes of one side, growing; what a kernel reads is `view()`."""

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


class SideStore:
    """The keys, or the values, of one layer.

    Args:
        first: The first tokens, (B, H, T, D), for their shape and dtype; they are not stored yet.
        codec: To codes and back.
        recipe: Windows.
        groups: Scales a head.
    """

    def __init__(self, first: Tensor, codec: SideCodec, recipe: OscarRecipe, groups: int) -> None:
        batch, heads, _, channels = first.shape
        self._codec = codec
        self._recipe = recipe
        self.sink = _Buffer(first.new_empty(batch, heads, 0, channels))
        self.packed = PackedStore(batch, heads, channels, groups, first.device)
        self.recent = _Buffer(first.new_empty(batch, heads, 0, channels))
        self._dtype = first.dtype

    @property
    def tokens(self) -> int:
        """Tokens held."""
        return self.sink.tokens + self.packed.tokens + self.recent.tokens

    @property
    def nbytes(self) -> int:
        """Bytes held, room for growth included."""
        return self.sink.nbytes + self.packed.nbytes + self.recent.nbytes

    def append(self, rows: Tensor) -> None:
        """Add newer tokens (B, H, T, D), and quantise those that leave the recent window."""
        first = min(self._recipe.sink_tokens - self.sink.tokens, rows.shape[2])
        if first > 0:
            self.sink.append(rows[:, :, :first])
            rows = rows[:, :, first:]
        self.recent.append(rows)
        leaving = self._recipe.quantized_tokens(self.tokens) - self.packed.tokens
        if leaving > 0:
            for part in self.recent.view[:, :, :leaving].split(_ENCODED_AT_ONCE, dim=2):
                self.packed.append(self._codec.encode(part))
            self.recent.drop_front(leaving, room=self._recipe.recent_tokens + self._recipe.demotion_tokens)

    def restore(self) -> Tensor:
        """All tokens in the model's own space and dtype, (B, H, T, D)."""
        parts = [self.sink.view, self.recent.view]
        if self.packed.tokens:
            parts.insert(1, self._codec.decode(self.packed.view()).to(self._dtype))
        return torch.cat(parts, dim=2)

    def each_row(self, change: Callable[[Tensor], Tensor]) -> None:
        """Repeat, select or reorder the sequences."""
        for part in (self.sink, self.packed, self.recent):
            part.each_row(change)

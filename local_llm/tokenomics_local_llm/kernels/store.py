"""Packed keys and values of one layer, laid out for integer dot products, growing at the end.

Tokens come and go in the planar form (byte b of a token holds channels b, b + D/4, b + D/2 and b + 3D/4, lowest
bits first); a store keeps the same bits in tiles of 128 tokens, in rows of 64 bytes that one instruction multiplies:

- `PackedKeys`: row r of a block of 64 tokens is 16 lanes of four bytes; lane l, byte j, slot s is channel 4r + j of
  the block's token 16s + l. Lanes are tokens, so their scores need no sums across lanes.
- `PackedValues`: row (c, r) of a tile is 16 lanes of four bytes; lane l, byte j, slot s is channel s * D/4 + 16c + l of
  the tile's token 4r + j. Lanes are channels of the output. Quarters are padded to whole rows: at D = 96, which is no
  multiple of 64, values take a third more.

Scales and minimums are float16, (B, H, tiles, groups, 128): a code c stands for minimum + c * scale.

Memory grows by a 32nd, so that appending is cheap and what is held stays near what is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor

__all__ = ["TILE", "PackedKeys", "PackedStore", "PackedValues", "fits_tiles", "writable"]

TILE: Final = 128
"""Tokens in a tile, the unit of memory and of the kernels' inner loops."""

_BLOCK: Final = 64
_SLOTS: Final = 4
_LANES: Final = 16
_GROWTH: Final = 32
_LARGEST_HEAD: Final = 512


def fits_tiles(head_dim: int, group_size: int) -> bool:
    """Whether tiles can hold codes of such heads and groups."""
    return head_dim % 8 == 0 and 0 < head_dim <= _LARGEST_HEAD and group_size in (head_dim, head_dim // 2)


class PackedStore(ABC):
    """Codes, scales and minimums of tokens in order, for every row of a batch and every key/value head."""

    def __init__(self, *, batch: int, heads: int, head_dim: int, group_size: int) -> None:
        """Make an empty store.

        Args:
            batch: Rows of the batch (B).
            heads: Key/value heads (H).
            head_dim: Channels of a head (D), a multiple of 8 up to 512.
            group_size: Channels that share a scale and a minimum: D or D / 2.

        Raises:
            ValueError: If the sizes are not so.
        """
        if not fits_tiles(head_dim, group_size):
            raise ValueError(
                f"packed codes need a head size that is a multiple of 8 up to {_LARGEST_HEAD} and groups of a head or "
                f"half of it, got {head_dim} and {group_size}"
            )
        self.batch, self.heads, self.head_dim, self.group_size = batch, heads, head_dim, group_size
        self.length = 0
        """Tokens held (T), the same in every row; padding counts."""
        scale = torch.zeros(batch, heads, 0, self.groups, TILE, dtype=torch.float16)
        self._hold(torch.zeros(batch, heads, 0, *self._tile_shape(), dtype=torch.uint8), scale, torch.zeros_like(scale))

    @property
    def groups(self) -> int:
        """Scales of a token."""
        return self.head_dim // self.group_size

    @property
    def tiles(self) -> int:
        """Tiles that memory is held for."""
        return self.codes.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes held, room to grow included."""
        return sum(part.numel() * part.element_size() for part in (self.codes, self.scale, self.minimum))

    def append(self, codes: Tensor, scale: Tensor, minimum: Tensor) -> None:
        """Add tokens at the end of every row.

        Args:
            codes: Planar, uint8 (B, H, T, D / 4).
            scale: (B, H, T, groups), stored as float16.
            minimum: Likewise.

        Raises:
            ValueError: If the shapes do not fit the store.
        """
        self._check(codes, scale, minimum)
        first, self.length = self.length, self.length + codes.shape[2]
        self._reserve(self.length)
        if codes.shape[2]:
            self._write(first, codes, scale, minimum)

    def planar(self) -> tuple[Tensor, Tensor, Tensor]:
        """All tokens as `append` takes them, bit for bit."""
        codes, scale, minimum = self.unpacked(0, self.length)
        return _join(codes.unflatten(-1, (_SLOTS, -1)), -2), scale, minimum

    def unpacked(self, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens `first` to `last`, a byte a code: uint8 (B, H, T, D) of 0..3, scale and minimum (B, H, T, groups)."""
        tiles = slice(first // TILE, -(-last // TILE))
        inside = slice(first - tiles.start * TILE, last - tiles.start * TILE)
        scale, minimum = (part[:, :, tiles].transpose(3, 4).flatten(2, 3) for part in (self.scale, self.minimum))
        return self._unpack(self.codes[:, :, tiles])[:, :, inside], scale[:, :, inside], minimum[:, :, inside]

    def select(self, rows: Tensor) -> None:
        """Keep `rows` of the batch in this order; a row may come more than once (beam search, repeats)."""
        self._hold(*(part.index_select(0, rows) for part in (self.codes, self.scale, self.minimum)))
        self.batch = self.codes.shape[0]

    def snapshot(self) -> Self:
        """A view of what is held now, which stays what it is while tokens are appended here."""
        return copy(self)

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens.

        Raises:
            ValueError: If there are fewer.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"the store holds {self.length} tokens and cannot keep {length} of them")
        self.length = length

    @abstractmethod
    def _tile_shape(self) -> tuple[int, ...]:
        """Shape of a tile of codes, the last size being 64 bytes."""

    @abstractmethod
    def _pack(self, codes: Tensor) -> Tensor:
        """Codes (B, H, tiles, 128, D) 0..3 to tiles."""

    @abstractmethod
    def _unpack(self, tiles: Tensor) -> Tensor:
        """Tiles to codes (B, H, tokens, D) 0..3."""

    def _hold(self, codes: Tensor, scale: Tensor, minimum: Tensor) -> None:
        self.codes, self.scale, self.minimum = codes, scale, minimum
        self.arrays: tuple[np.ndarray[Any, Any], ...] = tuple(
            part.view(-1).numpy() for part in (codes, scale.view(torch.uint16), minimum.view(torch.uint16))
        )
        """Bytes of the codes, and bits of scales and minimums, flat, as the compiled kernels take them."""

    def _check(self, codes: Tensor, scale: Tensor, minimum: Tensor) -> None:
        tokens = codes.shape[2] if codes.ndim == 4 else 0
        expected = (self.batch, self.heads, tokens, self.head_dim // 4)
        grouped = (self.batch, self.heads, tokens, self.groups)
        if codes.dtype != torch.uint8 or codes.shape != expected:
            raise ValueError(f"codes must be uint8 {expected}, got {codes.dtype} {tuple(codes.shape)}")
        if scale.shape != grouped or minimum.shape != grouped:
            raise ValueError(
                f"scale and minimum must be {grouped}, got {tuple(scale.shape)} and {tuple(minimum.shape)}"
            )

    def _reserve(self, tokens: int) -> None:
        needed = -(-tokens // TILE)
        if needed <= self.tiles:
            return
        # The first tokens get just the room they need: a prompt is long, and what follows it is short.
        more = max(needed, self.tiles + self.tiles // _GROWTH) - self.tiles
        self._hold(
            *(
                torch.cat([part, part.new_zeros(*part.shape[:2], more, *part.shape[3:])], dim=2)
                for part in (self.codes, self.scale, self.minimum)
            )
        )

    def _write(self, first: int, codes: Tensor, scale: Tensor, minimum: Tensor) -> None:
        """Whole tiles are written anew; those at the ends keep their other tokens."""
        last = first + codes.shape[2]
        tiles = slice(first // TILE, -(-last // TILE))
        inside = slice(first - tiles.start * TILE, last - tiles.start * TILE)
        self._hold(*(writable(part) for part in (self.codes, self.scale, self.minimum)))
        unpacked = self._unpack(self.codes[:, :, tiles])
        unpacked[:, :, inside] = _split(codes, 3).flatten(-2)
        self.codes[:, :, tiles] = self._pack(unpacked.unflatten(2, (-1, TILE)))
        for part, new in ((self.scale, scale), (self.minimum, minimum)):
            by_token = part[:, :, tiles].transpose(3, 4).flatten(2, 3).clone()
            by_token[:, :, inside] = new.to(torch.float16)
            part[:, :, tiles] = by_token.unflatten(2, (-1, TILE)).transpose(3, 4)


class PackedKeys(PackedStore):
    """Keys, in blocks of 64 tokens whose lanes are tokens."""

    def _tile_shape(self) -> tuple[int, ...]:
        return (TILE // _BLOCK, self.head_dim // 4, 64)

    def _pack(self, codes: Tensor) -> Tensor:
        slots = codes.unflatten(3, (TILE // _BLOCK, _SLOTS, _LANES)).unflatten(-1, (-1, 4))  # B H t block s l r j
        return _join(slots, 4).transpose(4, 5).flatten(-2)

    def _unpack(self, tiles: Tensor) -> Tensor:
        rows = tiles.unflatten(-1, (_LANES, 4)).transpose(4, 5)  # B H t block l r j
        return _split(rows, 4).flatten(2, 5).flatten(-2)


class PackedValues(PackedStore):
    """Values, in tiles of 128 tokens whose lanes are channels."""

    @property
    def chunks(self) -> int:
        """Rows of lanes that a quarter of the channels takes."""
        return -(-self.head_dim // (_SLOTS * _LANES))

    def _tile_shape(self) -> tuple[int, ...]:
        return (self.chunks, TILE // 4, 64)

    def _pack(self, codes: Tensor) -> Tensor:
        quarters = codes.unflatten(-1, (_SLOTS, -1))
        padded = torch.nn.functional.pad(quarters, (0, self.chunks * _LANES - self.head_dim // 4))
        bytes_ = _join(padded, 4).unflatten(-1, (self.chunks, _LANES)).unflatten(3, (-1, 4))  # B H t r j c l
        return bytes_.permute(0, 1, 2, 5, 3, 6, 4).flatten(-2)

    def _unpack(self, tiles: Tensor) -> Tensor:
        bytes_ = tiles.unflatten(-1, (_LANES, 4)).permute(0, 1, 2, 4, 6, 3, 5)  # B H t r j c l
        quarters = _split(bytes_.flatten(2, 4).flatten(-2), 3)  # B H T s padded quarter
        return quarters[..., : self.head_dim // 4].flatten(-2)


def writable(data: Tensor) -> Tensor:
    """What was made in PyTorch's inference mode may not be written outside of it, unless copied."""
    return data.clone() if data.is_inference() and not torch.is_inference_mode_enabled() else data


def _join(codes: Tensor, dim: int) -> Tensor:
    """Four codes along `dim` to one byte, the first in the lowest bits."""
    first, second, third, fourth = codes.unbind(dim)
    return first | second << 2 | third << 4 | fourth << 6


def _split(bytes_: Tensor, dim: int) -> Tensor:
    """The four codes of every byte along a new dimension."""
    return torch.stack([bytes_ >> 2 * slot & 3 for slot in range(_SLOTS)], dim=dim)

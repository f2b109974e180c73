"""2-bit codes, four channels to a byte, with the scale and the minimum of each group beside them.

The layout is planar, as in OSCAR's kernels: byte b of a token's head holds the codes of channels b, b + D/4, b + D/2
and b + 3D/4 in its bits 0-1, 2-3, 4-5 and 6-7. A kernel then unpacks a quarter of a head with one mask and no shuffle.
Scale and minimum, not scale and zero point: a zero point is a quotient that 16 bits cannot hold when a group lies far
from zero, while the minimum is as fine as the values themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CODES_PER_BYTE", "PackedTokens", "dequantize", "pack_codes", "unpack_codes"]

CODES_PER_BYTE = 4
_SHIFTS = (0, 2, 4, 6)


@dataclass(frozen=True, kw_only=True)
class PackedTokens:
    """Keys or values of T tokens; what a code stands for is `minimum + code * scale` of its group."""

    codes: Tensor
    """(B, H, T, D / 4), uint8, planar."""
    scale: Tensor
    """(B, H, T, G), float16: the step between two codes."""
    minimum: Tensor
    """(B, H, T, G), float16: what code 0 stands for."""

    @property
    def tokens(self) -> int:
        """How many tokens are held."""
        return self.codes.shape[2]

    def planar(self) -> PackedTokens:
        """Itself."""
        return self

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.codes.shape[3] * CODES_PER_BYTE

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and minima."""
        return sum(part.numel() * part.element_size() for part in (self.codes, self.scale, self.minimum))


def pack_codes(codes: Tensor) -> Tensor:
    """Four codes to a byte.

    Args:
        codes: Integers of 0 to 3, (..., D).

    Returns:
        (..., D / 4), uint8.

    Raises:
        ValueError: If 4 does not divide D.
    """
    channels = codes.shape[-1]
    if channels % CODES_PER_BYTE:
        raise ValueError(f"the channels of a head must be a multiple of {CODES_PER_BYTE}, got {channels}")
    quarters = codes.to(torch.uint8).chunk(CODES_PER_BYTE, dim=-1)
    packed = quarters[0].clone()
    for quarter, shift in zip(quarters[1:], _SHIFTS[1:], strict=True):
        packed |= quarter << shift
    return packed


def unpack_codes(packed: Tensor) -> Tensor:
    """The codes of `pack_codes` again, (..., D), uint8."""
    return torch.cat([(packed >> shift) & 3 for shift in _SHIFTS], dim=-1)


def dequantize(packed: PackedTokens) -> Tensor:
    """What the codes stand for, (B, H, T, D), float32."""
    codes = unpack_codes(packed.codes).float()
    grouped = codes.view(*packed.scale.shape, packed.head_dim // packed.scale.shape[-1])
    grouped.mul_(packed.scale.float().unsqueeze(-1)).add_(packed.minimum.float().unsqueeze(-1))
    return codes

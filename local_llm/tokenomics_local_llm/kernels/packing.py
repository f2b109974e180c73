"""Rotated rows to 2-bit codes with a float16 scale and minimum for each group: the writer's side of the kernels.

A row is one token of one head. Its largest entries are clipped at an exact order statistic, each group gets a minimum
and a step from what is left, and codes are chosen against these as float16 has them. Either every channel takes the
nearest code, or channel after channel takes up the errors before it, weighted by a triangular matrix (the rounding of
GPTQ, arXiv 2210.17323, and LDLQ, arXiv 2307.13304): D * D / 2 products a row, which only the writer pays.

The steps in PyTorch are the reference; the compiled ones yield the same bits.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from tokenomics_local_llm.kernels.instructions import Instructions, choose_instructions
from tokenomics_local_llm.kernels.ranges import range_between

__all__ = ["pack_rows", "round_rows"]

_LOGGER = logging.getLogger(__name__)

_LEVELS: Final = 3


def pack_rows(
    rows: Tensor,
    *,
    clip_ratio: float,
    groups: int = 1,
    feedback: Tensor | None = None,
    instructions: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and minimums as `PackedStore.append` takes them.

    Args:
        rows: (B, H, T, D), floating, finite.
        clip_ratio: Entries are clipped to the one of rank floor(clip_ratio * D) by size, counted from 0; none if 0.
        groups: Scales of a row; divides D.
        feedback: What the rounding error of channel i adds to each later channel, above the diagonal of (H or 1, D, D),
            float32; by default every channel takes the nearest code.
        instructions: As for `decode_attention`; only whether they are `TORCH` matters.

    Returns:
        Planar codes uint8 (B, H, T, D / 4), scale and minimum float16 (B, H, T, groups).

    Raises:
        ValueError: If the channels do not divide into four, or into the groups.
    """
    channels = rows.shape[-1]
    if channels % 4 or channels % groups:
        raise ValueError(f"a head of {channels} channels does not divide into 4 quarters and {groups} groups")
    exact = rows.float().contiguous()
    compiled = _compiled_for(exact, instructions)
    lowest, highest = _ranges(compiled, exact, _entries_kept(clip_ratio, channels), groups)
    minimum, scale = (part.half() for part in range_between(lowest, highest))
    return _codes(compiled, exact, scale.float(), minimum.float(), feedback), scale, minimum


def round_rows(
    rows: Tensor, scale: Tensor, minimum: Tensor, feedback: Tensor | None = None, *, instructions: str | None = None
) -> Tensor:
    """The codes alone, where the ranges are known; compiled they are the same, bit for bit.

    Args:
        rows: (B, H, T, D), float32, finite.
        scale: The step between two codes, (B, H, T, groups), float32.
        minimum: What code 0 stands for, likewise.
        feedback: As for `pack_rows`.
        instructions: Likewise.

    Returns:
        Planar codes, uint8 (B, H, T, D / 4).
    """
    rows, scale, minimum = (part.detach().contiguous() for part in (rows, scale, minimum))
    return _codes(_compiled_for(rows, instructions), rows, scale, minimum, feedback)


def _compiled_for(rows: Tensor, instructions: str | None) -> Any:
    """The compiled steps, or `None` where they cannot serve."""
    if rows.device.type != "cpu" or choose_instructions(instructions) == Instructions.TORCH:
        return None
    return _compiled()


def _entries_kept(clip_ratio: float, channels: int) -> int:
    """How many entries reach the clipping threshold, itself included; 0 for no clipping."""
    return channels - min(int(clip_ratio * channels), channels - 1) if clip_ratio > 0 else 0


@cache
def _compiled() -> Any:
    """The compiled steps, or `None` where this release of numba cannot compile them."""
    from tokenomics_local_llm.kernels import compiled_packing

    one, grouped = np.ones((1, 4), np.float32), np.ones((1, 1), np.float32)
    packed = np.empty((1, 1), np.uint8)
    try:
        compiled_packing.clipped_ranges(one, 1, grouped.copy(), grouped.copy())
        compiled_packing.nearest_codes(one, grouped, grouped, packed)
        compiled_packing.sequential_codes(
            one, grouped, grouped, np.ones((1, 4, 4), np.float32), np.zeros(1, int), packed
        )
    except Exception as error:  # numba and llvmlite raise many kinds, none of them documented
        _LOGGER.warning("compiling the packing kernels failed, so that PyTorch serves, slower: %s", error)
        return None
    return compiled_packing


def _ranges(compiled: Any, rows: Tensor, kept: int, groups: int) -> tuple[Tensor, Tensor]:
    """Least and greatest entry of every group of the clipped rows, (..., groups)."""
    if compiled is None:
        clipped = _clipped(rows, kept).unflatten(-1, (groups, -1))
        return clipped.amin(-1), clipped.amax(-1)
    lowest, highest = (torch.empty(*rows.shape[:-1], groups) for _ in range(2))
    compiled.clipped_ranges(_flat(rows), kept, _flat(lowest), _flat(highest))
    return lowest, highest


def _clipped(rows: Tensor, kept: int) -> Tensor:
    if kept == 0:
        return rows
    limit = rows.abs().kthvalue(rows.shape[-1] - kept + 1, dim=-1, keepdim=True).values
    return rows.clamp(-limit, limit)


def _codes(compiled: Any, rows: Tensor, scale: Tensor, minimum: Tensor, feedback: Tensor | None) -> Tensor:
    if compiled is None:
        return _codes_in_torch(rows, scale, minimum, feedback)
    packed = torch.empty(*rows.shape[:-1], rows.shape[-1] // 4, dtype=torch.uint8)
    arguments = _flat(rows), _flat(scale), _flat(minimum)
    if feedback is None:
        compiled.nearest_codes(*arguments, _flat(packed))
    else:
        heads = torch.arange(rows.shape[1]) % feedback.shape[0]
        of_rows = heads[None, :, None].expand(rows.shape[:-1]).reshape(-1)
        compiled.sequential_codes(*arguments, feedback.float().contiguous().numpy(), of_rows.numpy(), _flat(packed))
    return packed


def _codes_in_torch(rows: Tensor, scale: Tensor, minimum: Tensor, feedback: Tensor | None) -> Tensor:
    size = rows.shape[-1] // scale.shape[-1]
    step, low = (part.repeat_interleave(size, -1) for part in (scale, minimum))
    codes = _nearest(rows, low, step) if feedback is None else _sequential(rows, low, step, feedback)
    first, second, third, fourth = codes.to(torch.uint8).unflatten(-1, (4, -1)).unbind(-2)
    return first | second << 2 | third << 4 | fourth << 6


def _nearest(rows: Tensor, low: Tensor, step: Tensor) -> Tensor:
    return ((rows - low) / step + 0.5).floor().clamp(0, _LEVELS)


def _sequential(rows: Tensor, low: Tensor, step: Tensor, feedback: Tensor) -> Tensor:
    feedback = feedback.to(rows.device)
    target, codes = rows.clone(), torch.empty_like(rows)
    for channel in range(rows.shape[-1]):
        code = _nearest(target[..., channel], low[..., channel], step[..., channel])
        codes[..., channel] = code
        error = low[..., channel] + code * step[..., channel] - rows[..., channel]
        target[..., channel + 1 :] -= error.unsqueeze(-1) * feedback[:, None, channel, channel + 1 :]
    return codes


def _flat(tensor: Tensor) -> np.ndarray[Any, Any]:
    """(..., last) as a matrix of the same memory."""
    flat: np.ndarray[Any, Any] = tensor.view(-1, tensor.shape[-1]).numpy()
    return flat

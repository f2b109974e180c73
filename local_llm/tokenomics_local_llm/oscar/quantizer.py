"""Rows of a rotated head to 2-bit codes: the reference that every kernel is compared with.

A row is one token of one head. The largest entries are clipped, each group gets a minimum and a step, kept in float16,
and the codes are chosen against these stored numbers, not against finer ones that no reader will have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tokenomics_local_llm.oscar.packing import PackedTokens, pack_codes

__all__ = ["QuantizerRecipe", "Refit", "clip_threshold", "feedback_of_metric", "quantize"]

Refit = Literal["none", "least_squares", "unbiased"]
_LEVELS = 3
_SMALLEST_STEP = 2.0**-24  # float16's smallest number: a constant row keeps a step that can be divided by


@dataclass(frozen=True, kw_only=True)
class QuantizerRecipe:
    """How the rows of one side, keys or values, become codes."""

    clip_ratio: float = 0.96
    """The share of a row's entries that clipping leaves alone; 0 clips nothing."""
    group_size: int | None = None
    """Channels that share one scale and one minimum; `None` is the whole head."""
    centred: bool = True
    """Whether the mean over the calibration text is subtracted first; costs the reader nothing."""
    refit: Refit = "none"
    """What becomes of scale and minimum once the codes are chosen.

    `least_squares` gives the smallest squared error and shrinks what is stored towards the row's mean; `unbiased`
    stretches it so that the stored row has the row's own component along itself, which averages out better.
    """
    damping: float | None = None
    """Rounds channel after channel, each answering for the errors before it, in the metric of what reads the row; the
    metric is damped by this share of its mean diagonal. `None` rounds each channel to the nearest code."""

    def __post_init__(self) -> None:
        if not 0 <= self.clip_ratio <= 1:
            raise ValueError(f"clip_ratio must lie between 0 and 1, got {self.clip_ratio}")
        if self.damping is not None and self.damping <= 0:
            raise ValueError(f"damping must be above 0, or None to round to the nearest code, got {self.damping}")


def quantize(rows: Tensor, recipe: QuantizerRecipe, *, feedback: Tensor | None = None) -> PackedTokens:
    """Rotated, centred rows to codes.

    Args:
        rows: (B, H, T, D), floating.
        recipe: Clip, groups and refit.
        feedback: What `feedback_of_metric` returns, (H or 1, D, D); `None` rounds to the nearest code.

    Raises:
        ValueError: If the group size does not divide D.
    """
    rows = rows.float()
    groups = _groups(rows.shape[-1], recipe.group_size)
    limit = clip_threshold(rows, recipe.clip_ratio)
    clipped = torch.minimum(torch.maximum(rows, -limit), limit)
    minimum, scale = _stored_range(clipped.unflatten(-1, (groups, -1)))
    codes = _codes(rows, minimum, scale, feedback)
    if recipe.refit != "none":
        minimum, scale = _refit(rows.unflatten(-1, (groups, -1)), codes, minimum, scale, recipe.refit)
    return PackedTokens(codes=pack_codes(codes), scale=scale.squeeze(-1), minimum=minimum.squeeze(-1))


def clip_threshold(rows: Tensor, clip_ratio: float) -> Tensor:
    """The size beyond which entries of each row are clipped, (..., 1): infinite when nothing is.

    The entry of rank floor(clip_ratio * D) in ascending order of size, exactly as OSCAR sorts it in prefill; its
    bisection in decode is a little tighter.
    """
    if clip_ratio <= 0:
        return torch.full_like(rows[..., :1], torch.inf)
    channels = rows.shape[-1]
    rank = min(int(clip_ratio * channels), channels - 1)
    return rows.abs().kthvalue(rank + 1, dim=-1, keepdim=True).values


def feedback_of_metric(metric: Tensor, damping: float) -> Tensor:
    """What each channel's rounding error adds to the channels after it.

    The error e of a row costs e M e^T. With M = F D F^T, F unit upper triangular, that is the sum of D_j (e F)_j^2,
    so channel j is best rounded after adding the earlier errors times F's column j (the rounding of GPTQ and LDLQ).

    Args:
        metric: M, (..., D, D), positive semidefinite.
        damping: Added to the diagonal, as a share of its mean.

    Returns:
        The part of F above the diagonal, (..., D, D), float32.
    """
    exact = metric.double()
    size = exact.shape[-1]
    level = exact.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    damped = exact + damping * level * torch.eye(size, dtype=torch.float64, device=metric.device)
    lower = torch.linalg.cholesky(damped.flip(-1, -2)).flip(-1, -2)  # upper triangular: damped = lower @ lower^T
    unit = lower / lower.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
    return unit.triu(1).float()


def _groups(channels: int, group_size: int | None) -> int:
    size = group_size or channels
    if channels % size:
        raise ValueError(f"group_size must divide the head size, got group_size={size} and head size {channels}")
    return channels // size


def _stored_range(clipped: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum and step of each group as float16, (..., G, 1)."""
    low, high = clipped.aminmax(dim=-1, keepdim=True)
    return low.half(), ((high - low) / _LEVELS).clamp_min(_SMALLEST_STEP).half()


def _codes(rows: Tensor, minimum: Tensor, scale: Tensor, feedback: Tensor | None) -> Tensor:
    channels = rows.shape[-1]
    width = channels // scale.shape[-2]
    low, step = (part.float().expand(*part.shape[:-1], width).flatten(-2) for part in (minimum, scale))
    if feedback is None:
        return _nearest(rows, low, step)
    return _sequential(rows, low, step, feedback.to(rows.device))


def _nearest(rows: Tensor, low: Tensor, step: Tensor) -> Tensor:
    return ((rows - low) / step + 0.5).floor_().clamp_(0, _LEVELS).to(torch.uint8)


def _sequential(rows: Tensor, low: Tensor, step: Tensor, feedback: Tensor) -> Tensor:
    codes = torch.empty(rows.shape, dtype=torch.uint8, device=rows.device)
    target = rows.clone()
    for channel in range(rows.shape[-1]):
        wanted, floor, width = (part[..., channel] for part in (target, low, step))
        code = _nearest(wanted, floor, width)
        codes[..., channel] = code
        error = floor + code * width - rows[..., channel]
        target[..., channel + 1 :] -= error.unsqueeze(-1) * feedback[:, None, channel, channel + 1 :]
    return codes


def _refit(rows: Tensor, codes: Tensor, minimum: Tensor, scale: Tensor, refit: Refit) -> tuple[Tensor, Tensor]:
    """Scale and minimum anew from rows (..., G, D / G) and their codes; a group of one code alone keeps its own."""
    grouped = codes.unflatten(-1, (rows.shape[-2], -1)).float()
    row_mean, code_mean = rows.mean(-1, keepdim=True), grouped.mean(-1, keepdim=True)
    row_part, code_part = rows - row_mean, grouped - code_mean
    both = (row_part * code_part).sum(-1, keepdim=True)
    if refit == "least_squares":
        fitted = both / code_part.square().sum(-1, keepdim=True)
    else:
        fitted = row_part.square().sum(-1, keepdim=True) / both
    usable = torch.isfinite(fitted) & (fitted > _SMALLEST_STEP)
    fitted = torch.where(usable, fitted, scale.float())
    return torch.where(usable, row_mean - fitted * code_mean, minimum.float()).half(), fitted.half()

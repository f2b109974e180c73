"""Rows of a rotated head to 2-bit codes: the reference that every kernel is compared with.

A row is one token of one head. First each group gets a range, a minimum and a step in float16; then the codes are
chosen; then the range may be fitted to them, and is scaled. The last step matters more than it looks: codes of least
error shrink a row by some percent, and while other errors average out over many tokens, what is shrunk stays shrunk, so
that logits of a long history lose what they had over those of the windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from tokenomics_local_llm.kernels import SMALLEST_STEP, fitted_range, range_between, round_rows, searched_range
from tokenomics_local_llm.oscar.packing import PackedTokens, unpack_codes

__all__ = ["QuantizerRecipe", "clip_threshold", "feedback_of_metric", "groups_of", "quantize"]

_PLAUSIBLE_LOSS: Final = (0.8, 1.25)  # a row may be all but orthogonal to what is stored of it


@dataclass(frozen=True, kw_only=True)
class QuantizerRecipe:
    """How the rows of one side, keys or values, become codes."""

    clip_ratio: float | None = None
    """The share of a row's entries that clipping leaves alone, as OSCAR does it: the range is what is left then, and 0
    clips nothing. `None` searches for the range of least squared error instead."""
    refit: bool = False
    """Whether minimum and step are fitted once more, by least squares, to the codes that were chosen. Off by default:
    a searched range is fitted already, and codes rounded in a metric are not those of least squared error."""
    stretch: float = 1.0
    """How much of what rounding took from a row's component along itself, in the metric of what reads it, scaling the
    range gives back: 0 nothing, 1 all."""
    group_size: int | None = None
    """Channels that share one scale and one minimum; `None` is the whole head."""
    centred: bool = True
    """Whether the mean over the calibration text is subtracted first; costs the reader nothing."""
    damping: float | None = 0.1
    """Rounds channel after channel, each answering for the errors before it, in the metric of what reads the row; the
    metric is damped by this share of its mean diagonal. `None` rounds each channel to the nearest code."""

    def __post_init__(self) -> None:
        if self.clip_ratio is not None and not 0 <= self.clip_ratio <= 1:
            raise ValueError(f"clip_ratio must lie between 0 and 1, or be None, got {self.clip_ratio}")
        if self.damping is not None and self.damping <= 0:
            raise ValueError(f"damping must be above 0, or None to round to the nearest code, got {self.damping}")

    @classmethod
    def as_published(cls, clip_ratio: float) -> QuantizerRecipe:
        """OSCAR's own: clipped, not centred, each channel to the nearest code."""
        return cls(clip_ratio=clip_ratio, stretch=0.0, centred=False, damping=None)


def quantize(
    rows: Tensor, recipe: QuantizerRecipe, *, feedback: Tensor | None = None, metric: Tensor | None = None
) -> PackedTokens:
    """Rotated, centred rows to codes.

    Args:
        rows: (B, H, T, D), floating.
        recipe: Range and groups.
        feedback: What `feedback_of_metric` returns, (H or 1, D, D); `None` rounds to the nearest code.
        metric: In which a row's component along itself is taken, (H or 1, D, D); `None` is that of plain squares.

    Raises:
        ValueError: If the group size does not divide D.
    """
    rows = rows.float()
    grouped = rows.reshape(*rows.shape[:-1], groups_of(rows.shape[-1], recipe.group_size), -1)
    if recipe.clip_ratio is None:
        minimum, step = searched_range(grouped)
    else:
        limit = clip_threshold(rows, recipe.clip_ratio).unsqueeze(-1)
        minimum, step = range_between(
            *torch.minimum(torch.maximum(grouped, -limit), limit).aminmax(dim=-1, keepdim=True)
        )
    minimum, step = minimum.half(), step.clamp_min(SMALLEST_STEP).half()
    packed = round_rows(rows, step.float().squeeze(-1), minimum.float().squeeze(-1), feedback)
    codes = unpack_codes(packed).float().view_as(grouped)
    if recipe.refit:
        minimum, step = (part.half() for part in fitted_range(grouped, codes, minimum.float(), step.float()))
    if recipe.stretch:
        stored = (minimum.float() + step.float() * codes).flatten(-2)
        factor = 1 + recipe.stretch * (_loss(rows, stored, metric)[..., None, None] - 1)
        minimum, step = (minimum.float() * factor).half(), (step.float() * factor).clamp_min(SMALLEST_STEP).half()
    return PackedTokens(codes=packed, scale=step.squeeze(-1), minimum=minimum.squeeze(-1))


def clip_threshold(rows: Tensor, clip_ratio: float) -> Tensor:
    """The size beyond which entries of each row are clipped, (..., 1): infinite when nothing is.

    The entry of rank floor(clip_ratio * D) in ascending order of size, exactly as OSCAR sorts it in prefill; its
    bisection in decode is a little tighter.
    """
    if clip_ratio <= 0:
        return torch.full_like(rows[..., :1], torch.inf)
    channels = rows.shape[-1]
    rank = min(int(clip_ratio * channels), channels - 1)
    threshold: Tensor = rows.abs().kthvalue(rank + 1, dim=-1, keepdim=True).values
    return threshold


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
    upper = torch.linalg.cholesky(damped.flip(-1, -2)).flip(-1, -2)
    unit = upper / upper.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
    strict: Tensor = unit.triu(1).float()
    return strict


def groups_of(channels: int, group_size: int | None) -> int:
    """Scales of a head.

    Raises:
        ValueError: If the group size does not divide the head size.
    """
    size = group_size or channels
    if channels % size:
        raise ValueError(f"group_size must divide the head size, got group_size={size} and head size {channels}")
    return channels // size


def _loss(rows: Tensor, stored: Tensor, metric: Tensor | None) -> Tensor:
    """A row's size over its stored form's component along it, (B, H, T)."""
    weighed = rows if metric is None else rows @ metric.to(rows.device)
    loss = (weighed * rows).sum(-1) / (weighed * stored).sum(-1)
    return torch.where(torch.isfinite(loss), loss, 1.0).clamp(*_PLAUSIBLE_LOSS)

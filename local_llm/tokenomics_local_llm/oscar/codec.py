"""Keys or values of one layer to codes and back: centre, rotate, quantise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from tokenomics_local_llm.kernels import Turn
from tokenomics_local_llm.oscar.packing import PackedTokens, dequantize
from tokenomics_local_llm.oscar.quantizer import QuantizerRecipe, feedback_of_metric, groups_of, quantize
from tokenomics_local_llm.oscar.transform import SideTransform

__all__ = ["SideCodec"]


class SideCodec:
    """One side of one layer.

    Rotations are applied in float64. How a matrix product rounds depends on how many rows it has, and a code must not
    depend on how many tokens arrived together: in float64 that difference is far below what decides a code.

    Args:
        transform: Rotation, mean and metric.
        recipe: Clip, groups and rounding.

    Raises:
        ValueError: If the recipe rounds in a metric that the transform does not have.
    """

    def __init__(self, transform: SideTransform, recipe: QuantizerRecipe) -> None:
        if transform.clip_ratio is not None:
            recipe = replace(recipe, clip_ratio=float(transform.clip_ratio))
        self._exact = transform.rotation.double()
        self._back = transform.back.float()
        self._exact_mean = transform.mean.double() if recipe.centred and transform.mean is not None else None
        self._recipe = recipe
        self._metric = None if transform.metric is None else transform.metric.float()
        self._feedback = _feedback(transform, recipe)
        self.rotation = transform.rotation.float()
        """What keys or values are multiplied by, (H or 1, D, D), float32."""
        self.mean = None if self._exact_mean is None else self._exact_mean.float()
        """What is subtracted before the rotation, (H, D), float32."""

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.rotation.shape[-1]

    @property
    def groups(self) -> int:
        """Scales a head."""
        return groups_of(self.head_dim, self._recipe.group_size)

    @cached_property
    def turn(self) -> Turn | None:
        """What attention over codes alone has to undo; `None` is nothing, as of values whose rotation was folded."""
        unit = torch.eye(self.head_dim, device=self._back.device)
        if self.mean is None and torch.equal(self._back, unit.expand_as(self._back)):
            return None
        return Turn(rotation=self._back.mT, mean=self.mean)

    def to(self, device: torch.device) -> None:
        """Move what is multiplied with."""
        self._exact, self._back, self.rotation = (part.to(device) for part in (self._exact, self._back, self.rotation))
        if self._exact_mean is not None and self.mean is not None:
            self._exact_mean, self.mean = self._exact_mean.to(device), self.mean.to(device)
        if self._metric is not None:
            self._metric = self._metric.to(device)
        if self._feedback is not None:
            self._feedback = self._feedback.to(device)

    def identify(self, feed: Callable[[bytes], None]) -> None:
        """What decides a code."""
        for part in (self._exact, self._exact_mean, self._metric, self._feedback):
            feed(b"" if part is None else part.cpu().numpy().tobytes())
        feed(repr(self._recipe).encode())

    def encode(self, rows: Tensor) -> PackedTokens:
        """Codes of (B, H, T, D)."""
        exact = rows.double()
        if self._exact_mean is not None:
            exact = exact - self._exact_mean[:, None]
        return quantize(exact @ self._exact, self._recipe, feedback=self._feedback, metric=self._metric)

    def decode(self, packed: PackedTokens) -> Tensor:
        """What codes stand for, turned back and with the mean added, (B, H, T, D), float32."""
        restored = self.turn_back(dequantize(packed))
        return restored if self.mean is None else restored + self.mean[:, None]

    def turn_query(self, query: Tensor) -> Tensor:
        """What a query (B, Hq, N, D) has to be to meet turned keys with the same product; float32."""
        return _by_head(query.float(), self._back.mT)

    def turn_back(self, rows: Tensor) -> Tensor:
        """Turned values, or sums of them over the query heads that share a head, as they were; float32."""
        return _by_head(rows.float(), self._back)


def _by_head(rows: Tensor, matrix: Tensor) -> Tensor:
    batch, query_heads, tokens, channels = rows.shape
    grouped = rows.reshape(batch, matrix.shape[0], query_heads // matrix.shape[0], tokens, channels)
    return (grouped @ matrix[:, None]).reshape(batch, query_heads, tokens, channels)


def _feedback(transform: SideTransform, recipe: QuantizerRecipe) -> Tensor | None:
    if recipe.damping is None:
        return None
    if transform.metric is None:
        raise ValueError(
            f"damping={recipe.damping} rounds in the metric of what reads the row, and this calibration has none: "
            "calibrate anew, or set damping=None"
        )
    return feedback_of_metric(transform.metric, recipe.damping)

"""Keys or values of one layer to codes and back: centre, rotate, quantise."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenomics_local_llm.oscar.packing import PackedTokens, dequantize
from tokenomics_local_llm.oscar.quantizer import QuantizerRecipe, feedback_of_metric, quantize
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
        self.rotation = transform.rotation.double()
        self.mean = transform.mean.double() if recipe.centred and transform.mean is not None else None
        self._recipe = recipe
        self._feedback = _feedback(transform, recipe)

    def encode(self, rows: Tensor) -> PackedTokens:
        """Codes of (B, H, T, D)."""
        exact = rows.double()
        if self.mean is not None:
            exact = exact - self.mean.to(rows.device)[:, None]
        return quantize(exact @ self.rotation.to(rows.device), self._recipe, feedback=self._feedback)

    def decode(self, packed: PackedTokens) -> Tensor:
        """What codes stand for, turned back and with the mean added, (B, H, T, D), float32."""
        rows = dequantize(packed)
        restored = rows @ self.rotation.to(rows.device, torch.float32).mT
        return restored if self.mean is None else restored + self.mean.to(rows.device, torch.float32)[:, None]


def _feedback(transform: SideTransform, recipe: QuantizerRecipe) -> Tensor | None:
    if recipe.damping is None:
        return None
    if transform.metric is None:
        raise ValueError(
            f"damping={recipe.damping} rounds in the metric of what reads the row, and this calibration has none: "
            "calibrate anew, or set damping=None"
        )
    return feedback_of_metric(transform.metric, recipe.damping)

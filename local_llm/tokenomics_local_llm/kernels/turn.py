"""What was done to keys or values before they were packed, so that attention can undo it on the few rows it returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Turn"]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Packed rows are (row - mean) times the inverse of the rotation's transpose, by head: itself, if orthogonal."""

    rotation: Tensor
    """What queries are multiplied by, and weighted means of values by its transpose; (H, D, D) or (1, D, D) for all
    heads, float32."""
    mean: Tensor | None = None
    """(H, D), float32; nothing was subtracted by default."""

    def of_query(self, query: Tensor) -> tuple[Tensor, Tensor | float]:
        """Queries (B, H, g, D) turned as keys were, and what the mean adds to their scores, (B, H, g)."""
        shift = 0.0 if self.mean is None else (query * self.mean[:, None]).sum(-1)
        return query @ self.rotation, shift

    def back(self, rows: Tensor) -> Tensor:
        """Weighted means of values (B, H, g, D) as if nothing had been done to the values."""
        restored = rows @ self.rotation.mT
        return restored if self.mean is None else restored + self.mean[:, None]

    @cached_property
    def arrays(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Rotation (H or 1, D * D) and mean (H or 1, D) as the compiled kernels take them, float32."""
        rotation = self.rotation.float().contiguous().flatten(1)
        mean = torch.zeros(1, self.rotation.shape[-1]) if self.mean is None else self.mean.float().contiguous()
        return rotation.numpy(), mean.numpy()

"""What calibration leaves behind: each layer's transforms, means and metrics of keys and of values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenomics_local_llm.oscar.rotation import hadamard

__all__ = ["Rotations", "SideTransform"]


@dataclass(frozen=True, kw_only=True)
class SideTransform:
    """How one layer's keys, or its values, are turned before they are quantised; one entry a head, or one for all."""

    rotation: Tensor
    """(H or 1, D, D), float32, applied from the right."""
    eigenvalues: Tensor
    """Of the moment that the rotation diagonalises, (H or 1, D), ascending; ones where it diagonalises none."""
    inverse: Tensor | None = None
    """Of the rotation, (H or 1, D, D), where that is not orthogonal; `None` is its transpose."""
    mean: Tensor | None = None
    """Subtracted before the rotation, (H, D); `None` subtracts nothing."""
    metric: Tensor | None = None
    """What an error costs once it is rotated, (H or 1, D, D); `None` is unknown."""
    clip_ratio: Tensor | None = None
    """The recipe's for this layer, (), as `choose_clips` chose it; `None` leaves it to the recipe."""

    @property
    def back(self) -> Tensor:
        """What undoes the rotation, applied from the right."""
        return self.rotation.mT if self.inverse is None else self.inverse

    @property
    def unturned_metric(self) -> Tensor | None:
        """What an error costs before it is rotated, (H or 1, D, D); `None` is unknown."""
        return None if self.metric is None else self.rotation @ self.metric @ self.rotation.mT

    @classmethod
    def plain(cls, head_dim: int, *, rotate: bool = True) -> SideTransform:
        """A Hadamard rotation, or none at all, without any calibration."""
        rotation = hadamard(head_dim) if rotate else torch.eye(head_dim)
        return cls(rotation=rotation.float()[None], eigenvalues=torch.ones(1, head_dim))


@dataclass(frozen=True, kw_only=True)
class Rotations:
    """The transforms of every layer that is to be quantised, by the layer's index in the model."""

    keys: dict[int, SideTransform]
    """Of keys after position encoding."""
    values: dict[int, SideTransform]
    """Of values."""

    @classmethod
    def plain(cls, layers: int, head_dim: int, *, rotate: bool = True) -> Rotations:
        """A Hadamard rotation for every layer, or none, without any calibration."""
        side = SideTransform.plain(head_dim, rotate=rotate)
        return cls(keys=dict.fromkeys(range(layers), side), values=dict.fromkeys(range(layers), side))

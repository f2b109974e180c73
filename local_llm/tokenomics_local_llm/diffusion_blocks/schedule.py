"""Which block owns which noise level, and how noise levels are drawn (DiffusionBlocks, arXiv 2506.14202, section 3).

Blocks are numbered in the order of the layers: block 0 comes first and owns the highest noise. One function,
`NoiseSchedule.block_of`, says whose a noise level is, for training, evaluation and sampling alike: two functions that
are each right can be composed into a mapping that is upside down.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor

__all__ = ["NoiseSchedule"]

_STANDARD_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The range of noise, its distribution, and its partition among blocks; defaults are the paper's.

    Raises:
        ValueError: If there is no block, the range is empty or the overlap is negative.
    """

    blocks: int
    """Blocks that share the range."""
    spacing: Literal["equal_probability", "log_uniform"] = "equal_probability"
    """Bands of the same probability, or of the same ratio between their ends."""
    overlap: float = 0.05
    """gamma: a block is also trained on its neighbours' noise, by its band's ratio to this power; 0.1 for text."""
    sigma_min: float = 0.002
    """The lowest noise level."""
    sigma_max: float = 80.0
    """The highest noise level."""
    P_mean: float = -1.2
    """Mean of ln sigma (Karras et al. 2022, arXiv 2206.00364)."""
    P_std: float = 1.2
    """Standard deviation of ln sigma."""

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise ValueError(f"blocks must be 1 or more, got {self.blocks}")
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"0 < sigma_min < sigma_max must hold, got {self.sigma_min} and {self.sigma_max}")
        if self.overlap < 0:
            raise ValueError(f"overlap must be 0 (none) or more, got {self.overlap}")

    @cached_property
    def edges(self) -> tuple[float, ...]:
        """The ends of the bands, descending: block b owns what lies between edge b + 1 and edge b."""
        shares = [index / self.blocks for index in range(self.blocks + 1)]
        inner = [self._at(share) for share in shares[1:-1]]
        return (self.sigma_max, *inner, self.sigma_min)

    def band(self, block: int) -> tuple[float, float]:
        """The lowest and the highest noise level that a block owns."""
        self._check(block)
        return self.edges[block + 1], self.edges[block]

    def training_band(self, block: int) -> tuple[float, float]:
        """The band with its overlap, within the schedule's range."""
        low, high = self.band(block)
        widening = (high / low) ** self.overlap
        return max(low / widening, self.sigma_min), min(high * widening, self.sigma_max)

    def block_of(self, sigma: float) -> int:
        """The one block that owns a noise level; what lies beyond the range belongs to the nearest.

        Raises:
            ValueError: If `sigma` is not a positive number.
        """
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be a positive number, got {sigma}")
        ascending = self.edges[-2:0:-1]
        return self.blocks - 1 - bisect_left(ascending, sigma)

    def sample(self, block: int, count: int, *, generator: torch.Generator) -> Tensor:
        """Noise levels to train a block with, log-normal within its widened band.

        Returns:
            (count,) float32 on the CPU.
        """
        low, high = self.training_band(block)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        quantiles = self._cdf(low) + uniform * (self._cdf(high) - self._cdf(low))
        sigma = torch.exp(self.P_mean + self.P_std * torch.special.ndtri(quantiles))
        return sigma.clamp(low, high).float()

    def grid(self, points: int) -> list[float]:
        """Noise levels to sample at, descending, equally probable apart, both ends included.

        With as many points as blocks, each block of equal probability is met once.

        Raises:
            ValueError: If there are fewer than 2 points for 2 or more blocks, or none.
        """
        if points < min(2, self.blocks):
            raise ValueError(f"points must be {min(2, self.blocks)} or more, got {points}")
        if points == 1:
            return [self.sigma_max]
        inner = [self._quantile(1 - index / (points - 1)) for index in range(1, points - 1)]
        return [self.sigma_max, *inner, self.sigma_min]

    def _at(self, share: float) -> float:
        if self.spacing == "log_uniform":
            return math.exp((1 - share) * math.log(self.sigma_max) + share * math.log(self.sigma_min))
        return self._quantile(1 - share)

    def _quantile(self, share: float) -> float:
        """The noise level below which this share of the truncated distribution lies."""
        low, high = self._cdf(self.sigma_min), self._cdf(self.sigma_max)
        return math.exp(self.P_mean + self.P_std * _STANDARD_NORMAL.inv_cdf(low + share * (high - low)))

    def _cdf(self, sigma: float) -> float:
        return _STANDARD_NORMAL.cdf((math.log(sigma) - self.P_mean) / self.P_std)

    def _check(self, block: int) -> None:
        if not 0 <= block < self.blocks:
            raise ValueError(f"block must be 0 to {self.blocks - 1}, got {block}")

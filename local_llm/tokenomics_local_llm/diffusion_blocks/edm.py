"""The algebra of one denoising step: preconditioning, weights, Euler's step, and the way from logits to a vector.

Noise is added as z = y + sigma * noise (variance exploding; Karras et al. 2022, arXiv 2206.00364), and the probability
flow moves z along dz / dsigma = (z - D(z)) / sigma. DiffusionBlocks (arXiv 2506.14202) prints Euler's step with the
opposite sign, which adds noise; its code, and `euler_step`, remove it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "SIGMA_DATA",
    "Bridge",
    "Preconditioning",
    "add_noise",
    "denoised_vector",
    "euler_step",
    "loss_weight",
    "precondition",
    "walk",
    "weighted_mean",
]

SIGMA_DATA = 0.5
"""The paper's for every task, vectors of length 1 included."""

Bridge = Literal["soft", "hard", "sample"]
"""How a distribution over classes becomes a vector: its mean, its mode's row, or a drawn row."""


class Preconditioning(NamedTuple):
    """Karras et al., table 1: D(z) = c_skip * z + c_out * F(c_in * z, c_noise)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def precondition(sigma: Tensor, *, sigma_data: float = SIGMA_DATA) -> Preconditioning:
    """The coefficients at these noise levels, each of the shape of `sigma`."""
    total = sigma.square() + sigma_data**2
    return Preconditioning(
        c_skip=sigma_data**2 / total,
        c_out=sigma * sigma_data * total.rsqrt(),
        c_in=total.rsqrt(),
        c_noise=sigma.log() / 4,
    )


def loss_weight(sigma: Tensor, *, sigma_data: float = SIGMA_DATA) -> Tensor:
    """1 / c_out^2: what makes every noise level's squared error start alike."""
    return (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of weighted losses, one weight a sample.

    Raises:
        ValueError: If the shapes differ: (N,) times (N, 1) would multiply every loss with every weight, and
            leave the losses as good as unweighted.
    """
    if losses.shape != weights.shape:
        raise ValueError(
            f"each loss needs one weight, got shapes {tuple(losses.shape)} and {tuple(weights.shape)}: reshape one"
        )
    return (losses * weights).mean()


def add_noise(clean: Tensor, sigma: Tensor, *, generator: torch.Generator) -> Tensor:
    """Noisy vectors: clean + sigma * noise, from the CPU's stream; `sigma` has the leading dimensions of `clean`."""
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float32).to(clean.device)
    return clean + _spread(sigma, clean) * noise


def euler_step(z: Tensor, denoised: Tensor, sigma: float, next_sigma: float) -> Tensor:
    """Move z from one noise level to the next: the convex blend of z and the estimate of what is clean."""
    kept = next_sigma / sigma
    return kept * z + (1 - kept) * denoised


def walk(z: Tensor, sigmas: Sequence[float], denoise: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Euler's steps down a grid (Karras et al., algorithm 1 without its correction), to z at the last noise level."""
    for sigma, next_sigma in pairwise(sigmas):
        z = euler_step(z, denoise(z, sigma), sigma, next_sigma)
    return z


def denoised_vector(
    logits: Tensor, targets: Tensor, *, bridge: Bridge = "soft", generator: torch.Generator | None = None
) -> Tensor:
    """The estimate of the clean vector that a distribution over classes stands for.

    Args:
        logits: (..., V).
        targets: The rows that noise was added to in training, (V, D): of length 1, as there.
        bridge: How.
        generator: What "sample" draws from.

    Returns:
        (..., D).
    """
    if bridge == "soft":
        return torch.softmax(logits, dim=-1) @ targets
    if bridge == "hard":
        return targets[logits.argmax(dim=-1)]
    flat = torch.softmax(logits, dim=-1).reshape(-1, logits.shape[-1])
    drawn = torch.multinomial(flat.cpu(), 1, generator=generator).to(logits.device)
    return targets[drawn.reshape(logits.shape[:-1])]


def _spread(sigma: Tensor, like: Tensor) -> Tensor:
    return sigma.to(like.device).reshape(*sigma.shape, *(1,) * (like.ndim - sigma.ndim))

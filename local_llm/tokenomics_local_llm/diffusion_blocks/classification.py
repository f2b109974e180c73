"""Image classification with DiffusionBlocks: the noised variable is the vector of the class.

Each block is a vision transformer that reads the patches anew, with z as one more row behind them, as in the paper. The
released code puts z where the class token was, so that noise stays in the row that is read out, which learns more
slowly. Its sampler also takes the mean of rows that are not of length 1, though training adds noise to rows that are;
here both take the same rows.

Three more departures, each of which an arm of `benchmarks/diffusion_blocks.py` prices. The layers start plain (gates
of 1), not as the identity, because all rows but one are clean. The classifier does not start at zero (see `Head`). And
a walk starts from the mean of the noise, not from a draw: at the next level a draw's rest is as loud as what the first
block said, and a later block, which learned to read the class off z, follows it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenomics_local_llm.diffusion_blocks.edm import (
    SIGMA_DATA,
    Bridge,
    add_noise,
    denoised_vector,
    precondition,
    walk,
)
from tokenomics_local_llm.diffusion_blocks.layers import Head, NoiseEmbedding, TransformerLayer, fixed_targets
from tokenomics_local_llm.diffusion_blocks.stack import Batch, Stack

__all__ = ["ClassDenoiser", "classify"]


class ClassDenoiser(nn.Module):
    """One block: p(class | image, noisy vector of the class).

    Args:
        image_size: Of the square images.
        channels: Of the images.
        patch: Side of a patch; divides the size.
        classes: How many there are.
        width: Of the residual stream and of the vectors of classes.
        layers: Of this block.
        heads: Of attention.
    """

    targets: Tensor

    def __init__(
        self, *, image_size: int, channels: int = 1, patch: int, classes: int, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        condition = max(width // 6, 16)  # the released code's ratio
        self.patches = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(torch.randn((image_size // patch) ** 2, width) * 0.02)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.noise_embedding = NoiseEmbedding(condition)
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, condition_width=condition, gate=1.0) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = Head(width, classes, condition_width=condition)
        self.register_buffer("targets", fixed_targets(classes, width))

    def forward(self, images: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
        """Images (B, C, S, S), z (B, width), sigma (B,); returns logits (B, classes)."""
        c_skip, c_out, c_in, c_noise = (coefficient[:, None] for coefficient in precondition(sigma))
        condition = self.noise_embedding(c_noise)  # (B, 1, condition)
        patches = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        token = self.token.expand(len(images), 1, -1)
        x = torch.cat([token, patches, (c_in * z)[:, None]], dim=1)  # (B, 1 + patches + 1, width)
        for layer in self.layers:
            x, _ = layer(x, condition)
        estimate = c_skip * z + c_out * self.norm(x[:, 0])
        logits: Tensor = self.head(estimate, condition[:, 0])
        return logits

    def sigma_shape(self, batch: Batch) -> tuple[int, ...]:
        """One noise level an image."""
        return (len(batch[0]),)

    def losses(self, batch: Batch, sigma: Tensor, *, generator: torch.Generator) -> Tensor:
        """Cross-entropy of (images, labels), (B,)."""
        images, labels = batch
        z = add_noise(self.targets[labels], sigma, generator=generator)
        return nn.functional.cross_entropy(self(images, z, sigma), labels, reduction="none")

    def loss_weights(self, sigma: Tensor) -> Tensor:
        """None: the weight for squared errors makes cross-entropy worse, and reaches 250,000 at the lowest noise."""
        return torch.ones_like(sigma)


@torch.no_grad()
def classify(
    stack: Stack[ClassDenoiser],
    images: Tensor,
    *,
    generator: torch.Generator | None = None,
    points: int | None = None,
    bridge: Bridge = "soft",
) -> Tensor:
    """Logits of the classes, (B, classes), after a walk down the noise levels.

    Args:
        stack: The blocks.
        images: (B, C, S, S).
        generator: Of the noise to start from, as in the released code; `None` to start from its mean, 0.
        points: Noise levels, each one evaluation of one block; `None` for one a block.
        bridge: From logits to a vector.
    """
    targets = stack.denoisers[0].targets
    sigmas = stack.schedule.grid(points or stack.schedule.blocks)

    def logits(z: Tensor, sigma: float) -> Tensor:
        of_classes: Tensor = stack.owner(sigma)(images, z, torch.full((len(images),), sigma))
        return of_classes

    def denoise(z: Tensor, sigma: float) -> Tensor:
        return denoised_vector(logits(z, sigma), targets, bridge=bridge, generator=generator)

    z = torch.zeros(len(images), targets.shape[1], device=images.device)
    if generator is not None:
        z = (sigmas[0] ** 2 + SIGMA_DATA**2) ** 0.5 * torch.randn(z.shape, generator=generator).to(z.device)
    return logits(walk(z, sigmas, denoise), sigmas[-1])

"""Image diffusion with DiffusionBlocks: a diffusion transformer whose layers are divided among noise levels.

The noised variable is the image itself, so the method is plain: only the block that owns the noise level runs, and a
sample costs a B-th of what it costs with all layers at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenomics_local_llm.diffusion_blocks.edm import add_noise, loss_weight, precondition, walk
from tokenomics_local_llm.diffusion_blocks.layers import NoiseEmbedding, TransformerLayer
from tokenomics_local_llm.diffusion_blocks.stack import Batch, Stack

__all__ = ["ImageDenoiser", "sample_images"]

_LABEL_DROPOUT = 0.1


class ImageDenoiser(nn.Module):
    """One block: the clean image, given a noisy one and its class.

    Args:
        image_size: Of the square images.
        channels: Of the images.
        patch: Side of a patch; divides the size.
        classes: How many there are.
        width: Of the residual stream.
        layers: Of this block.
        heads: Of attention.
    """

    def __init__(
        self, *, image_size: int, channels: int = 1, patch: int, classes: int, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        self.shape = (channels, image_size, image_size)
        self.classes = classes
        self.patches = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(torch.randn((image_size // patch) ** 2, width) * 0.02)
        self.noise_embedding = NoiseEmbedding(width)
        self.labels = nn.Embedding(classes + 1, width)  # the last stands for "any class"
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, condition_width=width, gate=0.0) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.ConvTranspose2d(width, channels, kernel_size=patch, stride=patch)
        nn.init.zeros_(self.pixels.weight)

    def forward(self, z: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Noisy images z (B, C, S, S), sigma and labels (B,); returns the estimate of the clean ones, (B, C, S, S)."""
        c_skip, c_out, c_in, c_noise = (coefficient[:, None, None, None] for coefficient in precondition(sigma))
        condition = self.noise_embedding(c_noise[:, :, 0, 0]) + self.labels(labels)[:, None]  # (B, 1, width)
        grid = self.patches(c_in * z)
        x = grid.flatten(2).transpose(1, 2) + self.positions  # (B, patches, width)
        for layer in self.layers:
            x, _ = layer(x, condition)
        network: Tensor = self.pixels(self.norm(x).transpose(1, 2).reshape(grid.shape))
        return c_skip * z + c_out * network

    def sigma_shape(self, batch: Batch) -> tuple[int, ...]:
        """One noise level an image."""
        return (len(batch[0]),)

    def losses(self, batch: Batch, sigma: Tensor, *, generator: torch.Generator) -> Tensor:
        """Squared errors of (images, labels), (B,); a tenth of the labels are dropped, for guidance."""
        images, labels = batch
        dropped = (torch.rand(len(labels), generator=generator) < _LABEL_DROPOUT).to(labels.device)
        z = add_noise(images, sigma, generator=generator)
        estimate = self(z, sigma, labels.where(~dropped, self.classes))
        errors: Tensor = (estimate - images).square().mean(dim=(1, 2, 3))
        return errors

    def loss_weights(self, sigma: Tensor) -> Tensor:
        """Karras et al.'s: every noise level starts alike."""
        return loss_weight(sigma)


@torch.no_grad()
def sample_images(
    stack: Stack[ImageDenoiser],
    labels: Tensor,
    *,
    generator: torch.Generator,
    points: int = 50,
    guidance: float = 1.0,
) -> Tensor:
    """Draw one image a label, (B, C, S, S).

    Args:
        stack: The blocks.
        labels: Of the classes to draw, (B,).
        generator: Of the noise to start from.
        points: Noise levels, each one evaluation of one block.
        guidance: Of the class (Ho & Salimans 2022, arXiv 2207.12598); 1 for none, else each step costs two.
    """
    sigmas = stack.schedule.grid(points)
    any_class = torch.full_like(labels, stack.denoisers[0].classes)

    def denoise(z: Tensor, sigma: float) -> Tensor:
        owner, level = stack.owner(sigma), torch.full((len(labels),), sigma)
        estimate: Tensor = owner(z, level, labels)
        if guidance == 1.0:
            return estimate
        unguided: Tensor = owner(z, level, any_class)
        return unguided + guidance * (estimate - unguided)

    z = sigmas[0] * torch.randn(len(labels), *stack.denoisers[0].shape, generator=generator)
    return denoise(walk(z, sigmas, denoise), sigmas[-1])

"""Ordinary networks of the same layers, trained end to end: what DiffusionBlocks is compared with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from tokenomics_local_llm.diffusion_blocks.layers import TransformerLayer, rotation
from tokenomics_local_llm.diffusion_blocks.stack import BlockTraining

__all__ = ["PlainClassifier", "PlainLanguageModel", "train_end_to_end"]


class PlainClassifier(nn.Module):
    """A vision transformer with a class token."""

    def __init__(self, *, image_size: int, patch: int, classes: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(torch.randn((image_size // patch) ** 2, width) * 0.02)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) to (B, classes)."""
        patches = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        x = torch.cat([self.token.expand(len(images), 1, -1), patches], dim=1)
        for layer in self.layers:
            x, _ = layer(x)
        return cast(Tensor, self.head(self.norm(x[:, 0])))

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of (images, labels)."""
        return nn.functional.cross_entropy(self(batch[0]), batch[1])


class PlainLanguageModel(nn.Module):
    """A causal transformer."""

    def __init__(self, *, vocabulary: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.head_size = width // heads
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the tokens after each, (B, T, vocabulary)."""
        length = tokens.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        x = self.embedding(tokens)
        for layer in self.layers:
            x, _ = layer(x, mask=mask, rotate=rotation(torch.arange(length), self.head_size))
        return cast(Tensor, self.head(self.norm(x)))

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of each token of (tokens,) but the first."""
        tokens = batch[0]
        return nn.functional.cross_entropy(self(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:])


def train_end_to_end(
    model: PlainClassifier | PlainLanguageModel,
    batches: Iterable[tuple[Tensor, ...]],
    settings: BlockTraining,
    *,
    steps: int,
) -> None:
    """Train all layers at once, with the optimizer and the rates that blocks are trained with."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=steps, pct_start=settings.warm_up, cycle_momentum=False
    )
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        model.loss(batch).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), settings.max_norm)
        optimizer.step()
        rate.step()

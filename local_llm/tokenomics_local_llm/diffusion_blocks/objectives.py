"""What a block of a pretrained model is trained for.

The exact loss goes through the ordinary forward pass: layers below the block save nothing, layers above are
differentiated through and keep their weights. The local loss stops at the block's end and reads it with a lens of its
own: less memory, and nothing keeps the blocks above from being upset, so the gate must judge it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from tokenomics_local_llm.diffusion_blocks.cross_entropy import chunked_cross_entropy
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.rows import Rows

__all__ = ["BlockLoss", "Lens", "Objective", "exact_loss", "fit_lens", "local_loss"]

Objective = Literal["exact", "local"]
BlockLoss = Callable[[Rows], Tensor]

_LENS_LEARNING_RATE = 1e-3


def exact_loss(partition: Partition, *, chunk_rows: int) -> BlockLoss:
    """Cross-entropy of the whole model."""

    def loss(rows: Rows) -> Tensor:
        rows = rows.to(partition.device)
        return chunked_cross_entropy(
            partition.hidden(rows.input_ids), rows.targets, partition.head, chunk_rows=chunk_rows
        )

    return loss


class Lens(nn.Module):
    """From what a block writes to what the final norm reads (Belrose et al. 2023, arXiv 2303.08112); starts as is."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        width = like.shape[-1]
        self.shift = nn.Linear(width, width, device=like.device, dtype=like.dtype)
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        moved: Tensor = hidden + self.shift(hidden)
        return moved


def local_loss(partition: Partition, block: int, lens: Lens, *, chunk_rows: int) -> BlockLoss:
    """Cross-entropy of what a block writes, read through a lens, the final norm and the head.

    Blocks are to be trained from the bottom up, each on what the tuned blocks below write: trained side by side, they
    made a model worse than it had been.
    """

    def loss(rows: Rows) -> Tensor:
        rows = rows.to(partition.device)
        hidden: Tensor = partition.norm(lens(partition.hidden_after(block, rows.input_ids)))
        return chunked_cross_entropy(hidden, rows.targets, partition.head, chunk_rows=chunk_rows)

    return loss


def fit_lens(partition: Partition, block: int, batches: list[Rows], *, chunk_rows: int) -> Lens:
    """A lens that reads the block as it is; the block keeps its weights, and the lens is frozen after."""
    partition.train_only(block)
    for parameter in partition.parameters(block).values():
        parameter.requires_grad_(False)
    lens = Lens(partition.hidden_after(block, batches[0].to(partition.device).input_ids[:1, :1]))
    optimizer = torch.optim.Adam(lens.parameters(), lr=_LENS_LEARNING_RATE)
    loss = local_loss(partition, block, lens, chunk_rows=chunk_rows)
    for rows in batches:
        optimizer.zero_grad(set_to_none=True)
        loss(rows).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return lens.requires_grad_(False)

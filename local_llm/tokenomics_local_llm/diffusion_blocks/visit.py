"""One visit to a block: some steps of AdamW on its parameters, all others frozen.

A visit depends on the model as it stands, the data and its own number, on nothing else: visits can be repeated after
a kill, or made by several workers at once, with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from tokenomics_local_llm.diffusion_blocks.objectives import BlockLoss, Objective, exact_loss, fit_lens, local_loss
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.randomness import seed_of
from tokenomics_local_llm.diffusion_blocks.rows import Rows
from tokenomics_local_llm.diffusion_blocks.shards import (
    load_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_tensors,
)

__all__ = ["FineTuning", "VisitResult", "train_visit"]


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How a model is fine-tuned block by block.

    Raises:
        ValueError: If a number that must be positive is not.
    """

    blocks: int = 6
    """Groups of neighbouring layers; one is trained at a time."""
    passes: int = 2
    """Times that every block is visited."""
    steps: int = 50
    """Updates a visit; BAdam (Luo et al. 2024, arXiv 2404.02827) takes 50 to 100."""
    batch_size: int = 8
    """Rows an update."""
    learning_rate: float = 3e-4
    """The highest; falls to a tenth along a cosine over all passes. A block takes more than a whole model does:
    SmolLM2-135M learned best at 3e-4 to 9e-4, and hardly at 1e-4."""
    warm_up_steps: int = 5
    """Updates at the start of a block's first visit in which the learning rate rises; later ones find AdamW warm."""
    weight_decay: float = 0.0
    """AdamW's."""
    max_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    objective: Objective = "exact"
    """The loss of the whole model, or one that stops at the block's end."""
    chunk_rows: int = 256
    """Tokens whose logits are in memory together."""
    checkpointing: bool = True
    """Compute layers twice, from the trained block on, and keep only what lies between them."""
    seed: int = 0
    """Of the order of the data, and of dropout."""

    def __post_init__(self) -> None:
        for name in ("blocks", "passes", "steps", "batch_size", "chunk_rows", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def visits(self) -> int:
        """Visits in all."""
        return self.blocks * self.passes

    def rate(self, share: float, step: int) -> float:
        """The learning rate when this share of the run is over, at a step of a visit."""
        cosine = 0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2
        return self.learning_rate * cosine * min(1.0, (step + 1) / (self.warm_up_steps + 1))


@dataclass(frozen=True, kw_only=True)
class VisitResult:
    """What a visit did."""

    train_loss: float
    """Mean over its steps."""
    tokens: int
    """Targets that it learned from."""


def train_visit(
    partition: Partition,
    block: int,
    train: Rows,
    settings: FineTuning,
    *,
    number: int,
    share: float,
    scale: float = 1.0,
    state_before: Path | None = None,
    state_after: Path,
    on_step: Callable[[float], object] = lambda loss: None,
) -> VisitResult:
    """Train one block of the model in place.

    Args:
        partition: The model.
        block: Which.
        train: What it learns from.
        settings: How.
        number: Of the visit; decides which rows it sees.
        share: Of the run that is over when it begins.
        scale: Of the learning rate.
        state_before: AdamW's state from the block's last visit.
        state_after: Where the state goes; only this block's was ever in memory.
        on_step: Told the loss of each step.
    """
    batches = [
        train.batch(number * settings.steps + step, settings.batch_size, seed=settings.seed)
        for step in range(settings.steps)
    ]
    with _reproducible(partition, settings, number):
        loss_of = _objective(partition, block, batches, settings)
        partition.train_only(block)
        parameters = partition.parameters(block)
        optimizer = torch.optim.AdamW(parameters.values(), lr=0.0, weight_decay=settings.weight_decay)
        if state_before is not None:
            restore_optimizer(optimizer, parameters, load_tensors(state_before))
        losses = []
        for step, rows in enumerate(batches, start=settings.warm_up_steps if state_before else 0):
            optimizer.param_groups[0]["lr"] = scale * settings.rate(share, step)
            losses.append(_update(optimizer, list(parameters.values()), loss_of, rows, settings.max_norm))
            on_step(losses[-1])
    save_tensors(state_after, optimizer_tensors(optimizer, parameters))
    partition.model.requires_grad_(False)
    return VisitResult(train_loss=fmean(losses), tokens=sum(rows.learned_tokens for rows in batches))


def _update(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss_of: BlockLoss, rows: Rows, max_norm: float
) -> float:
    loss = loss_of(rows)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def _objective(partition: Partition, block: int, batches: list[Rows], settings: FineTuning) -> BlockLoss:
    if settings.objective == "exact" or block == partition.blocks - 1:
        return exact_loss(partition, chunk_rows=settings.chunk_rows)
    lens = fit_lens(partition, block, batches, chunk_rows=settings.chunk_rows)
    return local_loss(partition, block, lens, chunk_rows=settings.chunk_rows)


@contextmanager
def _reproducible(partition: Partition, settings: FineTuning, number: int) -> Iterator[None]:
    """The model in training mode, with dropout that depends on the visit alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(settings.seed, "dropout", number))
        partition.model.train()
        partition.checkpoint_activations(settings.checkpointing)
        try:
            yield
        finally:
            partition.checkpoint_activations(False)
            partition.model.eval()

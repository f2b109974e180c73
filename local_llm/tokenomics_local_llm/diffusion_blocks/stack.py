"""A schedule and its denoisers, one a block, and training them one at a time.

Each denoiser is whole in itself: input, layers, noise embedding, head. Between blocks passes only z, so a block is
trained with no other in memory, and `train_blocks` holds one block's parameters, gradients and optimizer state at any
time. The released code shares input and head among blocks and keeps all of them, with their optimizer, in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tokenomics_local_llm.diffusion_blocks.edm import weighted_mean
from tokenomics_local_llm.diffusion_blocks.randomness import random_stream, seed_of
from tokenomics_local_llm.diffusion_blocks.schedule import NoiseSchedule

__all__ = ["BlockTraining", "Denoiser", "Stack", "load_stack", "train_block", "train_blocks"]

Batch = tuple[Tensor, ...]
"""Tensors whose first dimension counts samples."""


class Denoiser(Protocol):
    """What training asks of a block; a `torch.nn.Module`."""

    def sigma_shape(self, batch: Batch) -> tuple[int, ...]:
        """How many noise levels a batch takes, first dimension first."""

    def losses(self, batch: Batch, sigma: Tensor, *, generator: torch.Generator) -> Tensor:
        """The loss at each noise level, of the shape of `sigma`."""

    def loss_weights(self, sigma: Tensor) -> Tensor:
        """The weight of each loss, of the shape of `sigma`."""


D = TypeVar("D", bound=nn.Module)


@dataclass(frozen=True)
class Stack(Generic[D]):
    """Denoisers in the order of their blocks."""

    schedule: NoiseSchedule
    denoisers: Sequence[D]

    def __post_init__(self) -> None:
        if len(self.denoisers) != self.schedule.blocks:
            raise ValueError(f"a schedule of {self.schedule.blocks} blocks needs as many, got {len(self.denoisers)}")

    def owner(self, sigma: float) -> D:
        """The denoiser of the block that owns a noise level; no other runs there."""
        return self.denoisers[self.schedule.block_of(sigma)]


@dataclass(frozen=True, kw_only=True)
class BlockTraining:
    """How one block is trained."""

    learning_rate: float = 1e-3
    """The highest, after the warm-up; falls to 0 along a cosine."""
    warm_up: float = 0.05
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.0
    """AdamW's."""
    max_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    seed: int = 0
    """Of weights, noise levels and noise."""


def train_block(
    denoiser: nn.Module,
    schedule: NoiseSchedule,
    block: int,
    batches: Iterable[Batch],
    settings: BlockTraining,
    *,
    steps: int,
    on_step: Callable[[float], object] = lambda loss: None,
) -> list[float]:
    """Train one block on the noise levels of its band, one step a batch; `on_step` is told the loss of each.

    Returns:
        The loss of each step.
    """
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=steps, pct_start=settings.warm_up, cycle_momentum=False
    )
    generator = random_stream(settings.seed, "noise", block)
    history = []
    for batch, _ in zip(batches, range(steps), strict=False):
        loss = _loss(denoiser, schedule, block, batch, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(denoiser.parameters(), settings.max_norm)
        optimizer.step()
        rate.step()
        history.append(float(loss.detach()))
        on_step(history[-1])
    return history


def train_blocks(
    build: Callable[[], nn.Module],
    schedule: NoiseSchedule,
    batches: Callable[[int], Iterable[Batch]],
    settings: BlockTraining,
    *,
    steps: int,
    folder: Path,
    blocks: Iterable[int] | None = None,
    on_step: Callable[[int, float], object] = lambda block, loss: None,
) -> None:
    """Train blocks one after the other, each to a file of its own; only one is in memory at a time.

    Args:
        build: Makes one denoiser.
        schedule: Whose bands they are trained on.
        batches: The data that a block sees.
        settings: The same for all.
        steps: Updates of each block.
        folder: Where the files go.
        blocks: Which; `None` for all. Processes may share the work: a block's result depends on no other.
        on_step: Told the block and the loss of each step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for block in range(schedule.blocks) if blocks is None else blocks:
        denoiser = _initial(build, settings, block)
        report = partial(on_step, block)
        train_block(denoiser, schedule, block, batches(block), settings, steps=steps, on_step=report)
        save_file(denoiser.state_dict(), _path(folder, block))
        del denoiser  # before the next is built


def load_stack(build: Callable[[], D], schedule: NoiseSchedule, folder: Path) -> Stack[D]:
    """The denoisers that `train_blocks` wrote."""
    return Stack(schedule, [_loaded(build(), _path(folder, block)) for block in range(schedule.blocks)])


def _initial(build: Callable[[], nn.Module], settings: BlockTraining, block: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(settings.seed, "weights", block))
        return build()


def _loss(denoiser: nn.Module, schedule: NoiseSchedule, block: int, batch: Batch, generator: torch.Generator) -> Tensor:
    task: Denoiser = denoiser  # type: ignore[assignment]
    shape = task.sigma_shape(batch)
    device = next(denoiser.parameters()).device
    batch = tuple(tensor.to(device) for tensor in batch)
    sigma = schedule.sample(block, math.prod(shape), generator=generator).reshape(shape).to(device)
    return weighted_mean(task.losses(batch, sigma, generator=generator), task.loss_weights(sigma))


def _path(folder: Path, block: int) -> Path:
    return folder / f"block-{block}.safetensors"


def _loaded(denoiser: D, path: Path) -> D:
    denoiser.load_state_dict(load_file(path))
    return denoiser.eval()

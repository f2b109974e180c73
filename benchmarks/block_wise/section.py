"""What a section of the benchmark hands back, and what sections share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from closing import Check

__all__ = ["Section", "minibatches", "over_seeds", "raised_while_better"]


@dataclass(kw_only=True)
class Section:
    """Figures and what is promised of them."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """One an arm; each states its updates and the data that it saw."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What belongs to no single arm."""
    checks: list[Check] = field(default_factory=list)
    """Promises."""
    charts: dict[str, str] = field(default_factory=dict)
    """SVG by name."""

    def row(self, **figures: Any) -> None:
        """Add an arm, and print it."""
        self.rows.append(figures)
        print("  ".join(f"{name}={_short(value)}" for name, value in figures.items()), flush=True)


def minibatches(tensors: Sequence[Tensor], size: int, steps: int, *, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Random rows of each tensor, the same rows of all."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(tensors[0]), (size,), generator=generator)
        yield tuple(tensor[chosen] for tensor in tensors)


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Their mean and each of them."""
    return {"mean": round(fmean(values), 4), "by_seed": [round(value, 4) for value in values]}


def raised_while_better(rate: float, factor: float, loss_at: Callable[[float], float]) -> float:
    """The learning rate with the lowest loss: multiplied by the factor as long as that lowers it."""
    losses: dict[float, float] = {}
    while not losses or list(losses.values())[-1] == min(losses.values()):
        losses[rate] = loss_at(rate)
        rate *= factor
    return min(losses, key=losses.__getitem__)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

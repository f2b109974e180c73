"""What training keeps in memory, counted rather than guessed.

Three kinds of figures: bytes saved for the backward pass, which are exact and small models show; bytes of parameters,
gradients and optimizer state, by enumeration; and the peak of a whole process, which includes everything else and is
only fair when each way of training has a process of its own.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

__all__ = [
    "SavedBytes",
    "StateBytes",
    "forget_peak",
    "peak_cuda_bytes",
    "peak_resident_bytes",
    "saved_for_backward",
    "state_bytes",
]

_STATUS = Path("/proc/self/status")


class SavedBytes:
    """Bytes that a forward pass saved for its backward pass."""

    def __init__(self) -> None:
        self.total = 0


@contextmanager
def saved_for_backward(model: nn.Module) -> Iterator[SavedBytes]:
    """Count what is saved while this is entered; parameters and buffers are there anyway, and are not counted.

    A tensor that several operations save counts once. Leave before the backward pass: what that computes again is
    counted too.
    """
    seen = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    saved = SavedBytes()

    def note(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in seen:
            seen.add(_storage(tensor))
            saved.total += tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        yield saved


@dataclass(frozen=True, kw_only=True)
class StateBytes:
    """What training adds to the weights, and the weights themselves."""

    weights: int
    """All parameters."""
    trainable: int
    """Those that are trained."""
    gradients: int
    """Gradients that exist."""
    optimizer: int
    """State of the optimizer."""


def state_bytes(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> StateBytes:
    """Enumerate them, best after a backward pass and a step."""
    parameters = list(model.parameters())
    states: Iterable[Any] = optimizer.state.values() if optimizer else ()
    return StateBytes(
        weights=sum(map(_bytes, parameters)),
        trainable=sum(_bytes(parameter) for parameter in parameters if parameter.requires_grad),
        gradients=sum(_bytes(parameter.grad) for parameter in parameters if parameter.grad is not None),
        optimizer=sum(_bytes(value) for state in states for value in state.values() if isinstance(value, Tensor)),
    )


def forget_peak() -> int:
    """Let the peak begin anew from what the process has now, which is returned.

    Raises:
        OSError: Where Linux does not allow it, or there is no Linux.
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_resident_bytes()


def peak_resident_bytes() -> int:
    """The most memory that this process ever had, or since `forget_peak`.

    Linux's own figure where there is one: getrusage's begins with the peak of the process that started this one.
    """
    if _STATUS.exists():
        fields = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="ascii").splitlines() if ":" in line)
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_cuda_bytes() -> int | None:
    """The most memory that tensors ever had on the GPU; `None` without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()

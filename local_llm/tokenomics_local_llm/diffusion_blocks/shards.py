"""Tensors of one block on disk: weights, and AdamW's state, which would take twice their memory.

A file is there whole or not at all, whenever the process is killed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tokenomics_local_llm.whole_file import written_whole

__all__ = ["load_tensors", "optimizer_tensors", "restore_optimizer", "save_tensors"]


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, or nothing."""
    with written_whole(path) as unfinished:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read one."""
    return load_file(path)


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """AdamW's state as named tensors: a parameter's name, a slash, and what it is."""
    return {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Undo `optimizer_tensors`."""
    for key, value in tensors.items():
        name, _, part = key.rpartition("/")
        place = value if part == "step" else value.to(parameters[name].device)
        optimizer.state[parameters[name]][part] = place

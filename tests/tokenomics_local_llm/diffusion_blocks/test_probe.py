from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from tokenomics_local_llm.diffusion_blocks.layers import TransformerLayer
from tokenomics_local_llm.diffusion_blocks.objectives import exact_loss
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.probe import peak_resident_bytes, saved_for_backward, state_bytes
from tokenomics_local_llm.diffusion_blocks.rows import pack

ROWS = pack([(3 * index) % 31 for index in range(129)], length=32)


class Chain(nn.Module):
    """Some layers and nothing else."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(16, 2) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x, _ = layer(x)
        return x


def saved_by(model: nn.Module, x: torch.Tensor) -> int:
    with saved_for_backward(model) as saved:
        model(x)
    return saved.total


def test_a_tensor_that_two_operations_save_counts_once_and_parameters_never() -> None:
    linear = nn.Linear(4, 4, bias=False)
    x = torch.randn(8, 4, requires_grad=True)

    with saved_for_backward(linear) as saved:
        linear(x) * x

    assert saved.total == x.numel() * 4 + 8 * 4 * 4  # x, and what the layer made of it


@pytest.mark.parametrize("blocks", [2, 3, 6])
def test_a_block_of_its_own_saves_its_share_of_the_activations(blocks: int) -> None:
    x = torch.randn(2, 10, 16)

    whole, block = saved_by(Chain(6), x), saved_by(Chain(6 // blocks), x)

    assert block / whole == pytest.approx(1 / blocks, rel=0.05)  # the input that all start from counts in each


@pytest.mark.parametrize("blocks", [2, 4])
def test_a_block_has_its_share_of_trainable_state_to_the_byte(llama: Any, blocks: int) -> None:
    def trained(blocks: int) -> tuple[int, int, int]:
        partition = Partition(llama, blocks)
        optimizer = torch.optim.AdamW(partition.train_only(0))
        exact_loss(partition, chunk_rows=64)(ROWS).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        state = state_bytes(llama, optimizer)
        counters = 4 * len(partition.parameters(0))  # AdamW counts the steps of every tensor
        return state.trainable, state.gradients, state.optimizer - counters

    assert trained(blocks) == tuple(figure // blocks for figure in trained(1))


def test_a_higher_block_saves_less_for_the_backward_pass(llama: Any) -> None:
    partition = Partition(llama, 4)

    def saved(block: int) -> int:
        partition.train_only(block)
        with saved_for_backward(llama) as found:
            exact_loss(partition, chunk_rows=64)(ROWS)
        return found.total

    by_block = [saved(block) for block in partition]

    assert by_block == sorted(by_block, reverse=True)
    steps = [lower - higher for lower, higher in pairwise(by_block)]
    assert steps == pytest.approx([steps[0]] * 3, rel=0.01)


def test_the_peak_of_a_process_holds_what_it_once_had() -> None:
    program = (
        "import torch\n"
        "from tokenomics_local_llm.diffusion_blocks.probe import peak_resident_bytes\n"
        "before = peak_resident_bytes()\n"
        "torch.ones(64 * 2**20)\n"
        "print(peak_resident_bytes() - before)\n"
    )

    grown = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)

    assert grown == pytest.approx(256 * 2**20, rel=0.1)
    assert peak_resident_bytes() > 2**20

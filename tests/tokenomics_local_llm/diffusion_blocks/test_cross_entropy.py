from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tokenomics_local_llm.diffusion_blocks.cross_entropy import IGNORED, chunked_cross_entropy


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 40), st.booleans())
def test_chunks_change_neither_loss_nor_gradients(batch: int, length: int, chunk_rows: int, some_ignored: bool) -> None:
    torch.manual_seed(batch * 100 + length)
    head = nn.Linear(6, 11, bias=False).double()
    hidden = torch.randn(batch, length, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(11, (batch, length))
    if some_ignored:
        targets[:, 1:] = IGNORED

    loss = chunked_cross_entropy(hidden, targets, head, chunk_rows=chunk_rows)
    found = torch.autograd.grad(loss, [hidden, head.weight])

    whole = nn.functional.cross_entropy(head(hidden).float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(loss, whole)
    for ours, expected in zip(found, torch.autograd.grad(whole, [hidden, head.weight]), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)  # logits are float32


def test_logits_of_one_chunk_are_in_memory_at_a_time() -> None:
    rows: list[int] = []
    weight = torch.randn(11, 6)

    def head(hidden: torch.Tensor) -> torch.Tensor:
        rows.append(len(hidden))
        return hidden @ weight.T

    hidden = torch.randn(2, 10, 6, requires_grad=True)
    chunked_cross_entropy(hidden, torch.zeros(2, 10, dtype=torch.int64), head, chunk_rows=8).backward()  # type: ignore[no-untyped-call]

    assert sorted(rows) == [4, 4, 8, 8, 8, 8]  # forward, and again for the gradients


def test_rows_without_a_target_get_no_logits() -> None:
    rows: list[int] = []

    def head(hidden: torch.Tensor) -> torch.Tensor:
        rows.append(len(hidden))
        return hidden

    targets = torch.full((2, 10), IGNORED)
    targets[0, 3:6] = 1
    chunked_cross_entropy(torch.randn(2, 10, 6), targets, head)

    assert rows == [3]


def test_a_loss_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="all 3 rows have -100"):
        chunked_cross_entropy(torch.ones(1, 3, 2), torch.full((1, 3), IGNORED), nn.Identity())

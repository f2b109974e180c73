"""Rows become codes as the paper has it, and compiled code yields the very bits of PyTorch's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenomics_local_llm.kernels import pack_rows, supported_instructions

COMPILED = supported_instructions()[0]


def codes_of(packed: Tensor) -> Tensor:
    return torch.cat([packed >> 2 * slot & 3 for slot in range(4)], dim=-1).float()


def restored(packed: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    grouped = codes_of(packed).unflatten(-1, (scale.shape[-1], -1))
    return (minimum.float().unsqueeze(-1) + grouped * scale.float().unsqueeze(-1)).flatten(-2)


def feedback_for(dim: int, heads: int) -> Tensor:
    return (0.1 * torch.randn(heads, dim, dim)).triu(1)


@pytest.mark.parametrize("heads", [0, 1, 3], ids=["nearest", "shared-feedback", "feedback-a-head"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dim", [64, 96, 128, 256])
@pytest.mark.parametrize("clip_ratio", [0.0, 0.5, 0.92, 0.96, 1.0])
def test_compiled_codes_equal_pytorch_s_bit_for_bit(clip_ratio: float, dim: int, groups: int, heads: int) -> None:
    torch.manual_seed(dim)
    rows = torch.randn(2, 3, 5, dim).bfloat16()
    rows[0, 0, 0], rows[0, 0, 1], rows[0, 1, 0, 0] = 0.0, 1.5, 1e4
    feedback = feedback_for(dim, heads) if heads else None

    results = [
        pack_rows(rows, clip_ratio=clip_ratio, groups=groups, feedback=feedback, instructions=name)
        for name in (COMPILED, "torch")
    ]

    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_a_number_lies_within_half_a_step_of_its_code(seed: int, groups: int) -> None:
    rows = torch.randn(1, 1, 4, 64, generator=torch.Generator().manual_seed(seed))

    packed, scale, minimum = pack_rows(rows, clip_ratio=0.0, groups=groups)

    # Beyond half a step only by what float16 moved the range's ends.
    bound = scale.float().repeat_interleave(64 // groups, -1) * 0.5 + 4 * 2.0**-10
    assert ((restored(packed, scale, minimum) - rows).abs() <= bound).all()


def test_as_many_entries_as_the_ratio_leaves_are_clipped() -> None:
    rows = torch.arange(1.0, 129.0).view(1, 1, 1, 128)

    _, scale, minimum = pack_rows(rows, clip_ratio=0.96)

    largest = minimum.float() + 3 * scale.float()
    assert largest.item() == pytest.approx(123, rel=2e-3)  # rank floor(0.96 * 128) = 122: five lie above


def test_a_constant_row_is_kept_exactly() -> None:
    rows = torch.full((1, 1, 1, 64), 1.5)

    assert torch.equal(restored(*pack_rows(rows, clip_ratio=0.96)), rows)


def test_feedback_lowers_the_error_in_its_metric() -> None:
    torch.manual_seed(0)
    root = torch.randn(64, 8, dtype=torch.float64)
    metric = root @ root.T + 0.1 * torch.eye(64, dtype=torch.float64)
    upper = torch.linalg.cholesky(metric.flip(0, 1)).flip(0, 1)  # metric = upper @ upper.T
    feedback = (upper / upper.diagonal()).triu(1).float()[None]
    rows = torch.randn(1, 1, 200, 64)

    def error(feedback: Tensor | None) -> float:
        lost = (restored(*pack_rows(rows, clip_ratio=0.96, feedback=feedback)) - rows).double()
        return float(((lost @ metric) * lost).sum())

    assert error(feedback) < 0.6 * error(None)


def test_rows_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="does not divide into 4 quarters and 3 groups"):
        pack_rows(torch.zeros(1, 1, 1, 64), clip_ratio=0.0, groups=3)

"""Ranges of least squared error: the compiled search beside the one in PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tokenomics_local_llm.kernels import Instructions, best_instructions, range_between, searched_range

pytestmark = pytest.mark.skipif(
    best_instructions() == Instructions.TORCH, reason="numba is not installed, so that only PyTorch searches"
)


def _grouped(groups: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(groups + channels)
    spread = torch.linspace(0.2, 3, groups * channels)
    rows = 4 + spread * torch.randn(2, 3, 50, groups * channels, generator=generator)
    return rows.unflatten(-1, (groups, channels))


def _errors(grouped: Tensor, minimum: Tensor, step: Tensor) -> Tensor:
    codes = ((grouped - minimum) / step + 0.5).floor().clamp(0, 3)
    return (grouped - minimum - step * codes).square().sum(-1)


@pytest.mark.parametrize(("groups", "channels"), [(1, 64), (2, 64), (1, 128), (3, 20)])
def test_the_compiled_search_finds_ranges_as_good_as_pytorchs(groups: int, channels: int) -> None:
    grouped = _grouped(groups, channels)
    found, expected = (_errors(grouped, *searched_range(grouped, instructions=name)) for name in (None, "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    unsearched = _errors(grouped, *range_between(*grouped.aminmax(dim=-1, keepdim=True)))
    assert (found < 0.9 * unsearched).float().mean() > 0.9


def test_a_range_depends_on_no_other_row() -> None:
    grouped = _grouped(1, 64)
    together = searched_range(grouped)
    for first, last in ((0, 1), (1, 18), (18, 50)):
        alone = searched_range(grouped[:, :, first:last])
        assert all(torch.equal(one, all_[:, :, first:last]) for one, all_ in zip(alone, together, strict=True))


@pytest.mark.parametrize("value", [0.0, 0.75, -3e4])
def test_a_constant_group_keeps_a_step_that_can_be_divided_by(value: float) -> None:
    grouped = torch.full((1, 1, 2, 1, 20), value)
    minimum, step = searched_range(grouped)
    torch.testing.assert_close(minimum, grouped[..., :1])
    assert (step > 0).all()

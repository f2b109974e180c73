from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenomics_local_llm.oscar.rotation import (
    bit_reversal,
    hadamard,
    metric_of_rotation,
    orthogonality_error,
    rotation_of_moment,
)

SIZES = [4, 8, 64, 96, 128, 192, 256]


def _moment(size: int, *shape: int) -> Tensor:
    rows = torch.randn(*shape, 3 * size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    return rows.mT @ (rows * torch.linspace(0.1, 5, 3 * size, dtype=torch.float64)[:, None])


@pytest.mark.parametrize("size", SIZES)
def test_a_hadamard_rotation_is_orthogonal_and_symmetric(size: int) -> None:
    matrix = hadamard(size)
    assert orthogonality_error(matrix) < 1e-12
    assert torch.equal(matrix, matrix.mT)


@pytest.mark.parametrize("size", [0, 1, 2, 66, -4])
def test_sizes_that_four_does_not_divide_have_no_hadamard_rotation(size: int) -> None:
    with pytest.raises(ValueError, match="that 4 divides"):
        hadamard(size)


@given(st.integers(0, 8).map(lambda bits: 2**bits))
def test_reversing_bits_twice_changes_nothing(size: int) -> None:
    reversed_bits = bit_reversal(size)
    assert torch.equal(reversed_bits[reversed_bits], torch.arange(size))


def test_bits_are_reversed() -> None:
    assert bit_reversal(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]


@pytest.mark.parametrize("group", [4, 8, 16, 32])
def test_the_strongest_channels_fall_into_different_groups(group: int) -> None:
    places = bit_reversal(64)[: 64 // group]  # of the eigenvalues, the largest first
    assert len(set((places // group).tolist())) == 64 // group


@pytest.mark.parametrize("size", [8, 64, 128])
def test_a_fitted_rotation_spreads_importance_evenly(size: int) -> None:
    moment = _moment(size, 2)
    rotation, eigenvalues = rotation_of_moment(moment)
    turned = (rotation.mT @ moment @ rotation).diagonal(dim1=-2, dim2=-1)
    assert orthogonality_error(rotation) < 1e-12
    assert (turned / turned.mean(-1, keepdim=True) - 1).abs().max() < 1e-12
    assert (eigenvalues.diff() >= 0).all()


def test_interleaved_blocks_spread_importance_evenly_within_a_block() -> None:
    moment = _moment(96)
    rotation, _ = rotation_of_moment(moment)
    blocks = (rotation.mT @ moment @ rotation).diagonal().view(32, 3)
    assert (blocks / blocks[:1] - 1).abs().max() < 1e-12
    assert (blocks[0] / blocks[0].mean() - 1).abs().max() < 0.05


@pytest.mark.parametrize("size", [8, 64, 96])
def test_a_rotated_metric_follows_from_rotation_and_eigenvalues(size: int) -> None:
    moment = _moment(size, 2)
    rotation, eigenvalues = rotation_of_moment(moment)
    torch.testing.assert_close(metric_of_rotation(rotation, eigenvalues), rotation.mT @ moment @ rotation)


def test_no_rotation_costs_less_than_the_eigenvectors_where_errors_do_not_change_with_it() -> None:
    moment, errors = _moment(16), torch.linspace(0.1, 1, 16, dtype=torch.float64)
    eigenvalues, vectors = torch.linalg.eigh(moment)
    least = float((eigenvalues.flip(0) * errors).sum())  # the largest importance meets the smallest error
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        other = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=generator)).Q
        assert float(((other.mT @ moment @ other).diagonal() * errors).sum()) >= least * (1 - 1e-12)
    chosen = vectors.flip(-1)
    assert float(((chosen.mT @ moment @ chosen).diagonal() * errors).sum()) == pytest.approx(least)

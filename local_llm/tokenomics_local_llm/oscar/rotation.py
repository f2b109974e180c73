"""The rotations that make 2 bits enough: U H P, from the second moment of what a key or value is multiplied by.

U diagonalises the moment, so that a Hadamard matrix H after it spreads the importance evenly over the channels
(OSCAR, arXiv 2605.17757: diag(R^T S R) is constant); P orders them by bit reversal, so that each group of channels
gets its share of strong ones. With one group a head P changes no code at all; it is here because the published files
have it.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["bit_reversal", "hadamard", "metric_of_rotation", "orthogonality_error", "rotation_of_moment"]


def hadamard(size: int) -> Tensor:
    """An orthogonal matrix of equal entries, (size, size), float64.

    Sylvester's for a power of two. For m times a power of two, as 96 = 3 * 32, m interleaved blocks: channel i is
    mixed with i + m, i + 2m, ..., so that eigenvalues in order share out evenly between the blocks.

    Raises:
        ValueError: If 4 does not divide `size`.
    """
    power = size & -size
    if size <= 0 or power < 4:
        raise ValueError(f"a Hadamard rotation needs a size that 4 divides, got {size}")
    matrix = torch.ones(1, 1, dtype=torch.float64)
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    while matrix.shape[0] < power:
        matrix = torch.kron(pair, matrix)
    return torch.kron(matrix / power**0.5, torch.eye(size // power, dtype=torch.float64))


def bit_reversal(size: int) -> Tensor:
    """Each number below `size`, a power of two, with its bits in reverse order: (size,), int64."""
    if size <= 0 or size & (size - 1):
        raise ValueError(f"bit reversal needs a power of two, got {size}")
    reversed_bits = torch.zeros(size, dtype=torch.int64)
    rest = torch.arange(size)
    for _ in range(size.bit_length() - 1):
        reversed_bits = reversed_bits * 2 + rest % 2
        rest = rest // 2
    return reversed_bits


def rotation_of_moment(moment: Tensor) -> tuple[Tensor, Tensor]:
    """U H P of a second moment, or of one a head.

    Args:
        moment: (..., D, D), positive semidefinite.

    Returns:
        The rotation, (..., D, D), applied from the right; the eigenvalues, (..., D), ascending. Both float64.
    """
    exact = moment.double()
    eigenvalues, vectors = torch.linalg.eigh((exact + exact.mT) / 2)
    size = moment.shape[-1]
    return (vectors @ hadamard(size))[..., _order(size)], eigenvalues


def metric_of_rotation(rotation: Tensor, eigenvalues: Tensor) -> Tensor:
    """The moment that `rotation_of_moment` was given, as it is once it is rotated: R^T S R, (..., D, D), float64.

    S is not needed: R is U H P, so that the eigenvectors are U = R P^T H^T.
    """
    exact, size = rotation.double(), rotation.shape[-1]
    vectors = exact[..., _order(size).argsort()] @ hadamard(size).mT
    turned = exact.mT @ vectors
    return (turned * eigenvalues.double().unsqueeze(-2)) @ turned.mT


def _order(size: int) -> Tensor:
    """Column i of the bit-reversed order takes the i-th largest eigenvalue's; eigenvalues ascend."""
    if size & (size - 1):
        return torch.arange(size)
    order = torch.empty(size, dtype=torch.int64)
    order[bit_reversal(size)] = torch.arange(size - 1, -1, -1)
    return order


def orthogonality_error(rotation: Tensor) -> float:
    """The largest entry of |R^T R - I|."""
    exact = rotation.double()
    return float((exact.mT @ exact - torch.eye(exact.shape[-1], dtype=torch.float64)).abs().max())

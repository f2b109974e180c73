"""Numbers of tasks as columns, and their totals by cluster: what every interval of this package starts from.

A column is checked once, here, so that no estimator has to wonder what a NaN or a stray length would do to it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Column", "Floats", "Pairs", "as_column", "as_pairs", "cluster_numbers", "cluster_sums"]

Floats: TypeAlias = NDArray[np.float64]
"""An array of numbers."""
Column: TypeAlias = Sequence[float] | NDArray[np.generic]
"""One number a task."""
Pairs: TypeAlias = Iterable[tuple[float, float]] | NDArray[np.generic]
"""Two totals a cluster; as an array, of shape (clusters, 2)."""


def as_column(name: str, values: Column, *, size: int | None = None) -> Floats:
    """The numbers as an array.

    Raises:
        ValueError: If one is not finite, or they are not `size` many.
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or (size is not None and len(column) != size):
        raise ValueError(f"{name} must be one number per task, {size or 'any'} of them, got shape {column.shape}")
    if not np.isfinite(column).all():
        raise ValueError(f"{name} must be finite: leave out, or bound, the tasks where it is unknown")
    return column


def as_pairs(clusters: Pairs) -> Floats:
    """The totals as an array of shape (clusters, 2).

    Raises:
        ValueError: If there are fewer than two clusters, they are no pairs, or a total is not finite.
    """
    rows = clusters if isinstance(clusters, np.ndarray) else list(clusters)
    if len(rows) < 2:
        raise ValueError(f"an interval needs at least two clusters, got {len(rows)}")
    pairs = np.asarray(rows, dtype=np.float64)
    if pairs.shape != (len(rows), 2):
        raise ValueError(f"needs two totals per cluster, got an array of shape {pairs.shape}")
    if not np.isfinite(pairs).all():
        raise ValueError("totals must be finite: leave out, or bound, the tasks where one is unknown")
    return pairs


def cluster_numbers(clusters: Iterable[Hashable] | None, *, size: int) -> NDArray[np.intp]:
    """The cluster of each of `size` tasks, numbered from 0 in order of appearance; `None`: each task is its own.

    Raises:
        ValueError: If they are not `size` many.
    """
    if clusters is None:
        return np.arange(size)
    numbers: dict[Hashable, int] = {}
    found = np.fromiter((numbers.setdefault(name, len(numbers)) for name in clusters), dtype=np.intp)
    if len(found) != size:
        raise ValueError(f"clusters must name the cluster of each of the {size} tasks, got {len(found)} names")
    return found


def cluster_sums(columns: Floats, clusters: Iterable[Hashable] | None) -> Floats:
    """Totals by cluster.

    Args:
        columns: Shape (tasks, columns).
        clusters: The cluster of each task; `None`: each task is its own.

    Returns:
        Shape (clusters, columns), in order of appearance.
    """
    if clusters is None:
        return columns
    numbers = cluster_numbers(clusters, size=len(columns))
    return np.stack([np.bincount(numbers, weights=column) for column in columns.T], axis=1)

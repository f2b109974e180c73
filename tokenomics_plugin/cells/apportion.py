"""Whole tokens in proportion to weights, none lost: the method of largest remainders."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["apportion"]


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Split a whole number; each part is within 1 of its exact share, and they add up to `total`.

    Args:
        total: What to split, not negative.
        weights: Not negative; when all are 0 they count as equal. Of equal remainders the earlier is rounded up.

    Raises:
        ValueError: If there is something to split and nothing to split it by.
    """
    if not weights:
        if total:
            raise ValueError(f"{total} cannot be split among nothing; give at least one weight")
        return []
    whole = sum(weights)
    if not whole:
        return apportion(total, [1] * len(weights))
    shares = [divmod(total * weight, whole) for weight in weights]
    parts = [part for part, _ in shares]
    missing = total - sum(parts)
    by_remainder = sorted(range(len(shares)), key=lambda index: -shares[index][1])
    for index in by_remainder[:missing]:
        parts[index] += 1
    return parts

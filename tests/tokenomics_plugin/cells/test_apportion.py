from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.cells.apportion import apportion

WEIGHTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=20)


@given(st.integers(0, 10**12), WEIGHTS)
def test_parts_are_whole_add_up_and_are_within_one_of_their_share(total: int, weights: list[int]) -> None:
    parts = apportion(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        share = Fraction(total * weight, whole) if whole else Fraction(total, len(weights))
        assert abs(part - share) < 1


def test_the_largest_remainders_are_rounded_up() -> None:
    assert apportion(10, [16, 15, 19]) == [3, 3, 4]
    assert apportion(7, [1, 1, 1]) == [3, 2, 2]


def test_nothing_among_nobody_is_fine_and_something_is_not() -> None:
    assert apportion(0, []) == []
    with pytest.raises(ValueError, match="3 cannot be split among nothing"):
        apportion(3, [])

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.cells import coverage_shares

KNOWN = {
    frozenset({"d0"}): Decimal(5),
    frozenset({"d0", "d1"}): Decimal(3),
    frozenset({"d0", "d1", "d2"}): Decimal(2),
    frozenset[str](): Decimal(7),
}
COSTS = st.dictionaries(
    st.frozensets(st.sampled_from("abcd")), st.integers(0, 10**9).map(lambda cents: Decimal(cents) / 100), max_size=8
)


def covered(costs: dict[frozenset[str], Decimal], causes: set[str]) -> Decimal:
    return sum((cost for flagged_by, cost in costs.items() if flagged_by & causes), Decimal(0))


def test_the_shares_of_the_known_game() -> None:
    shares = coverage_shares(KNOWN)
    assert [round(float(shares[cause].share), 4) for cause in ("d0", "d1", "d2")] == [7.1667, 2.1667, 0.6667]
    assert sum(cause.share for cause in shares.values()) == 10


@pytest.mark.parametrize(
    ("cause", "standalone", "incremental"), [("d0", 10, 5), ("d1", 5, 0), ("d2", 2, 0)], ids=["d0", "d1", "d2"]
)
def test_what_a_cause_saves_alone_and_last_in_the_known_game(cause: str, standalone: int, incremental: int) -> None:
    share = coverage_shares(KNOWN)[cause]
    assert (share.standalone, share.incremental) == (Decimal(standalone), Decimal(incremental))


@given(COSTS)
def test_shares_are_the_mean_marginal_over_all_orders(costs: dict[frozenset[str], Decimal]) -> None:
    causes = sorted(set().union(*costs))
    orders = list(permutations(causes))
    for cause, share in coverage_shares(costs).items():
        marginals = [
            covered(costs, {*order[: order.index(cause) + 1]}) - covered(costs, {*order[: order.index(cause)]})
            for order in orders
        ]
        assert share.share == Fraction(sum(marginals)) / len(orders)
        assert share.standalone == covered(costs, {cause})
        assert share.incremental == covered(costs, set(causes)) - covered(costs, set(causes) - {cause})


def test_without_a_flagged_cell_there_are_no_shares() -> None:
    assert coverage_shares({frozenset[str](): Decimal(7)}) == {}

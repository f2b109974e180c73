"""How overlapping causes share what they waste: the Shapley value of a coverage game, exact in one pass.

With v(S) the cost of all cells that some cause in S flags, each of m causes of a cell gets one m-th of its cost: no
order of precedence among detectors, and the shares add up to the whole waste.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

__all__ = ["CauseShare", "coverage_shares"]

_Id = TypeVar("_Id", bound=str)


@dataclass(frozen=True, kw_only=True, slots=True)
class CauseShare:
    """What one cause wastes, in USD."""

    share: Fraction
    """Its Shapley value; a fraction, because thirds have no decimal."""
    standalone: Decimal
    """Saved if this cause alone were removed, had it been the only one: v({d}), the upper bound."""
    incremental: Decimal
    """Saved by removing it last, when all others are gone: v(all) - v(all but d), the lower bound."""


def coverage_shares(costs: Mapping[frozenset[_Id], Decimal]) -> dict[_Id, CauseShare]:
    """The shares of causes, by name.

    Args:
        costs: Set of causes -> cost of the cells that exactly these flag; the empty set is nobody's.
    """
    return {cause: _share(cause, costs) for cause in sorted(_causes(costs))}


def _causes(sets: Iterable[frozenset[_Id]]) -> set[_Id]:
    return set().union(*sets)


def _share(cause: _Id, costs: Mapping[frozenset[_Id], Decimal]) -> CauseShare:
    flagged = {causes: cost for causes, cost in costs.items() if cause in causes}
    return CauseShare(
        share=sum((Fraction(cost) / len(causes) for causes, cost in flagged.items()), Fraction(0)),
        standalone=sum(flagged.values(), Decimal(0)),
        incremental=flagged.get(frozenset({cause}), Decimal(0)),
    )

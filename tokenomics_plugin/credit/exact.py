"""Credit by formula, for games whose every coalition is known: from replays in a sandbox, or from a model.

Which figure answers which question:

- *Leave-one-out*, what is lost when one player goes and the rest stay: decides what to drop. Its figures do not sum
  to anything: of two tools that replace each other each looks worthless.
- *Shapley value*: splits the worth of all, and no more, between players: charges costs back. Dropping by it is the
  common mistake.
- *Owen value*: the same when players belong to unions, as tools to agents: the tools of an agent sum to what the
  agent gets in the game between agents, so both tables agree.
- *Interaction index*: whether two players are worth more together than apart; look before dropping both.

Each is linear in the worths, and takes a number of additions of the order of players times coalitions.

Sources: Shapley 1953; Banzhaf, Rutgers Law Review 19, 1965; Owen, in Henn and Moeschlin (eds.), 1977; interaction:
Grabisch and Roubens, International Journal of Game Theory 28, 1999.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.credit.games import FloatArray, Game, Unions, check_unions, coalition_masks, coalition_sizes

__all__ = ["banzhaf", "interactions", "leave_one_out", "owen", "shapley"]


def shapley(game: Game) -> dict[str, float]:
    """Each player's mean marginal worth over all orders in which the players may join."""
    return dict(zip(game.players, _shapley(game.worths).tolist(), strict=True))


def banzhaf(game: Game) -> dict[str, float]:
    """Each player's mean marginal worth over all coalitions of the others; does not sum to the worth of all."""
    return {player: float(_marginals(game.worths, bit).mean()) for bit, player in enumerate(game.players)}


def leave_one_out(game: Game) -> dict[str, float]:
    """What each player adds to all the others."""
    return {player: float(_marginals(game.worths, bit)[-1]) for bit, player in enumerate(game.players)}


def owen(game: Game, unions: Unions) -> dict[str, float]:
    """Each player's mean marginal worth over the orders in which no union is interrupted.

    Raises:
        GameError: If the unions do not hold each player exactly once.
    """
    check_unions(unions, game.players)
    bits = {player: 1 << bit for bit, player in enumerate(game.players)}
    whole = {name: sum(bits[player] for player in members) for name, members in unions.items()}
    weights = _shapley_weights(len(unions))[coalition_sizes(len(unions) - 1)]
    credit: dict[str, float] = {}
    for name, members in unions.items():
        others = coalition_masks(_array(mask for other, mask in whole.items() if other != name))
        inside = coalition_masks(_array(bits[player] for player in members))
        # What a part of the union adds, averaged over which other unions came before: a game of its own.
        worths = weights @ game.worths[others[:, np.newaxis] | inside]
        credit.update(zip(members, _shapley(worths).tolist(), strict=True))
    return {player: credit[player] for player in game.players}


def interactions(game: Game) -> dict[frozenset[str], float]:
    """The Shapley interaction index of each pair: positive where the two need, negative where they replace, each other.

    The mean, over orders in which the pair joins as one, of what both add beyond the sum of what each would add.
    """
    others = len(game.players) - 2
    if others < 0:
        return {}
    weights = _shapley_weights(others + 1)[coalition_sizes(others)]
    return {
        frozenset((game.players[low], game.players[high])): float(
            weights @ _marginals(_marginals(game.worths, high), low)
        )
        for low, high in combinations(range(len(game.players)), 2)
    }


def shapley_coefficients(coalition_size: NDArray[np.int64], players: int) -> tuple[FloatArray, FloatArray]:
    """What the worth of a coalition of a size counts in the Shapley value of a player in it, and of one outside it."""
    weights = _shapley_weights(players)
    inside = weights[np.maximum(coalition_size - 1, 0)]
    outside = -weights[np.minimum(coalition_size, players - 1)]
    return inside, outside


def _shapley(worths: FloatArray) -> FloatArray:
    players = len(worths).bit_length() - 1
    weights = _shapley_weights(players)[coalition_sizes(players - 1)]
    return np.array([weights @ _marginals(worths, bit) for bit in range(players)])


def _shapley_weights(players: int) -> FloatArray:
    """How often, over all orders, a player meets just one given coalition of s others: s! (d - s - 1)! / d!."""
    return np.array([1 / (players * comb(players - 1, size)) for size in range(players)])


def _marginals(worths: FloatArray, bit: int) -> FloatArray:
    """What one player adds to each coalition of the others, in the order of the game without it."""
    pairs = worths.reshape(-1, 2, 1 << bit)
    return (pairs[:, 1] - pairs[:, 0]).ravel()


def _array(masks: Iterable[int]) -> NDArray[np.int64]:
    return np.array(list(masks), dtype=np.int64)

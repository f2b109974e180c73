"""Games: what every set of switched-on components is worth.

A *player* is a component that a policy can switch before a run begins: a tool, a reflection step, a retry, a
sub-agent. Never a count that the run itself produced: hard tasks cause more steps, and such a count would be
credited with the difficulty. A *coalition* is a set of players that are on, the rest off; its *worth* is the
expected value of a run, E[Y | do(on)], or its expected cost. Everything in this package is linear in the worths, so
the game of net value is just value times a price minus cost, and so is the credit of each player.

All worths are held in one array, so that a game of twenty players is a million numbers and its credits are a few
passes over them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.errors import TokenomicsError

__all__ = ["FloatArray", "Game", "GameError", "Unions", "net_game"]

FloatArray = NDArray[np.float64]
Unions = Mapping[str, Collection[str]]
"""Name of a union, such as an agent -> the players in it, such as its tools."""

_MOST_PLAYERS = 20


class GameError(TokenomicsError, ValueError):
    """Players, coalitions or worths that do not make a game."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """A worth for every coalition of players."""

    players: tuple[str, ...]
    """The components, each once."""
    worths: FloatArray
    """Worth of each coalition; index `sum(2**i for i in coalition)`, so the first is of none and the last of all."""

    def __post_init__(self) -> None:
        check_fits(self.players)
        worths = np.array(self.worths, dtype=np.float64)  # a copy: the caller's array may change
        if worths.shape != (2 ** len(self.players),):
            raise GameError(
                f"{len(self.players)} players need {2 ** len(self.players)} worths, got an array of {worths.shape}"
            )
        if not np.isfinite(worths).all():
            raise GameError("worths must be finite: a game with an unknown worth has no credit, run that coalition")
        worths.flags.writeable = False
        object.__setattr__(self, "worths", worths)

    @classmethod
    def of(cls, players: Sequence[str], worth: Callable[[frozenset[str]], float]) -> Game:
        """The game whose coalitions are worth what the function says; it is called once for each."""
        check_fits(players)
        members = (
            frozenset(player for bit, player in enumerate(players) if coalition >> bit & 1)
            for coalition in range(2 ** len(players))
        )
        return cls(players=tuple(players), worths=np.array([worth(coalition) for coalition in members]))

    def worth(self, coalition: Iterable[str]) -> float:
        """What the coalition is worth.

        Raises:
            GameError: If one of it does not play.
        """
        return float(self.worths[self._index(coalition)])

    def quotient(self, unions: Unions) -> Game:
        """The game between unions, each of which is on or off as a whole.

        Raises:
            GameError: If the unions do not hold each player exactly once.
        """
        check_unions(unions, self.players)
        members = np.array([self._index(union) for union in unions.values()], dtype=np.int64)
        return Game(players=tuple(unions), worths=self.worths[coalition_masks(members)])

    def __add__(self, other: Game) -> Game:
        if self.players != other.players:
            raise GameError(f"only games of the same players add up, got {self.players} and {other.players}")
        return Game(players=self.players, worths=self.worths + other.worths)

    def __sub__(self, other: Game) -> Game:
        return self + -1 * other

    def __mul__(self, factor: float) -> Game:
        return Game(players=self.players, worths=self.worths * factor)

    __rmul__ = __mul__

    def _index(self, coalition: Iterable[str]) -> int:
        members = set(coalition)
        if strangers := members.difference(self.players):
            raise GameError(f"{sorted(strangers)} are not players of this game: its players are {self.players}")
        return sum(1 << bit for bit, player in enumerate(self.players) if player in members)


def net_game(value: Game, cost: Game, *, value_of_success: float) -> Game:
    """What coalitions are worth after their cost, when a success is worth so much money.

    Args:
        value: Expected outcome of each coalition, such as its success rate.
        cost: Its expected cost in money.
        value_of_success: Money that one unit of outcome is worth.
    """
    return value_of_success * value - cost


def check_fits(players: Sequence[str]) -> None:
    """Require players, each only once, and no more than have their coalitions in memory."""
    check_players(players)
    if len(players) > _MOST_PLAYERS:
        raise GameError(
            f"a game in memory holds at most {_MOST_PLAYERS} players, got {len(players)}: sample its credit"
        )


def check_players(players: Sequence[str]) -> None:
    """Require players, and each only once."""
    if not players:
        raise GameError("a game needs a player")
    if len(set(players)) < len(players):
        raise GameError(f"each player may be named once, got {tuple(players)}")


def check_unions(unions: Unions, players: Sequence[str]) -> None:
    """Require that the unions hold each player exactly once."""
    named = list(chain.from_iterable(unions.values()))
    if sorted(named) != sorted(players) or not all(unions.values()):
        raise GameError(
            f"unions must hold each of {tuple(players)} exactly once, and none be empty; got {dict(unions)}"
        )


def coalition_masks(bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """The union of every subset of the disjoint bit masks, in the order of `Game.worths`."""
    masks = np.zeros(1, dtype=np.int64)
    for bit in bits:
        masks = np.concatenate([masks, masks | bit])
    return masks


def coalition_sizes(players: int) -> NDArray[np.int64]:
    """How many players each coalition has, in the order of `Game.worths`."""
    sizes = np.zeros(1, dtype=np.int64)
    for _ in range(players):
        sizes = np.concatenate([sizes, sizes + 1])
    return sizes

from __future__ import annotations

import numpy as np
import pytest

from tokenomics_plugin.credit import Game, GameError, net_game, shapley


def test_a_game_asks_once_for_each_coalition() -> None:
    asked: list[frozenset[str]] = []

    def worth(coalition: frozenset[str]) -> float:
        asked.append(coalition)
        return float(len(coalition))

    game = Game.of(["a", "b", "c"], worth)
    assert len(asked) == len(set(asked)) == 8
    assert game.worth([]) == 0
    assert game.worth(["c", "a"]) == 2


def test_net_worth_is_value_in_money_less_cost() -> None:
    value = Game.of(["a", "b"], lambda on: 0.3 * len(on))
    cost = Game.of(["a", "b"], lambda on: 0.5 if "a" in on else 0.1)
    net = net_game(value, cost, value_of_success=2.0)
    assert net.worth(["a", "b"]) == pytest.approx(2 * 0.6 - 0.5)
    of_value, of_cost = shapley(value), shapley(cost)
    assert shapley(net) == pytest.approx({player: 2 * of_value[player] - of_cost[player] for player in "ab"})


def test_the_quotient_game_switches_unions_as_a_whole(exact_game: Game) -> None:
    quotient = exact_game.quotient({"researcher": ["plan", "search"], "rest": ["padding", "verify", "chatter"]})
    assert quotient.players == ("researcher", "rest")
    assert quotient.worth(["researcher"]) == pytest.approx(0.6)
    assert quotient.worth(["rest"]) == pytest.approx(0.2)


def test_worths_cannot_change_under_a_game() -> None:
    mine = np.zeros(2)
    game = Game(players=("a",), worths=mine)
    mine[1] = 1
    assert game.worth("a") == 0
    with pytest.raises(ValueError, match="read-only"):
        game.worths[1] = 1


@pytest.mark.parametrize(
    ("players", "worths", "rule"),
    [
        ((), 1, "needs a player"),
        (("a", "a"), 4, "once"),
        (("a", "b"), 3, "2 players need 4 worths"),
        (tuple(map(str, range(21))), 2, "at most 20 players"),
    ],
    ids=["none", "twice", "too few worths", "too many players"],
)
def test_what_is_no_game_is_refused(players: tuple[str, ...], worths: int, rule: str) -> None:
    with pytest.raises(GameError, match=rule):
        Game(players=players, worths=np.zeros(worths))


def test_strangers_do_not_play() -> None:
    game = Game(players=("a", "b"), worths=np.zeros(4))
    with pytest.raises(GameError, match=r"\['c'\] are not players"):
        game.worth(["a", "c"])
    with pytest.raises(GameError, match="same players"):
        _ = game + Game(players=("b", "a"), worths=np.zeros(4))


@pytest.mark.parametrize(
    "unions",
    [{"u": ["a"]}, {"u": ["a", "b"], "v": ["b"]}, {"u": ["a", "b"], "v": []}],
    ids=["left out", "twice", "empty"],
)
def test_unions_hold_each_player_once(unions: dict[str, list[str]]) -> None:
    with pytest.raises(GameError, match="exactly once"):
        Game(players=("a", "b"), worths=np.zeros(4)).quotient(unions)


def test_too_many_players_are_refused_before_any_coalition_is_run() -> None:
    with pytest.raises(GameError, match="at most 20 players"):
        Game.of([str(player) for player in range(40)], lambda _: pytest.fail("ran"))


def test_an_unknown_worth_is_not_taken_for_none() -> None:
    with pytest.raises(GameError, match="must be finite"):
        Game(players=("a",), worths=np.array([0.0, np.nan]))

from __future__ import annotations

from itertools import permutations
from math import fsum
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.credit import Game, banzhaf, interactions, leave_one_out, owen, shapley

worths = st.floats(min_value=-100, max_value=100).map(lambda worth: round(worth, 6))


@st.composite
def games(draw: st.DrawFn, *, most: int = 5) -> Game:
    players = draw(st.integers(min_value=1, max_value=most))
    table = draw(st.lists(worths, min_size=2**players, max_size=2**players))
    return Game(players=tuple("abcde"[:players]), worths=np.array(table))


def weighted_majority(quota: int, weights: dict[str, int]) -> Game:
    return Game.of(list(weights), lambda on: float(sum(weights[player] for player in on) >= quota))


def glove() -> Game:
    """A left glove and two right ones: a pair is worth 1."""
    return Game.of(["left", "right", "spare"], lambda on: float("left" in on and len(on) > 1))


def by_orders(game: Game) -> dict[str, float]:
    """Shapley's own definition."""
    orders = list(permutations(game.players))
    return {
        player: fsum(
            game.worth(order[: order.index(player) + 1]) - game.worth(order[: order.index(player)]) for order in orders
        )
        / len(orders)
        for player in game.players
    }


def test_of_two_gloves_that_replace_each_other_each_gets_a_little_and_neither_is_missed() -> None:
    assert shapley(glove()) == pytest.approx({"left": 2 / 3, "right": 1 / 6, "spare": 1 / 6}, abs=1e-12)
    assert leave_one_out(glove()) == {"left": 1, "right": 0, "spare": 0}


def test_gloves_that_replace_each_other_interact_negatively() -> None:
    found = interactions(glove())
    assert found[frozenset({"right", "spare"})] == pytest.approx(-0.5)
    assert found[frozenset({"left", "spare"})] == pytest.approx(0.5)


def test_dropping_a_pair_loses_what_its_members_do_not_lose_alone() -> None:
    both = leave_one_out(glove().quotient({"left": ["left"], "both right": ["right", "spare"]}))
    assert both == {"left": 1, "both right": 1}


def test_an_airport_charges_each_plane_for_the_runway_it_needs() -> None:
    lengths = {"a": 8, "b": 11, "c": 13, "d": 18}
    game = Game.of(list(lengths), lambda on: max((lengths[plane] for plane in on), default=0))
    assert shapley(game) == pytest.approx({"a": 2, "b": 3, "c": 4, "d": 9}, abs=1e-12)


def test_unanimity_splits_between_those_who_are_needed() -> None:
    game = Game.of(list("abcd"), lambda on: float({"a", "c"} <= on))
    assert shapley(game) == pytest.approx({"a": 0.5, "b": 0, "c": 0.5, "d": 0}, abs=1e-12)


def test_either_or_blocks_split_one_necessary_share() -> None:
    # One step is necessary, and one of two others: a slice's reading of redundant sources.
    game = Game.of(["needed", "one", "other"], lambda on: float("needed" in on and bool(on & {"one", "other"})))
    unions = {"needed": ["needed"], "block": ["one", "other"]}
    assert owen(game, unions) == pytest.approx({"needed": 0.5, "one": 0.25, "other": 0.25})


def test_weighted_majority() -> None:
    game = weighted_majority(6, {"a": 4, "b": 3, "c": 2, "d": 1})
    assert shapley(game) == pytest.approx({"a": 5 / 12, "b": 3 / 12, "c": 3 / 12, "d": 1 / 12}, abs=1e-12)
    assert banzhaf(game) == pytest.approx({"a": 5 / 8, "b": 3 / 8, "c": 3 / 8, "d": 1 / 8}, abs=1e-12)


@pytest.mark.parametrize(
    ("unions", "expected"),
    [
        ({"u": ["left"], "v": ["right", "spare"]}, (1 / 2, 1 / 4, 1 / 4)),
        ({"u": ["left", "right"], "v": ["spare"]}, (3 / 4, 1 / 4, 0)),
    ],
    ids=["right gloves together", "a pair together"],
)
def test_owen_of_the_gloves(unions: dict[str, list[str]], expected: tuple[float, ...]) -> None:
    assert tuple(owen(glove(), unions).values()) == pytest.approx(expected, abs=1e-12)


def test_owen_of_a_vote_by_party() -> None:
    # Nested binary trees, such as a partition explainer's, give (.25, .25, .5, 0): not symmetric where players are.
    game = weighted_majority(3, {"a": 1, "b": 1, "c": 1, "d": 2})
    assert owen(game, {"u": "abc", "v": "d"}) == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3, "d": 0}, abs=1e-12)


def test_the_known_agent(exact_game: Game, true_values: dict[str, float]) -> None:
    assert shapley(exact_game) == pytest.approx(true_values, abs=1e-12)


def test_two_steps_that_only_work_together_share_what_they_reach() -> None:
    game = Game.of(["retrieve", "reason", "format"], lambda on: 0.91 * ({"retrieve", "reason"} <= on))
    found = shapley(game)
    assert sum(found.values()) == pytest.approx(0.91, abs=1e-12)
    assert found["format"] == 0
    assert interactions(game)[frozenset({"retrieve", "reason"})] == pytest.approx(0.91)


@given(games())
def test_shapley_is_the_mean_over_all_orders(game: Game) -> None:
    assert shapley(game) == pytest.approx(by_orders(game), abs=1e-9)


@given(games())
def test_shapley_values_sum_to_the_worth_of_all(game: Game) -> None:
    everyone, scale = game.worth(game.players) - game.worth([]), max(1.0, float(abs(game.worths).max()))
    assert fsum(shapley(game).values()) == pytest.approx(everyone, abs=1e-12 * scale)


@given(games().flatmap(lambda game: st.tuples(st.just(game), st.permutations(game.players))))
def test_the_order_of_players_does_not_matter(case: tuple[Game, list[str]]) -> None:
    game, order = case
    shuffled = Game.of(order, game.worth)
    for rule in (shapley, banzhaf, leave_one_out):
        assert rule(shuffled) == pytest.approx(rule(game), abs=1e-9)
    assert interactions(shuffled) == pytest.approx(interactions(game), abs=1e-9)


@given(games(most=4))
def test_who_changes_nothing_gets_nothing(game: Game) -> None:
    with_idler = Game.of([*game.players, "idler"], lambda on: game.worth(on - {"idler"}))
    unions = {"all but one": game.players[1:], "pair": (game.players[0], "idler")} if len(game.players) > 1 else {}
    for credit in (shapley(with_idler), banzhaf(with_idler), leave_one_out(with_idler)):
        assert credit["idler"] == pytest.approx(0, abs=1e-9)
    if unions:
        assert owen(with_idler, unions)["idler"] == pytest.approx(0, abs=1e-9)
    assert {player: shapley(with_idler)[player] for player in game.players} == pytest.approx(shapley(game), abs=1e-9)


@given(games(), st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_credit_is_additive(game: Game, seed: int, factor: float) -> None:
    other = Game(players=game.players, worths=np.random.default_rng(seed).normal(size=len(game.worths)))
    both = game + factor * other
    for rule in (shapley, banzhaf, leave_one_out):
        one, two = rule(game), rule(other)
        assert rule(both) == pytest.approx({player: one[player] + factor * two[player] for player in one}, abs=1e-9)


@given(games().flatmap(lambda game: st.tuples(st.just(game), st.lists(st.integers(0, 2), min_size=5, max_size=5))))
def test_owen_values_of_a_union_sum_to_what_it_gets_in_the_game_between_unions(case: tuple[Game, list[int]]) -> None:
    game, places = case
    unions: dict[str, list[str]] = {}
    for player, place in zip(game.players, places, strict=False):
        unions.setdefault(f"union {place}", []).append(player)
    tools, agents = owen(game, unions), shapley(game.quotient(unions))
    sums = {name: sum(tools[player] for player in members) for name, members in unions.items()}
    assert sums == pytest.approx(agents, abs=1e-9)


@given(games())
def test_owen_is_shapley_when_unions_say_nothing(game: Game) -> None:
    alone = {f"union of {player}": [player] for player in game.players}
    assert owen(game, alone) == pytest.approx(shapley(game), abs=1e-9)
    assert owen(game, {"everyone": game.players}) == pytest.approx(shapley(game), abs=1e-9)


@given(games())
def test_interaction_of_two_is_what_each_adds_beside_the_other(game: Game) -> None:
    # Restricting the game to coalitions with and without b: the difference of a's Shapley values, by definition.
    for pair, found in interactions(game).items():
        kept, moved = sorted(pair)
        others = [player for player in game.players if player != moved]
        beside = shapley(Game.of(others, lambda on, moved=moved: game.worth(on | {moved})))  # type: ignore[misc]
        without = shapley(Game.of(others, game.worth))
        assert found == pytest.approx(beside[kept] - without[kept], abs=1e-9)


def test_a_player_alone_has_no_one_to_interact_with() -> None:
    assert interactions(Game(players=("a",), worths=np.array([0.0, 1.0]))) == {}


def test_sixteen_players_take_under_a_second() -> None:
    players = tuple(map(str, range(16)))
    game = Game(players=players, worths=np.random.default_rng(0).normal(size=2**16))
    start = perf_counter()
    found = shapley(game)
    assert perf_counter() - start < 1
    assert sum(found.values()) == pytest.approx(game.worths[-1] - game.worths[0], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_shapiq(seed: int) -> None:
    shapiq = pytest.importorskip("shapiq", reason="the cross-check needs shapiq: pip install shapiq")
    players = tuple("abcdef")
    game = Game(players=players, worths=np.random.default_rng(seed).normal(size=2 ** len(players)))

    def worths_of(coalitions: np.ndarray) -> np.ndarray:
        return np.asarray(game.worths[coalitions.astype(int) @ (1 << np.arange(len(players)))])

    computer = shapiq.ExactComputer(worths_of, n_players=len(players))
    theirs, pairs = computer("SV", 1), computer("SII", 2)
    potential = computer("BV", 1)
    for number, player in enumerate(players):
        assert shapley(game)[player] == pytest.approx(theirs[(number,)], abs=1e-10)
        assert banzhaf(game)[player] == pytest.approx(potential[(number,)], abs=1e-10)
    for low in range(len(players)):
        for high in range(low + 1, len(players)):
            ours = interactions(game)[frozenset({players[low], players[high]})]
            assert ours == pytest.approx(pairs[(low, high)], abs=1e-10)

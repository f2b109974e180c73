from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tokenomics_plugin.credit import (
    Game,
    GameError,
    Outcomes,
    Stopped,
    owen,
    replay_every_coalition,
    replay_orders,
    shapley,
)
from tokenomics_plugin.statistics import SetShape

Seeded = Callable[[int], Callable[[np.ndarray], Outcomes]]
PLAYERS = ("plan", "search", "verify", "chatter", "padding")


def noiseless(game: Game) -> Callable[[np.ndarray], Outcomes]:
    def replay(on: np.ndarray) -> Outcomes:
        worths = game.worths[on.astype(int) @ (1 << np.arange(on.shape[1]))]
        return Outcomes(values=worths, costs=np.ones(len(on)))

    return replay


def sample(replay: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {"value_of_success": 1.0, "half_width": None, "max_replays": 1200, "seed": 1}
    return replay_orders(PLAYERS, replay, **settings | changes)


def test_orders_approach_the_exact_values(exact_game: Game, true_values: dict[str, float]) -> None:
    found = sample(noiseless(exact_game), max_replays=24_000).credit.of_value()
    assert {player: mean.estimate for player, mean in found.items()} == pytest.approx(true_values, abs=0.02)
    # Additive players differ in no order, so nothing is uncertain about them.
    assert found["verify"].interval.low == pytest.approx(0.2, abs=1e-12)


def test_each_draw_sums_to_the_worth_of_all(exact_game: Game) -> None:
    credit = sample(noiseless(exact_game)).credit
    everyone = exact_game.worth(PLAYERS) - exact_game.worth([])
    assert credit.values.sum(axis=1) == pytest.approx(np.full(100, everyone), abs=1e-12)


def test_every_coalition_once_a_round_gives_the_exact_values(exact_game: Game) -> None:
    found = replay_every_coalition(PLAYERS, noiseless(exact_game), rounds=2)
    assert found.replays == 64
    estimates = {player: mean.estimate for player, mean in found.credit.of_value().items()}
    assert estimates == pytest.approx(shapley(exact_game), abs=1e-12)
    assert {mean.estimate for mean in found.credit.of_cost().values()} == {0}


def test_every_coalition_gives_owens_values_too(exact_game: Game) -> None:
    unions = {"researcher": ["plan", "chatter"], "writer": ["search", "verify", "padding"]}
    found = replay_every_coalition(PLAYERS, noiseless(exact_game), rounds=2, unions=unions).credit.of_value()
    assert {player: mean.estimate for player, mean in found.items()} == pytest.approx(owen(exact_game, unions))


def test_orders_that_respect_unions_approach_owens_values() -> None:
    game = Game.of(["left", "right", "spare"], lambda on: float("left" in on and len(on) > 1))
    unions = {"pair": ["left", "right"], "alone": ["spare"]}
    found = replay_orders(
        game.players,
        noiseless(game),
        value_of_success=1,
        half_width=None,
        max_replays=8000,
        seed=3,
        unions=unions,
    ).credit.of_value()
    exact = owen(game, unions)
    assert {player: mean.estimate for player, mean in found.items()} == pytest.approx(exact, abs=0.02)
    assert found["spare"].estimate == 0


def test_the_same_seed_draws_the_same(noisy_replay: Seeded) -> None:
    one, two, other = (sample(noisy_replay(5), seed=seed).credit.of_value() for seed in (7, 7, 8))
    assert one == two
    assert one != other


def test_it_stops_when_every_interval_is_narrow_enough(noisy_replay: Seeded) -> None:
    found = sample(noisy_replay(1), value_of_success=2.0, half_width=0.2, max_replays=100_000)
    assert found.stopped is Stopped.PRECISE
    for mean in found.credit.of_net(2.0).values():
        assert mean.interval.high - mean.estimate <= 0.2
    narrower = sample(noisy_replay(1), value_of_success=2.0, half_width=0.1, max_replays=100_000)
    assert narrower.replays > 2 * found.replays


def test_it_stops_before_it_would_go_over_the_budget(noisy_replay: Seeded) -> None:
    runs = 0
    replay = noisy_replay(1)

    def counting(on: np.ndarray) -> Outcomes:
        nonlocal runs
        runs += len(on)
        return replay(on)

    found = sample(counting, half_width=1e-6, max_replays=1000)
    assert found.stopped is Stopped.BUDGET
    assert found.replays == runs == 996, "83 pairs of 12 replays"


def test_net_credit_is_value_in_money_less_cost(noisy_replay: Seeded) -> None:
    credit = sample(noisy_replay(2)).credit
    value, cost, net = credit.of_value(), credit.of_cost(), credit.of_net(3.0)
    for player in PLAYERS:
        assert net[player].estimate == pytest.approx(3 * value[player].estimate - cost[player].estimate)


def test_value_per_dollar_has_fiellers_set_and_none_for_what_saves(
    noisy_replay: Seeded, true_values: dict[str, float], true_costs: dict[str, float]
) -> None:
    replay, seeds, covered = noisy_replay(4), 60, 0
    for seed in range(seeds):
        found = sample(replay, seed=seed).credit.value_per_dollar(2.0)
        assert found["chatter"] is None, "it lowers the cost"
        for player in ("plan", "search", "verify", "padding"):
            ratio = found[player]
            assert ratio is not None
            assert ratio.confidence_set.shape is SetShape.INTERVAL
            covered += 2 * true_values[player] / true_costs[player] in ratio.confidence_set
    assert covered / (4 * seeds) == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize("rounds", [None, 15], ids=["orders", "every coalition"])
def test_nominal_coverage_holds(noisy_replay: Seeded, true_values: dict[str, float], rounds: int | None) -> None:
    replay, replications = noisy_replay(11), 200
    covered = dict.fromkeys(PLAYERS, 0)
    for seed in range(replications):
        found = replay_every_coalition(PLAYERS, replay, rounds=rounds) if rounds else sample(replay, seed=seed)
        for player, mean in found.credit.of_value().items():
            covered[player] += true_values[player] in mean.interval
    # Five players, correlated: between the standard errors of 200 and of 1000 draws, 1.5 and 0.7 points.
    assert sum(covered.values()) / (5 * replications) == pytest.approx(0.95, abs=0.025)
    assert min(covered.values()) / replications > 0.89


@pytest.mark.parametrize(
    ("changes", "rule"),
    [({"max_replays": 23}, "at least 24 replays"), ({"unions": {"u": ["plan"]}}, "exactly once")],
    ids=["too few replays", "unions"],
)
def test_what_cannot_be_estimated_is_refused(exact_game: Game, changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(GameError, match=rule):
        sample(noiseless(exact_game), **changes)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [({"rounds": 1}, "at least 2 rounds"), ({"unions": {"u": ["plan"]}}, "exactly once")],
    ids=["one round", "unions"],
)
def test_nothing_is_run_for_what_cannot_be_estimated(changes: dict[str, Any], rule: str) -> None:
    settings: dict[str, Any] = {"rounds": 2}
    with pytest.raises(GameError, match=rule):
        replay_every_coalition(PLAYERS, lambda _: pytest.fail("ran"), **settings | changes)


def test_a_replay_answers_for_every_run() -> None:
    with pytest.raises(GameError, match="one of costs for each of"):
        sample(lambda on: Outcomes(values=np.ones(len(on)), costs=np.ones(1)))


def test_a_run_without_an_outcome_is_not_taken_for_a_failure() -> None:
    with pytest.raises(GameError, match="finite values"):
        sample(lambda on: Outcomes(values=np.full(len(on), np.nan), costs=np.ones(len(on))))

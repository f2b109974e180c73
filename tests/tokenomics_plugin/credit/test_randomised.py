from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from tokenomics_plugin.credit import (
    CoalitionDraws,
    Game,
    GameError,
    Outcomes,
    draw_each_alone,
    draw_sizes_alike,
    one_pass_shapley,
    shapley,
)

Seeded = Callable[[int], Callable[[np.ndarray], Outcomes]]
PLAYERS = ("plan", "search", "verify", "chatter", "padding")


def each_coalition_once(probability: float) -> CoalitionDraws:
    on = np.array(list(product([False, True], repeat=5)))
    size = on.sum(axis=1)
    return CoalitionDraws(players=PLAYERS, on=on, propensities=probability**size * (1 - probability) ** (5 - size))


def test_weights_times_odds_sum_to_the_shapley_values(exact_game: Game) -> None:
    # Each coalition as often as its odds say: the estimator's expectation, without chance.
    draws = each_coalition_once(0.5)
    worths = exact_game.worths[draws.on.astype(int) @ (1 << np.arange(5))]
    found = one_pass_shapley(draws, Outcomes(values=worths, costs=np.ones(32))).of_value()
    # 32 equally likely runs; the mean of the others as the centre stretches an exact design by 32 / 31.
    estimates = {player: mean.estimate * 31 / 32 for player, mean in found.items()}
    assert estimates == pytest.approx(shapley(exact_game), abs=1e-12)


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: draw_each_alone(PLAYERS, probability=0.5, runs=1200, seed=seed),
        lambda seed: draw_each_alone(PLAYERS, probability=0.7, runs=1200, seed=seed),
        lambda seed: draw_sizes_alike(PLAYERS, runs=1200, seed=seed),
    ],
    ids=["fair coins", "mostly on", "sizes alike"],
)
def test_it_is_unbiased_and_covers(
    noisy_replay: Seeded, true_values: dict[str, float], true_costs: dict[str, float], draw: Callable[[int], Any]
) -> None:
    replay, replications = noisy_replay(3), 200
    estimates, covered = [], 0
    for seed in range(replications):
        draws = draw(seed)
        credit = one_pass_shapley(draws, replay(draws.on))
        means = credit.of_value()
        estimates.append([mean.estimate for mean in means.values()])
        covered += sum(true_values[player] in mean.interval for player, mean in means.items())
        covered += sum(true_costs[player] in mean.interval for player, mean in credit.of_cost().items())
    errors = np.std(estimates, axis=0) / replications**0.5
    assert np.all(abs(np.mean(estimates, axis=0) - list(true_values.values())) < 4 * errors)
    assert covered / (10 * replications) == pytest.approx(0.95, abs=0.02)


def test_centring_takes_away_what_all_runs_share(noisy_replay: Seeded) -> None:
    draws = draw_sizes_alike(PLAYERS, runs=400, seed=1)
    outcomes = noisy_replay(1)(draws.on)
    shifted = Outcomes(values=outcomes.values + 1000, costs=outcomes.costs)
    one, two = (one_pass_shapley(draws, found).of_value() for found in (outcomes, shifted))
    for player in PLAYERS:
        assert one[player].estimate == pytest.approx(two[player].estimate, abs=1e-9)


def test_runs_of_one_task_are_one_draw(noisy_replay: Seeded) -> None:
    draws = draw_each_alone(PLAYERS, probability=0.5, runs=300, seed=1)
    outcomes = noisy_replay(1)(draws.on)
    tasks = CoalitionDraws(
        players=PLAYERS,
        on=draws.on,
        propensities=draws.propensities,
        clusters=[f"task {run % 100}" for run in range(300)],
    )
    by_task = one_pass_shapley(tasks, outcomes)
    assert by_task.of_value()["plan"].clusters == 100
    assert by_task.sizes.tolist() == [3] * 100


def test_copies_of_every_run_add_no_certainty_when_their_task_is_named(noisy_replay: Seeded) -> None:
    draws = draw_each_alone(PLAYERS, probability=0.5, runs=200, seed=1)
    outcomes = noisy_replay(1)(draws.on)
    twice = CoalitionDraws(
        players=PLAYERS,
        on=np.repeat(draws.on, 2, axis=0),
        propensities=np.repeat(draws.propensities, 2),
        clusters=np.repeat(np.arange(200), 2),
    )
    doubled = Outcomes(values=np.repeat(outcomes.values, 2), costs=np.repeat(outcomes.costs, 2))
    once, doubly = one_pass_shapley(draws, outcomes).of_value(), one_pass_shapley(twice, doubled).of_value()
    for player in PLAYERS:
        assert doubly[player].interval.low == pytest.approx(once[player].interval.low)
        assert doubly[player].interval.high == pytest.approx(once[player].interval.high)


def test_seeds_reproduce() -> None:
    one, same, other = (draw_sizes_alike(PLAYERS, runs=50, seed=seed).on for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_sizes_come_up_alike_and_their_odds_are_right() -> None:
    draws = draw_sizes_alike(PLAYERS, runs=30_000, seed=1)
    assert np.bincount(draws.on.sum(axis=1)) / 30_000 == pytest.approx(np.full(6, 1 / 6), abs=0.01)
    assert (1 / draws.propensities).mean() == pytest.approx(32, rel=0.02), "a coalition's odds sum to 1 over all 32"


def test_nearly_everything_on_leaves_few_effective_runs() -> None:
    fair = draw_each_alone(PLAYERS, probability=0.5, runs=1000, seed=1)
    mostly = draw_each_alone(PLAYERS, probability=0.95, runs=1000, seed=1)
    assert fair.effective_runs == pytest.approx(1000)
    assert mostly.effective_runs < 100


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"on": np.ones((4, 4), dtype=bool)}, "5 players"),
        ({"propensities": np.ones(3)}, "each of 4 runs needs a propensity"),
        ({"propensities": np.array([0.5, 0.5, 0.5, 0.0])}, "above 0"),
    ],
    ids=["players", "runs", "impossible"],
)
def test_draws_that_cannot_be_are_refused(changes: dict[str, Any], rule: str) -> None:
    fields: dict[str, Any] = {"players": PLAYERS, "on": np.ones((4, 5), dtype=bool), "propensities": np.full(4, 0.5)}
    with pytest.raises(GameError, match=rule):
        CoalitionDraws(**fields | changes)


def test_each_run_needs_an_outcome_and_a_chance_to_be_otherwise() -> None:
    draws = draw_sizes_alike(PLAYERS, runs=4, seed=1)
    with pytest.raises(GameError, match="one of costs"):
        one_pass_shapley(draws, Outcomes(values=np.ones(4), costs=np.ones(3)))
    with pytest.raises(GameError, match="strictly between"):
        draw_each_alone(PLAYERS, probability=1.0, runs=4, seed=1)

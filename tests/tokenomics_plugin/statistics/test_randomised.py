from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tokenomics_plugin.statistics import RandomisedDecisions

EFFECT, DEARER = 0.09, 0.5


class World:
    """Agents that go on with hard tasks, which fail more and cost more; a coin overrules them one time in five."""

    def __init__(self, random: np.random.Generator, tasks: int) -> None:
        difficulty = random.random(tasks)
        wants = difficulty > 0.5
        self.probabilities = np.where(wants, 0.9, 0.1)
        self.went_on = random.random(tasks) < self.probabilities
        self.known = np.stack([random.poisson(3 * difficulty), wants], axis=1).astype(float)
        self.succeeds = (random.random(tasks) < 0.85 - 0.6 * difficulty + EFFECT * self.went_on).astype(float)
        self.costs = random.lognormal(0, 0.5, tasks) * (1 + difficulty) + DEARER * self.went_on

    def decisions(self) -> RandomisedDecisions:
        return RandomisedDecisions(went_on=self.went_on, probabilities=self.probabilities, known_before=self.known)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(31)


def test_arms_that_always_end_alike_differ_by_just_that() -> None:
    on = [True, False, False, True] * 10
    outcomes = [1.0 if choice else 0.25 for choice in on]
    found = RandomisedDecisions(went_on=on, probabilities=[0.3] * 40).effect(outcomes)
    assert (found.estimate, found.interval.low, found.interval.high) == pytest.approx((0.75, 0.75, 0.75))
    assert found.clusters == 40


def test_an_outcome_that_a_line_predicts_has_no_error(random: np.random.Generator) -> None:
    known = random.normal(size=(200, 2))
    on = random.random(200) < 0.3
    outcomes = known @ [2.0, -1.0] + 0.7 * on
    found = RandomisedDecisions(went_on=on, probabilities=[0.3] * 200, known_before=known).effect(outcomes)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.7, 0.7))


def test_a_comparison_as_agents_chose_has_the_wrong_sign(random: np.random.Generator) -> None:
    world = World(random, 20_000)
    naive = world.succeeds[world.went_on].mean() - world.succeeds[~world.went_on].mean()
    found = world.decisions().effect(world.succeeds)
    assert naive < -0.1
    assert EFFECT in found.interval
    assert (found.interval.low or 0) > 0


def test_wrong_predictions_cost_precision_and_not_truth(random: np.random.Generator) -> None:
    world = World(random, 20_000)
    useless = random.normal(size=(20_000, 1))
    blind = RandomisedDecisions(went_on=world.went_on, probabilities=world.probabilities, known_before=useless).effect(
        world.succeeds
    )
    seeing = world.decisions().effect(world.succeeds)
    assert EFFECT in blind.interval
    assert (blind.interval.high or 0) - blind.estimate > (seeing.interval.high or 0) - seeing.estimate


def test_its_marginal_value_is_worth_less_cost(random: np.random.Generator) -> None:
    world = World(random, 2000)
    decisions = world.decisions()
    gain, cost = decisions.effect(world.succeeds), decisions.effect(world.costs)
    found = decisions.marginal_value(world.succeeds, world.costs, value=10)
    assert found.estimate == pytest.approx(10 * gain.estimate - cost.estimate)


def test_it_breaks_even_at_the_cost_of_an_additional_success(random: np.random.Generator) -> None:
    world = World(random, 20_000)
    decisions = world.decisions()
    found = decisions.cost_per_additional_success(world.succeeds, world.costs)
    assert DEARER / EFFECT in found.confidence_set
    assert decisions.marginal_value(world.succeeds, world.costs, value=found.estimate).estimate == pytest.approx(0)


def test_decisions_of_one_task_are_one_draw(random: np.random.Generator) -> None:
    world = World(random, 500)
    repeated = RandomisedDecisions(
        went_on=np.repeat(world.went_on, 4),
        probabilities=np.repeat(world.probabilities, 4),
        known_before=np.repeat(world.known, 4, axis=0),
        clusters=[index // 4 for index in range(2000)],
    ).effect(np.repeat(world.succeeds, 4))
    once = world.decisions().effect(world.succeeds)
    assert repeated.clusters == 500
    assert (repeated.interval.low, repeated.interval.high) == pytest.approx((once.interval.low, once.interval.high))


def test_nominal_coverage_holds(random: np.random.Generator, slack: Callable[[int], float]) -> None:
    replications, covered, estimates = 500, 0, []
    for _ in range(replications):
        world = World(random, 800)
        found = world.decisions().effect(world.succeeds)
        estimates.append(found.estimate)
        covered += EFFECT in found.interval
    assert covered / replications == pytest.approx(0.95, abs=slack(replications))
    assert np.mean(estimates) == pytest.approx(EFFECT, abs=4 * np.std(estimates) / replications**0.5)


@pytest.mark.parametrize(
    ("on", "chances", "known", "rule"),
    [
        ([True, False], [0.5, 1.0], None, "strictly between 0 and 1"),
        ([True, True], [0.5, 0.5], None, "decisions of both kinds"),
        ([True], [0.5, 0.5], None, "one decision per probability"),
        ([True, False], [0.5, 0.5], [[1.0]], "known_before must be finite, of shape"),
    ],
    ids=["certain", "one arm", "too few", "too little known"],
)
def test_what_teaches_nothing_is_refused(
    on: list[bool], chances: list[float], known: list[list[float]] | None, rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        RandomisedDecisions(went_on=on, probabilities=chances, known_before=known)


def test_few_decisions_are_predicted_by_their_mean() -> None:
    decisions = RandomisedDecisions(
        went_on=[True, False, True], probabilities=[0.5] * 3, known_before=[[1.0], [2.0], [3.0]]
    )
    assert decisions.effect([1.0, 0.0, 1.0]).clusters == 3

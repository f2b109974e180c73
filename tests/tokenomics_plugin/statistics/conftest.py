"""Agents to simulate: tasks of unequal difficulty, heavy-tailed costs, failures dearer than successes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import settings

# A busy machine may stall any example for longer than Hypothesis allows it.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Trials of the same tasks; arrays are (tasks, trials)."""

    costs: np.ndarray
    successes: np.ndarray

    def by_task(self) -> list[tuple[float, float]]:
        """(cost, successes) of each task: its trials are one cluster."""
        return list(zip(self.costs.sum(axis=1).tolist(), self.successes.sum(axis=1).tolist(), strict=True))

    def by_trial(self) -> list[tuple[float, float]]:
        """(cost, successes) of each trial, as if trials of one task were independent."""
        return list(zip(self.costs.ravel().tolist(), self.successes.ravel().tolist(), strict=True))


Simulator = Callable[..., Runs]
ALPHA, BETA = 0.45, 0.6
FAILURE_DEARNESS = 1.6
COST_SPREAD = 0.8
TRUE_RATE = ALPHA / (ALPHA + BETA)
# Task cost is lognormal with mean exp(spread**2 / 2), and a failed trial costs `FAILURE_DEARNESS` times more.
TRUE_COST_PER_SUCCESS = float(np.exp(COST_SPREAD**2 / 2) * (TRUE_RATE + (1 - TRUE_RATE) * FAILURE_DEARNESS) / TRUE_RATE)


@pytest.fixture
def simulate() -> Simulator:
    """Draws runs whose true success rate and cost per success are known."""
    random = np.random.default_rng(20260101)

    def draw(*, tasks: int, trials: int) -> Runs:
        difficulty = random.beta(ALPHA, BETA, size=(tasks, 1))
        successes = random.random((tasks, trials)) < difficulty
        costs = random.lognormal(0, COST_SPREAD, (tasks, trials)) * np.where(successes, 1, FAILURE_DEARNESS)
        return Runs(costs=costs, successes=successes.astype(int))

    return draw


@pytest.fixture
def true_cost_per_success() -> float:
    return TRUE_COST_PER_SUCCESS


@pytest.fixture
def true_rate() -> float:
    return TRUE_RATE

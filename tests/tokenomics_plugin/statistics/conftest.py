"""Agents to simulate: tasks of unequal difficulty, heavy-tailed costs, failures dearer than successes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

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


@pytest.fixture
def slack() -> Callable[[int], float]:
    """Three standard errors of a coverage of 95 % measured in so many samples."""
    return lambda replications: 3 * sqrt(0.95 * 0.05 / replications)


@pytest.fixture
def tau_airline() -> list[tuple[int, int]]:
    """(successes, trials) of the 50 tasks of tau-bench airline that gpt-4o tried four times each."""
    folder = Path(os.environ.get("TOKENOMICS_SHARED_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
    path = folder / "trajectories/tau-bench-gpt4o-airline/historical_trajectories/gpt-4o-airline.json"
    if not path.is_file():
        pytest.skip(f"{path} is absent: name the folder of the data in TOKENOMICS_SHARED_DATA")
    rewards: dict[int, list[float]] = {}
    for run in json.loads(path.read_text(encoding="utf-8")):
        rewards.setdefault(run["task_id"], []).append(run["reward"])
    return [(int(sum(found)), len(found)) for found in rewards.values()]

"""An agent of five switches whose worth is known in closed form, and games at random."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings

from tokenomics_plugin.credit import Game, Outcomes

# A busy machine may stall any example for longer than Hypothesis allows it.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

PLAYERS = ("plan", "search", "verify", "chatter", "padding")
TRUE_VALUES = {"plan": 0.25, "search": 0.25, "verify": 0.2, "chatter": -0.1, "padding": 0.0}
TRUE_COSTS = {"plan": 0.10, "search": 0.05, "verify": 0.20, "chatter": -0.05, "padding": 0.1}


def success_rate(on: np.ndarray) -> np.ndarray:
    """0.1 + 0.5 [plan and search] + 0.2 [verify] - 0.1 [chatter]."""
    return np.asarray(0.1 + 0.5 * (on[:, 0] & on[:, 1]) + 0.2 * on[:, 2] - 0.1 * on[:, 3])


@pytest.fixture
def noisy_replay() -> Callable[[int], Callable[[np.ndarray], Outcomes]]:
    """Makes an agent that fails by chance, from a seed."""

    def seeded(seed: int) -> Callable[[np.ndarray], Outcomes]:
        random = np.random.default_rng(seed)

        def replay(on: np.ndarray) -> Outcomes:
            return Outcomes(
                values=(random.random(len(on)) < success_rate(on)).astype(float),
                costs=0.5 + on @ np.array(list(TRUE_COSTS.values())) + random.normal(0, 0.1, len(on)),
            )

        return replay

    return seeded


@pytest.fixture
def exact_game() -> Game:
    """The same agent's success rates."""
    return Game.of(
        PLAYERS,
        lambda on: 0.1 + 0.5 * ({"plan", "search"} <= on) + 0.2 * ("verify" in on) - 0.1 * ("chatter" in on),
    )


@pytest.fixture
def true_values() -> dict[str, float]:
    return TRUE_VALUES


@pytest.fixture
def true_costs() -> dict[str, float]:
    return TRUE_COSTS

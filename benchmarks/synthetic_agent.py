"""An agent made up so that the truth is known: a structural causal model with planted value, waste and confounding.

Two studies of the same agent:

*Runs.* A hidden difficulty makes runs fail, and makes the agent reflect and retry, and makes both cost more. Half of
it belongs to the task and half to the run. The log holds a proxy of it. A fifth of the decisions to reflect and to
retry is a coin's, and the odds are logged. Outcomes arrive late, successes before failures, and a judge scores every
run but is kind to failures; people label some of them.

*Components.* Five switches with planted values and costs: two that need each other, one that helps alone, one that
harms, and one that only costs. The same difficulty makes tasks differ, and no switch knows it.

Every truth is an integral over the difficulty, taken by quadrature, so that nothing is estimated twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from tokenomics_plugin.credit import Game, Outcomes, leave_one_out, net_game, shapley

__all__ = ["COMPONENTS", "VALUE_OF_SUCCESS", "RunLogs", "component_truths", "draw_runs", "replay", "run_truths"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Runs
REFLECTION_EFFECT = 0.089
RUNS_PER_TASK = 2
TASK_SHARE = 0.5
"""Share of the difficulty's variance that belongs to the task."""
EXPLORED = 0.2
"""Share of decisions that a coin takes."""
PROXY_NOISE = 0.6
SENSE_NOISE = 0.35
"""How roughly the agent itself senses the difficulty when it decides."""
EASE, HARDNESS = 0.2, 1.15
"""Log odds of a first attempt at mean difficulty, and what each unit of difficulty takes away."""
RETRY_EASE = -0.6
RUN_COST, COST_SPREAD, COST_OF_DIFFICULTY = 0.10, 0.5, 0.3
REFLECTION_COST, RETRY_COST = 0.4, 0.8
"""As shares of the cost of a first attempt."""
HORIZON_DAYS, OLDEST_DAYS = 14.0, 30.0
SUCCESS_DELAY_DAYS, FAILURE_DELAY_DAYS = 5.0, 15.0
JUDGE_PASSES_SUCCESS, JUDGE_PASSES_FAILURE = 0.9, 0.35
LABELLED = 100

# Components
COMPONENTS = ("plan", "search", "verify", "second guess", "padding")
COMPONENT_COSTS = (-0.05, 0.10, 0.08, 0.08, 0.12)
"""Planning saves: the rest takes shorter ways."""
BASE_COST, COMPONENT_COST_SPREAD = 0.30, 0.3
VALUE_OF_SUCCESS = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class RunLogs:
    """What the log holds of each run, and nothing that it would not."""

    task: NDArray[np.int64]
    """Task of each run."""
    proxy: Floats
    """What is known of its difficulty before it starts."""
    reflected: Bools
    """Whether the agent reflected."""
    reflection_drawn: Bools
    """Whether a coin took that decision."""
    reflection_odds: Floats
    """Probability of reflecting, as logged."""
    failed_first: Bools
    """Whether the first attempt failed, so that a retry was to be decided on."""
    retried: Bools
    """Whether the agent tried again."""
    retry_odds: Floats
    """Probability of a retry, where one was to be decided on."""
    success: Floats
    """1 if the run succeeded in the end, 0 if it failed: known to the log only once `delay` is over."""
    cost: Floats
    """Money."""
    delay: Floats
    """Days from the run to its outcome."""
    age: Floats
    """Days from the run to now."""
    judged: Floats
    """What the judge says, 1 or 0."""
    labelled: Bools
    """Whether people labelled it; each is of another task."""

    def __len__(self) -> int:
        return len(self.task)


def draw_runs(random: np.random.Generator, *, tasks: int) -> RunLogs:
    """Let the agent run each task a few times."""
    runs = tasks * RUNS_PER_TASK
    task = np.repeat(np.arange(tasks), RUNS_PER_TASK)
    of_task, of_run = random.normal(size=tasks)[task], random.normal(size=runs)
    difficulty = np.sqrt(TASK_SHARE) * of_task + np.sqrt(1 - TASK_SHARE) * of_run
    reflected, reflection_drawn, reflection_odds = _decide(random, difficulty)
    failed_first = random.random(runs) >= _first_success(difficulty, reflected)
    wants_retry, _, retry_odds = _decide(random, difficulty)
    retried = failed_first & wants_retry
    success = ~failed_first | (retried & (random.random(runs) < _retry_success(difficulty)))
    dearness = _dearness(random, COST_SPREAD, runs)
    delay = random.exponential(np.where(success, SUCCESS_DELAY_DAYS, FAILURE_DELAY_DAYS))
    passes = np.where(success, JUDGE_PASSES_SUCCESS, JUDGE_PASSES_FAILURE)
    labelled = np.zeros(runs, dtype=np.bool_)
    labelled[RUNS_PER_TASK * random.choice(tasks, size=LABELLED, replace=False)] = True
    return RunLogs(
        task=task,
        proxy=difficulty + random.normal(0, PROXY_NOISE, runs),
        reflected=reflected,
        reflection_drawn=reflection_drawn,
        reflection_odds=reflection_odds,
        failed_first=failed_first,
        retried=retried,
        retry_odds=retry_odds,
        success=success.astype(np.float64),
        cost=_mean_cost(difficulty, reflected, retried) * dearness,
        delay=delay,
        age=random.uniform(0, OLDEST_DAYS, runs),
        judged=(random.random(runs) < passes).astype(np.float64),
        labelled=labelled,
    )


@cache
def run_truths() -> dict[str, float]:
    """What estimators of runs are after."""
    difficulty, weights = _difficulty_nodes()
    odds = _decision_odds(difficulty)
    succeeds = {on: _success(difficulty, on) for on in (True, False)}
    fails_first = {on: 1 - _first_success(difficulty, on) for on in (True, False)}
    costs = {
        on: (1 - fails_first[on] * odds) * _mean_cost(difficulty, on, False)
        + fails_first[on] * odds * _mean_cost(difficulty, on, True)
        for on in (True, False)
    }

    def overall(figures: dict[bool, Floats]) -> Floats:
        return odds * figures[True] + (1 - odds) * figures[False]

    fails = overall(fails_first)
    rate = float(weights @ overall(succeeds))
    effect, price = (float(weights @ (figures[True] - figures[False])) for figures in (succeeds, costs))
    return {
        "reflection": effect,
        "net of reflection": VALUE_OF_SUCCESS * effect - price,
        "retry": float(weights @ (fails * _retry_success(difficulty)) / (weights @ fails)),
        "success rate": rate,
        "success within the horizon": rate * (1 - float(np.exp(-HORIZON_DAYS / SUCCESS_DELAY_DAYS))),
        "cost per success": float(weights @ overall(costs)) / rate,
    }


def replay(random: np.random.Generator) -> Callable[[Bools], Outcomes]:
    """Runs a task, of difficulty drawn anew, for each row of switches."""

    def run(on: Bools) -> Outcomes:
        # Between 3/4 and 5/4, and 1 on average: no difficulty leaves the unit interval or moves a planted value.
        ease = 1.25 - 0.5 * random.random(len(on))
        dearness = _dearness(random, COMPONENT_COST_SPREAD, len(on))
        return Outcomes(
            values=(random.random(len(on)) < _component_success(on) * ease).astype(np.float64),
            costs=(BASE_COST + on @ np.array(COMPONENT_COSTS)) * dearness,
        )

    return run


@cache
def component_truths() -> dict[str, float]:
    """What estimators of components are after."""
    value = Game.of(COMPONENTS, lambda on: float(_component_success(_row(on))[0]))
    cost = Game.of(COMPONENTS, lambda on: BASE_COST + float((_row(on) @ np.array(COMPONENT_COSTS))[0]))
    values, costs = shapley(value), shapley(cost)
    net = leave_one_out(net_game(value, cost, value_of_success=VALUE_OF_SUCCESS))
    truths: dict[str, float] = {}
    for name in COMPONENTS:
        truths |= {
            f"value of {name}": values[name],
            f"cost of {name}": costs[name],
            f"last-in net of {name}": net[name],
        }
        if costs[name] > 0:
            truths[f"value per dollar of {name}"] = VALUE_OF_SUCCESS * values[name] / costs[name]
    return truths


def _dearness(random: np.random.Generator, spread: float, runs: int) -> Floats:
    """Heavy-tailed, and 1 on average."""
    return random.lognormal(-(spread**2) / 2, spread, runs)


def _decide(random: np.random.Generator, difficulty: Floats) -> tuple[Bools, Bools, Floats]:
    """What was decided, whether a coin did, and how likely it was."""
    wants: Bools = difficulty + random.normal(0, SENSE_NOISE, len(difficulty)) > 0
    drawn: Bools = random.random(len(difficulty)) < EXPLORED
    decided = np.where(drawn, random.random(len(difficulty)) < 0.5, wants)
    return decided, drawn, np.where(wants, 1 - EXPLORED / 2, EXPLORED / 2)


def _decision_odds(difficulty: Floats) -> Floats:
    """The same odds, averaged over what the agent senses."""
    return np.asarray((1 - EXPLORED) * special.ndtr(difficulty / SENSE_NOISE) + EXPLORED / 2)


def _first_success(difficulty: Floats, reflected: Bools | bool) -> Floats:
    return np.asarray(special.expit(EASE - HARDNESS * difficulty + _reflection_log_odds() * reflected))


def _retry_success(difficulty: Floats) -> Floats:
    return np.asarray(special.expit(RETRY_EASE - HARDNESS * difficulty))


def _success(difficulty: Floats, reflected: bool, log_odds: float | None = None) -> Floats:
    log_odds = _reflection_log_odds() if log_odds is None else log_odds
    first = special.expit(EASE - HARDNESS * difficulty + log_odds * reflected)
    return np.asarray(first + (1 - first) * _decision_odds(difficulty) * _retry_success(difficulty))


def _mean_cost(difficulty: Floats, reflected: Bools | bool, retried: Bools | bool) -> Floats:
    attempts = 1 + REFLECTION_COST * np.asarray(reflected) + RETRY_COST * np.asarray(retried)
    return np.asarray(RUN_COST * np.exp(COST_OF_DIFFICULTY * difficulty) * attempts)


@cache
def _reflection_log_odds() -> float:
    """What reflection must add to the log odds of a first attempt for the planted effect on the run."""
    difficulty, weights = _difficulty_nodes()

    def excess(log_odds: float) -> float:
        effect = weights @ (_success(difficulty, True, log_odds) - _success(difficulty, False, log_odds))
        return float(effect) - REFLECTION_EFFECT

    return float(optimize.brentq(excess, 0, 5, xtol=1e-14))


@cache
def _difficulty_nodes() -> tuple[Floats, Floats]:
    """Nodes and weights of an integral over the difficulty."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    nodes, weights = 9 * nodes, weights * np.exp(-((9 * nodes) ** 2) / 2)
    return nodes, weights / weights.sum()


def _component_success(on: Bools) -> Floats:
    return np.asarray(0.1 + 0.5 * (on[:, 0] & on[:, 1]) + 0.2 * on[:, 2] - 0.1 * on[:, 3])


def _row(on: frozenset[str]) -> Bools:
    return np.array([[name in on for name in COMPONENTS]])

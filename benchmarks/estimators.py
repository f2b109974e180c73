"""Whether each estimator finds what is known: its bias and coverage on the synthetic agent.

The agent (`synthetic_agent.py`) is drawn again and again; every estimator sees the same draws and answers what it
is for. A row is one estimator and one truth: mean error, spread, the share of nominal 95 % intervals that hold the
truth, the share that exclude it on the wrong side of 0, and half the width.

Estimators are of two kinds. Those that are promised to cover must do so in 93 to 97 of 100 draws, and some more
each way for the number of draws. Those that are not (what one would do without thinking) are there to show by how
much they miss; of reflection, the naive difference must have the wrong sign while randomisation covers the truth.

To add an estimator, add it to `OF_RUNS` or `OF_COMPONENTS`: a function from what one study logs to guesses, one
for each truth.

The table is for people; the last line of stdout is one JSON document with the same figures and the checks.
The exit status is 1 if a check does not hold.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from time import process_time
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import synthetic_agent as agent
from closing import Check, close
from tokenomics_plugin.credit import (
    Arm,
    Association,
    Credit,
    LeaveOneOutNet,
    RandomisedEffect,
    Replay,
    Replayed,
    Verdict,
    adjusted_association,
    draw_each_alone,
    draw_sizes_alike,
    leave_one_out_net,
    one_pass_shapley,
    randomised_effect,
    replay_every_coalition,
    replay_orders,
)
from tokenomics_plugin.credit.clusters import Clusters
from tokenomics_plugin.statistics import ConfidenceSet, Mean, Range, Ratio, cluster_mean, ratio_of_sums
from tokenomics_plugin.statistics.quantiles import normal_quantile

LOWEST_COVERAGE, HIGHEST_COVERAGE = 0.93, 0.97
STANDARD_ERRORS = 3
LATE = "success within the horizon"
REPLAYS = 1200
ARM_RUNS = 400

Floats = NDArray[np.float64]


class Guess(NamedTuple):
    """What an estimator says of one truth."""

    estimate: float
    region: Range | ConfidenceSet


class Promise(StrEnum):
    """What an estimator must show here."""

    COVERS = "covers"
    """Its intervals hold the truth as often as they say."""
    WRONG_SIGN = "wrong sign"
    """It is on the other side of 0, to nearly every draw."""
    NOTHING = "nothing"
    """It is shown beside the others."""


@dataclass(frozen=True, kw_only=True)
class Components:
    """The study of components: each estimator designs its own experiment and pays for as many runs."""

    replay: Replay
    """Runs coalitions."""
    seed: int
    """Draws designs."""


Study = TypeVar("Study", agent.RunLogs, Components)


@dataclass(frozen=True, kw_only=True)
class Estimator(Generic[Study]):
    """A way to answer."""

    name: str
    """Shown."""
    guess: Callable[[Study], Mapping[str, Guess]]
    """Truth -> what it says."""
    promise: Promise
    """What it must show."""


# Runs


def plain_difference(logs: agent.RunLogs) -> dict[str, Guess]:
    return {"reflection": of(adjusted_association(logs.success, on=logs.reflected, clusters=logs.task))}


def runs_with_a_retry(logs: agent.RunLogs) -> dict[str, Guess]:
    """Takes what happened for what was decided: only runs that had failed once were retried."""
    return {"retry": of(adjusted_association(logs.success, on=logs.retried, clusters=logs.task))}


def adjusted_for_proxy(logs: agent.RunLogs) -> dict[str, Guess]:
    found = adjusted_association(
        logs.success, on=logs.reflected, covariates=logs.proxy[:, np.newaxis], clusters=logs.task
    )
    return {"reflection": of(found)}


def adjusted_within_tasks(logs: agent.RunLogs) -> dict[str, Guess]:
    found = adjusted_association(
        logs.success,
        on=logs.reflected,
        covariates=logs.proxy[:, np.newaxis],
        clusters=logs.task,
        within_clusters=True,
    )
    return {"reflection": of(found)}


def aipw(logs: agent.RunLogs) -> dict[str, Guess]:
    every, reached = np.ones(len(logs), dtype=np.bool_), logs.failed_first
    net = agent.VALUE_OF_SUCCESS * logs.success - logs.cost

    def effect(outcomes: Floats, on: NDArray[np.bool_], odds: Floats, among: NDArray[np.bool_]) -> Guess:
        found = randomised_effect(
            outcomes[among],
            on=on[among],
            propensities=odds[among],
            covariates=logs.proxy[among, np.newaxis],
            clusters=logs.task[among],
        )
        return of(found)

    return {
        "reflection": effect(logs.success, logs.reflected, logs.reflection_odds, every),
        "net of reflection": effect(net, logs.reflected, logs.reflection_odds, every),
        "retry": effect(logs.success, logs.retried, logs.retry_odds, reached),
    }


def coin_flips_alone(logs: agent.RunLogs) -> dict[str, Guess]:
    drawn = logs.reflection_drawn
    found = randomised_effect(
        logs.success[drawn],
        on=logs.reflected[drawn],
        propensities=np.full(int(drawn.sum()), 0.5),
        clusters=logs.task[drawn],
    )
    return {"reflection": of(found)}


def seen_so_far(logs: agent.RunLogs) -> dict[str, Guess]:
    seen = logs.delay <= logs.age
    return {LATE: of(by_task(logs.success[seen], logs.task[seen]))}


def pending_as_failed(logs: agent.RunLogs) -> dict[str, Guess]:
    return {LATE: of(by_task(logs.success * in_time(logs), logs.task))}


def weights_to_sum_one(logs: agent.RunLogs) -> dict[str, Guess]:
    """Hajek's: the mean of the outcomes that came, weighted; its target is another population."""
    weights = in_time(logs) / still_waiting(logs)
    clusters = Clusters.of(logs.task, runs=len(logs))
    return {LATE: of(ratio_of_sums(pairs(clusters.sums(weights * logs.success), clusters.sums(weights))))}


def mature_cohort(logs: agent.RunLogs) -> dict[str, Guess]:
    mature = logs.age >= agent.HORIZON_DAYS
    in_horizon = logs.success * (logs.delay <= agent.HORIZON_DAYS)
    return {LATE: of(by_task(in_horizon[mature], logs.task[mature]))}


def ipcw(logs: agent.RunLogs) -> dict[str, Guess]:
    """Outcomes that came, over the odds that a run is old enough for one so late, over all runs."""
    return {LATE: of(by_task(logs.success * in_time(logs) / still_waiting(logs), logs.task))}


def judge_alone(logs: agent.RunLogs) -> dict[str, Guess]:
    return {"success rate": of(by_task(logs.judged, logs.task))}


def people_alone(logs: agent.RunLogs) -> dict[str, Guess]:
    return {"success rate": of(by_task(logs.success[logs.labelled], logs.task[logs.labelled]))}


def prediction_powered(logs: agent.RunLogs) -> dict[str, Guess]:
    """PPI++ (Angelopoulos et al., arXiv 2311.01453) with the weight of the judge that suits the labels best."""
    first_run = np.arange(len(logs)) % agent.RUNS_PER_TASK == 0
    labels, judged = logs.success[logs.labelled], logs.judged[logs.labelled]
    unlabelled = logs.judged[first_run & ~logs.labelled]
    share = len(labels) / len(unlabelled)
    trust = float(np.cov(labels, judged)[0, 1] / ((1 + share) * np.var(unlabelled, ddof=1)))
    rest = labels - trust * judged
    estimate = float(trust * unlabelled.mean() + rest.mean())
    variance = trust**2 * unlabelled.var(ddof=1) / len(unlabelled) + rest.var(ddof=1) / len(labels)
    reach = normal_quantile(0.95) * math.sqrt(variance)
    return {"success rate": Guess(estimate, Range(low=estimate - reach, high=estimate + reach))}


def fieller_by_task(logs: agent.RunLogs) -> dict[str, Guess]:
    clusters = Clusters.of(logs.task, runs=len(logs))
    return {"cost per success": of(ratio_of_sums(pairs(clusters.sums(logs.cost), clusters.sums(logs.success))))}


def fieller_by_run(logs: agent.RunLogs) -> dict[str, Guess]:
    return {"cost per success": of(ratio_of_sums(pairs(logs.cost, logs.success)))}


# Components


def one_pass_fair_coins(study: Components) -> dict[str, Guess]:
    draws = draw_each_alone(agent.COMPONENTS, probability=0.5, runs=REPLAYS, seed=study.seed)
    return of_credit(one_pass_shapley(draws, study.replay(draws.on)))


def one_pass_sizes_alike(study: Components) -> dict[str, Guess]:
    draws = draw_sizes_alike(agent.COMPONENTS, runs=REPLAYS, seed=study.seed)
    return of_credit(one_pass_shapley(draws, study.replay(draws.on)))


def every_coalition(study: Components) -> dict[str, Guess]:
    rounds = REPLAYS // 2 ** len(agent.COMPONENTS)
    return of_credit(replay_every_coalition(agent.COMPONENTS, study.replay, rounds=rounds).credit)


def antithetic_orders(study: Components) -> dict[str, Guess]:
    credit = orders(study, half_width=None, max_replays=REPLAYS).credit
    ratios = credit.value_per_dollar(agent.VALUE_OF_SUCCESS)
    return of_credit(credit) | {
        f"value per dollar of {name}": of(ratio)
        for name, ratio in ratios.items()
        if ratio is not None and f"value per dollar of {name}" in agent.component_truths()
    }


def orders_until_precise(study: Components) -> dict[str, Guess]:
    return of_credit(orders(study, half_width=0.07, max_replays=20 * REPLAYS).credit)


def orders(study: Components, *, half_width: float | None, max_replays: int) -> Replayed:
    return replay_orders(
        agent.COMPONENTS,
        study.replay,
        value_of_success=agent.VALUE_OF_SUCCESS,
        half_width=half_width,
        max_replays=max_replays,
        seed=study.seed,
    )


def leave_one_out(study: Components) -> dict[str, Guess]:
    return {f"last-in net of {name}": of(found.net) for name, found in dropped(study).items()}


def dropped(study: Components) -> dict[str, LeaveOneOutNet]:
    """Every component left out in turn, on tasks of its own."""
    whole = np.ones((ARM_RUNS, len(agent.COMPONENTS)), dtype=np.bool_)
    all_on = Arm(outcomes=study.replay(whole), clusters=np.arange(ARM_RUNS))
    found = {}
    for number, name in enumerate(agent.COMPONENTS):
        without = whole.copy()
        without[:, number] = False
        arm = Arm(outcomes=study.replay(without), clusters=np.arange(ARM_RUNS) + ARM_RUNS)
        found[name] = leave_one_out_net(all_on, arm, value_of_success=agent.VALUE_OF_SUCCESS)
    return found


OF_RUNS: tuple[Estimator[agent.RunLogs], ...] = (
    Estimator(name="naive difference (association)", guess=plain_difference, promise=Promise.WRONG_SIGN),
    Estimator(name="adjusted for a proxy (association)", guess=adjusted_for_proxy, promise=Promise.NOTHING),
    Estimator(name="adjusted, within tasks (association)", guess=adjusted_within_tasks, promise=Promise.NOTHING),
    Estimator(name="AIPW, 20 % randomised", guess=aipw, promise=Promise.COVERS),
    Estimator(name="coin flips alone", guess=coin_flips_alone, promise=Promise.COVERS),
    Estimator(name="runs with and without a retry (association)", guess=runs_with_a_retry, promise=Promise.WRONG_SIGN),
    Estimator(name="outcomes seen so far", guess=seen_so_far, promise=Promise.NOTHING),
    Estimator(name="pending counted as failed", guess=pending_as_failed, promise=Promise.NOTHING),
    Estimator(name="weights normalised (Hajek)", guess=weights_to_sum_one, promise=Promise.NOTHING),
    Estimator(name="mature cohort", guess=mature_cohort, promise=Promise.COVERS),
    Estimator(name="IPCW", guess=ipcw, promise=Promise.COVERS),
    Estimator(name="judge alone", guess=judge_alone, promise=Promise.NOTHING),
    Estimator(name="human labels alone", guess=people_alone, promise=Promise.COVERS),
    Estimator(name="PPI++", guess=prediction_powered, promise=Promise.COVERS),
    Estimator(name="Fieller, runs as if independent", guess=fieller_by_run, promise=Promise.NOTHING),
    Estimator(name="Fieller by task", guess=fieller_by_task, promise=Promise.COVERS),
)
OF_COMPONENTS: tuple[Estimator[Components], ...] = (
    Estimator(name="one-pass Shapley, fair coins", guess=one_pass_fair_coins, promise=Promise.COVERS),
    Estimator(name="one-pass Shapley, sizes alike", guess=one_pass_sizes_alike, promise=Promise.COVERS),
    Estimator(name="permutation Shapley", guess=antithetic_orders, promise=Promise.COVERS),
    Estimator(name="permutation Shapley until precise", guess=orders_until_precise, promise=Promise.COVERS),
    Estimator(name="Shapley of every coalition", guess=every_coalition, promise=Promise.COVERS),
    Estimator(name="leave one out", guess=leave_one_out, promise=Promise.COVERS),
)


# What estimators share


def of(found: Association | RandomisedEffect | Mean | Ratio) -> Guess:
    return Guess(found.estimate, found.confidence_set if isinstance(found, Ratio) else found.interval)


def of_credit(credit: Credit) -> dict[str, Guess]:
    return {f"value of {name}": of(mean) for name, mean in credit.of_value().items()} | {
        f"cost of {name}": of(mean) for name, mean in credit.of_cost().items()
    }


def by_task(figures: Floats, tasks: NDArray[np.int64]) -> Mean:
    clusters = Clusters.of(tasks, runs=len(figures))
    return cluster_mean(pairs(clusters.sums(figures), clusters.sizes))


def pairs(first: Floats, second: Floats) -> Iterator[tuple[float, float]]:
    return zip(first.tolist(), second.tolist(), strict=True)


def in_time(logs: agent.RunLogs) -> NDArray[np.bool_]:
    """Whether the outcome is there, and came within the horizon."""
    return logs.delay <= np.minimum(logs.age, agent.HORIZON_DAYS)


def still_waiting(logs: agent.RunLogs) -> Floats:
    """Share of all runs that are old enough for an outcome as late as each run's."""
    ages = np.sort(logs.age)
    return np.maximum(1 - np.searchsorted(ages, logs.delay) / len(ages), 1 / len(ages))


# Scores


class Row(NamedTuple):
    """How an estimator did on one truth, over all draws."""

    estimator: str
    truth: str
    true: float
    bias: float
    spread: float
    coverage: float
    wrong_sign: float
    half_width: float
    draws: int
    promise: Promise


def replicate(replications: int, *, tasks: int, seed: int) -> tuple[list[Row], dict[str, float]]:
    """Draw both studies again and again, and let every estimator guess."""
    guesses: dict[tuple[str, str], list[Guess]] = {}
    drops = dict.fromkeys(agent.COMPONENTS, 0)
    for draw, source in enumerate(tqdm(np.random.SeedSequence(seed).spawn(replications), mininterval=5, disable=None)):
        random = np.random.default_rng(source)
        logs = agent.draw_runs(random, tasks=tasks)
        study = Components(replay=agent.replay(random), seed=seed + draw)
        for estimator in OF_RUNS:
            collect(guesses, estimator.name, estimator.guess(logs))
        for of_components in OF_COMPONENTS:
            collect(guesses, of_components.name, of_components.guess(study))
        for name, found in dropped(study).items():
            drops[name] += found.verdict is Verdict.DROP
    promises = {estimator.name: estimator.promise for estimator in OF_RUNS}
    promises |= {estimator.name: estimator.promise for estimator in OF_COMPONENTS}
    truths = agent.run_truths() | agent.component_truths()
    rows = [score(name, truth, truths[truth], found, promises[name]) for (name, truth), found in guesses.items()]
    return rows, {name: count / replications for name, count in drops.items()}


def collect(guesses: dict[tuple[str, str], list[Guess]], name: str, found: Mapping[str, Guess]) -> None:
    for truth, guess in found.items():
        guesses.setdefault((name, truth), []).append(guess)


def score(name: str, truth: str, true: float, guesses: list[Guess], promise: Promise) -> Row:
    estimates = np.array([guess.estimate for guess in guesses])
    return Row(
        estimator=name,
        truth=truth,
        true=true,
        bias=float(estimates.mean() - true),
        spread=float(estimates.std(ddof=1)),
        coverage=sum(true in guess.region for guess in guesses) / len(guesses),
        wrong_sign=sum(excludes_the_sign(guess.region, true) for guess in guesses) / len(guesses),
        half_width=float(np.median([half_width(guess.region) for guess in guesses])),
        draws=len(guesses),
        promise=promise,
    )


def excludes_the_sign(region: Range | ConfidenceSet, true: float) -> bool:
    if region.low is None or region.high is None or region.low > region.high:
        return False
    return region.high < 0 < true or true < 0 < region.low


def half_width(region: Range | ConfidenceSet) -> float:
    if region.low is None or region.high is None or region.low > region.high:
        return math.inf
    return (region.high - region.low) / 2


# Report


def make_checks(rows: list[Row], drops: Mapping[str, float]) -> Iterator[Check]:
    for row in rows:
        name = f"{row.estimator}: {row.truth}"
        if row.promise is Promise.COVERS:
            slack = STANDARD_ERRORS * math.sqrt(0.95 * 0.05 / row.draws)
            low, high = LOWEST_COVERAGE - slack, min(1.0, HIGHEST_COVERAGE + slack)
            yield Check(
                name=f"{name}: coverage",
                value=round(row.coverage, 4),
                goal=f"{low:.3f} to {high:.3f}: nominal 95 %, {STANDARD_ERRORS} standard errors of {row.draws} draws",
                holds=low <= row.coverage <= high,
            )
        elif row.promise is Promise.WRONG_SIGN:
            yield Check(
                name=f"{name}: share of intervals on the wrong side of 0",
                value=round(row.wrong_sign, 4),
                goal=">= 0.95",
                holds=row.wrong_sign >= 0.95,
            )
    truths = agent.component_truths()
    for name, share in drops.items():
        keeps = truths[f"last-in net of {name}"] > 0
        yield Check(
            name=f"{name}: share of draws in which it is dropped",
            value=round(share, 4),
            goal="<= 0.025" if keeps else ">= 0.5",
            holds=share <= 0.025 if keeps else share >= 0.5,
        )


def print_table(rows: list[Row], drops: Mapping[str, float]) -> None:
    heads = ("truth", "bias", "sd", "coverage", "wrong sign", "half width")
    print(f"{'estimator':44} {'of':34} " + " ".join(f"{head:>10}" for head in heads))
    for row in rows:
        figures = (row.true, row.bias, row.spread, row.coverage, row.wrong_sign, row.half_width)
        print(f"{row.estimator:44} {row.truth:34} " + " ".join(f"{figure:10.4f}" for figure in figures))
    for name, share in drops.items():
        print(f"dropped by leave-one-out net: {name:13} in {share:6.1%} of draws")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=20260101)
    options = parser.parse_args()
    start = process_time()
    rows, drops = replicate(options.replications, tasks=options.tasks, seed=options.seed)
    seconds = process_time() - start
    print_table(rows, drops)
    close(
        "estimators",
        packages=["numpy", "scipy"],
        figures={"estimators": [row._asdict() for row in rows], "dropped": drops, "cpu_seconds": round(seconds, 1)},
        checks=[
            *make_checks(rows, drops),
            Check(name="CPU seconds", value=round(seconds, 1), goal="< 60", holds=seconds < 60),
        ],
        options=vars(options),
    )


if __name__ == "__main__":
    main()

"""Whether intervals that say 95 % contain the truth 95 % of the time, in simulated agents whose truth is known.

Tasks are of unequal difficulty, costs are heavy-tailed and failures dearer, as in public traces of agents. Beside
each method stands what goes wrong without it: trials of one task taken for independent, an interval for one look read
daily, pending outcomes counted as failures, a judge believed, a decision compared as agents made it.

A coverage measured in 1,000 samples has a standard error of 0.7 points.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from closing import Check, close
from tokenomics_plugin.statistics import (
    AuditedStratum,
    Cohort,
    ConfidenceSet,
    Draw,
    Flips,
    Judged,
    JudgedSample,
    LateValue,
    RandomisedDecisions,
    Range,
    bootstrap_t_interval,
    calibrate,
    cluster_mean,
    draw_spans,
    excess_sequence,
    forecast_attempts,
    log_delta_interval,
    pass_hat_k,
    ratio_of_sums,
    value_within,
)

Floats = NDArray[np.float64]
ALPHA, BETA = 0.45, 0.6
RATE = ALPHA / (ALPHA + BETA)
COST_SPREAD, FAILURE_DEARNESS = 0.8, 1.6
# A task costs exp(spread**2 / 2) on average, and a failed trial `FAILURE_DEARNESS` times more.
COST_PER_SUCCESS = float(np.exp(COST_SPREAD**2 / 2) * (RATE + (1 - RATE) * FAILURE_DEARNESS) / RATE)
LOWEST, HIGHEST = 0.93, 0.97

# (trials per task, tasks): coverage of log-delta, Fieller, studentised bootstrap, and log-delta ignoring clusters,
# as measured in another simulation of this kind.
SETTINGS: dict[tuple[int, int], tuple[float, float, float, float | None]] = {
    (1, 10): (0.93, 0.96, 0.87, None),
    (1, 20): (0.94, 0.95, 0.92, None),
    (1, 50): (0.94, 0.94, 0.94, None),
    (4, 10): (0.94, 0.96, 0.94, 0.79),
    (4, 30): (0.95, 0.95, 0.95, 0.83),
    (4, 200): (0.95, 0.95, 0.94, 0.80),
}
# Means (or coverages) of the same estimators in another simulation of each kind, with a truth of its own.
ELSEWHERE: dict[str, dict[str, str]] = {
    "value within a horizon": {
        "seen so far": "mean .651 of .494",
        "pending failed": "mean .401 of .494",
        "seen, reweighted": "mean .594 of .494",
        "all": "mean .494 of .494",
        "mature": "mean .496 of .494",
    },
    "judged tasks": {"judge only": "coverage .39", "both": "coverage .944, 10 % narrower than people only"},
    "randomised decisions": {"as agents chose": "mean -.145 of +.089", "randomised": "mean .080 of .089"},
}
METHODS = ("log-delta", "Fieller", "bootstrap-t", "clusters ignored")


@dataclass(kw_only=True)
class Tally:
    """Estimates and whether their intervals contained the truth."""

    truth: float
    covered: int = 0
    estimates: list[float] = field(default_factory=list)

    def add(self, estimate: float, limits: Range | ConfidenceSet) -> None:
        self.covered += self.truth in limits
        self.estimates.append(estimate)

    @property
    def coverage(self) -> float:
        return self.covered / len(self.estimates)

    @property
    def bias_in_errors(self) -> float:
        """Bias of the estimate in standard errors of its mean over samples."""
        values = np.array(self.estimates)
        return float(abs(values.mean() - self.truth) / (values.std() / np.sqrt(len(values))))


def trials(random: np.random.Generator, tasks: int, each: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Costs and successes, shape (tasks, trials)."""
    difficulty = random.beta(ALPHA, BETA, (tasks, 1))
    successes = random.random((tasks, each)) < difficulty
    costs = random.lognormal(0, COST_SPREAD, (tasks, each)) * np.where(successes, 1, FAILURE_DEARNESS)
    return costs, successes


def ratio_coverage(random: np.random.Generator, each: int, tasks: int, replications: int) -> dict[str, float]:
    """Share of samples with a success whose intervals contain the true cost per success."""
    covered = dict.fromkeys(METHODS, 0)
    samples = 0
    while samples < replications:
        costs, successes = trials(random, tasks, each)
        if not successes.any():
            continue  # no ratio, and no interval that could miss it
        samples += 1
        by_task = np.stack([costs.sum(axis=1), successes.sum(axis=1)], axis=1)
        by_trial = np.stack([costs.ravel(), successes.ravel()], axis=1)
        found: dict[str, Range | ConfidenceSet] = {
            "log-delta": log_delta_interval(by_task),
            "Fieller": ratio_of_sums(by_task).confidence_set,
            "bootstrap-t": bootstrap_t_interval(by_task, seed=samples),
            "clusters ignored": log_delta_interval(by_trial),
        }
        for name, limits in found.items():
            covered[name] += COST_PER_SUCCESS in limits
    return {name: count / replications for name, count in covered.items()}


def watched(random: np.random.Generator, replications: int, runs: int = 3000) -> dict[str, float]:
    """How often a true reference is rejected somewhere in a series that is looked at after each run."""
    alarms = {"one-look interval": 0, "confidence sequence": 0}
    widths = []
    for _ in range(replications):
        costs, successes = trials(random, runs, 1)
        pairs = np.concatenate([costs, successes], axis=1)
        found = excess_sequence(pairs, COST_PER_SUCCESS)
        excess = pairs[:, 0] - COST_PER_SUCCESS * pairs[:, 1]
        means = np.cumsum(excess) / np.arange(1, runs + 1)
        errors = np.sqrt(np.cumsum((excess - means) ** 2) / np.arange(1, runs + 1) ** 2)
        shown = slice(int(found.sizes[0]) - 1, None)
        alarms["one-look interval"] += bool((abs(means[shown]) > 1.96 * errors[shown]).any())
        alarms["confidence sequence"] += found.first_excluding(0.0) is not None
        at = int(np.searchsorted(found.sizes, 500))
        widths.append((found.highs[at] - found.lows[at]) / (2 * 1.96 * errors[499]))
    return {name: count / replications for name, count in alarms.items()} | {"width": float(np.mean(widths))}


def late(random: np.random.Generator, replications: int, tasks: int = 1000) -> dict[str, Tally]:
    """Successes become known sooner than failures; what has arrived is a flattering sample."""
    horizon, rate = 14.0, 0.5263
    truth = rate * (1 - np.exp(-horizon / 5))
    naive_names = ("seen so far", "pending failed", "seen, reweighted")
    tallies = {name: Tally(truth=float(truth)) for name in (*naive_names, *(cohort.value for cohort in Cohort))}
    for _ in range(replications):
        ages = random.uniform(0, 20, tasks)
        succeeds = random.random(tasks) < rate
        delays = random.exponential(np.where(succeeds, 5.0, 12.0))
        arrived = delays <= ages
        known = [
            LateValue(followed_for=age, arrived_after=delay, value=float(good)) if seen else LateValue(followed_for=age)
            for age, delay, good, seen in zip(
                ages.tolist(), delays.tolist(), succeeds.tolist(), arrived.tolist(), strict=True
            )
        ]
        realised = succeeds & arrived & (delays <= horizon)
        weights = 1 / (1 - delays[arrived] / 20)
        naive_pairs = (
            np.stack([realised[arrived], np.ones(arrived.sum())], axis=1),
            np.stack([realised, np.ones(tasks)], axis=1),
            np.stack([realised[arrived] * weights, weights], axis=1),
        )
        for name, pairs in zip(naive_names, naive_pairs, strict=True):
            naive = cluster_mean(pairs)
            tallies[name].add(naive.estimate, naive.interval)
        for cohort in Cohort:
            found = value_within(known, horizon, cohort=cohort)
            tallies[cohort.value].add(found.estimate, found.interval)
    return tallies


def judged(random: np.random.Generator, replications: int, tasks: int = 2000, labels: int = 100) -> dict[str, Tally]:
    """A judge that passes three failures in ten and misses a quarter of the successes; people label 100 of 2,000."""
    tallies = {name: Tally(truth=0.5) for name in ("judge only", "people only", "both")}
    for _ in range(replications):
        truth = random.random(tasks) < 0.5
        scores = np.where(truth, random.random(tasks) < 0.76, random.random(tasks) < 0.29).astype(float)
        known: list[float | None] = [float(good) if index < labels else None for index, good in enumerate(truth)]
        both = JudgedSample(scores=scores, labels=known).value().mean
        for name, values in (("judge only", scores), ("people only", truth[:labels].astype(float))):
            alone = cluster_mean(np.stack([values, np.ones(len(values))], axis=1))
            tallies[name].add(alone.estimate, alone.interval)
        tallies["both"].add(both.estimate, both.interval)
    return tallies


def decisions(random: np.random.Generator, replications: int, tasks: int = 1500) -> dict[str, Tally]:
    """Agents reflect on hard tasks, which fail more: reflection helps, and looks harmful. One in five is a coin."""
    effect = 0.09
    tallies = {name: Tally(truth=effect) for name in ("as agents chose", "randomised")}
    for _ in range(replications):
        difficulty = random.random(tasks)
        errors = random.poisson(3 * difficulty)
        wants = difficulty > 0.5
        chance = np.where(wants, 0.9, 0.1)  # the coin, one time in five, overrules half the time
        reflects = random.random(tasks) < chance
        succeeds = (random.random(tasks) < 0.85 - 0.6 * difficulty + effect * reflects).astype(float)
        gap = succeeds[reflects].mean() - succeeds[~reflects].mean()
        spread = np.sqrt(succeeds[reflects].var() / reflects.sum() + succeeds[~reflects].var() / (~reflects).sum())
        tallies["as agents chose"].add(float(gap), Range(low=float(gap - 2 * spread), high=float(gap + 2 * spread)))
        found = RandomisedDecisions(
            went_on=reflects, probabilities=chance, known_before=np.stack([errors, wants], axis=1).astype(float)
        ).effect(succeeds)
        tallies["randomised"].add(found.estimate, found.interval)
    return tallies


def reliability(random: np.random.Generator, replications: int, tasks: int = 50) -> dict[str, Tally]:
    """pass^k and the smoothed chance of each further attempt, of 50 tasks tried four times."""
    tallies = {}
    true_hat = 1.0
    for k in range(1, 5):
        true_hat *= (ALPHA + k - 1) / (ALPHA + BETA + k - 1)
        tallies[f"pass^{k}"] = Tally(truth=true_hat)
        tallies[f"attempt {k}"] = Tally(truth=ALPHA / (ALPHA + BETA + k - 1))
    for sample in range(replications):
        counts = [(int(count), 4) for count in trials(random, tasks, 4)[1].sum(axis=1)]
        for attempt in forecast_attempts(counts, 4, seed=sample):
            tallies[f"attempt {attempt.attempt}"].add(attempt.probability, attempt.interval)
            found = pass_hat_k(counts, attempt.attempt)
            tallies[f"pass^{attempt.attempt}"].add(found.estimate, found.interval)
    return tallies


def flips(random: np.random.Generator, replications: int, tasks: int = 120) -> dict[str, Tally]:
    """A revision that repairs 9 % and breaks 3 % of tasks."""
    tally = Tally(truth=0.06)
    for _ in range(replications):
        repaired, broken, _ = random.multinomial(tasks, [0.09, 0.03, 0.88]).tolist()
        found = Flips(repaired=repaired, broken=broken, tasks=tasks)
        tally.add(found.net_share, found.net_share_interval())
    return {"net share": tally}


def audits(random: np.random.Generator, replications: int, judged_each: int = 40) -> dict[str, Tally]:
    """Two detectors, right in 90 % and 40 % of what they flag; 3 % waste among the rest; 40 spans judged of each."""
    shares = {"duplicate": 0.9, "unused": 0.4, "rest": 0.03}
    costs = {name: random.lognormal(0, 1.2, size) for name, size in zip(shares, (800, 1500, 20_000), strict=True)}
    waste = {name: random.random(len(costs[name])) < share for name, share in shares.items()}
    truth = float(sum((costs[name] * waste[name]).sum() for name in shares))
    tallies = {draw.value: Tally(truth=truth) for draw in Draw}
    for _ in range(replications):
        for draw in Draw:
            found = calibrate(audited(random, name, costs[name], waste[name], judged_each, draw) for name in shares)
            tallies[draw.value].add(found.waste, found.interval)
    return tallies


def audited(
    random: np.random.Generator, name: str, costs: Floats, waste: NDArray[np.bool_], judged_each: int, draw: Draw
) -> AuditedStratum:
    drawn = (
        draw_spans(costs, judged_each, seed=int(random.integers(2**31)))
        if draw is Draw.BY_COST
        else random.choice(len(costs), judged_each, replace=False)
    )
    return AuditedStratum(
        name=name,
        flagged=name != "rest",
        cost=float(costs.sum()),
        spans=len(costs),
        judged=[Judged(cost=float(costs[index]), waste=float(waste[index])) for index in drawn],
        draw=draw,
    )


def speed(random: np.random.Generator, tasks: int = 100_000) -> dict[str, float]:
    """Milliseconds of each estimate, once."""
    costs, successes = trials(random, tasks, 4)
    pairs = np.stack([costs.sum(axis=1), successes.sum(axis=1)], axis=1)
    counts = [(int(count), 4) for count in pairs[:, 1]]
    late_tasks = [LateValue(followed_for=20.0, arrived_after=float(cost)) for cost in np.minimum(pairs[:, 0], 20)]
    labels = np.where(np.arange(tasks) < 500, successes[:, 0], np.nan)
    coin = random.random(tasks) < 0.5
    estimates: dict[str, Callable[[], object]] = {
        "Fieller": lambda: ratio_of_sums(pairs),
        "log-delta": lambda: log_delta_interval(pairs),
        "bootstrap-t": lambda: bootstrap_t_interval(pairs),
        "confidence sequence": lambda: excess_sequence(pairs, COST_PER_SUCCESS),
        "pass^4": lambda: pass_hat_k(counts, 4),
        "attempts": lambda: forecast_attempts(counts, 6),
        "horizon": lambda: value_within(late_tasks, 14.0),
        "judged": lambda: JudgedSample(scores=pairs[:, 1], labels=labels).cost_per_value(pairs[:, 0]),
        "randomised": lambda: RandomisedDecisions(
            went_on=coin, probabilities=np.full(tasks, 0.5), known_before=pairs
        ).effect(pairs[:, 1]),
    }
    return {name: 1000 * timeit.timeit(estimate, number=1) for name, estimate in estimates.items()}


def within(name: str, coverage: float) -> Check:
    return Check(
        name=f"coverage: {name}",
        value=round(coverage, 4),
        goal=f"{LOWEST:.0%} to {HIGHEST:.0%}",
        holds=LOWEST <= coverage <= HIGHEST,
    )


def unbiased(name: str, tally: Tally) -> Check:
    return Check(
        name=f"bias: {name}",
        value=round(tally.bias_in_errors, 2),
        goal="at most 4 standard errors of the mean over samples",
        holds=tally.bias_in_errors <= 4,
    )


def show(title: str, tallies: dict[str, Tally]) -> dict[str, float]:
    other = ELSEWHERE.get(title, {})
    print(f"\n{title}" + (" (right: another simulation)" if other else ""))
    for name, tally in tallies.items():
        values = np.array(tally.estimates)
        print(
            f"  {name:18} truth {tally.truth:9.4f}   mean {values.mean():9.4f}   sd {values.std():8.4f}"
            f"   coverage {tally.coverage:.3f}   {other.get(name, '')}"
        )
    return {f"{title}: {name}: coverage": round(tally.coverage, 4) for name, tally in tallies.items()}


def ratios(random: np.random.Generator, replications: int) -> tuple[dict[str, float], list[Check]]:
    print(f"cost per success, {replications} samples (another simulation's figures in brackets)")
    print(f"  {'trials, tasks':14}" + "".join(f"{name:>20}" for name in METHODS))
    figures: dict[str, float] = {}
    checks: list[Check] = []
    for (each, tasks), published in SETTINGS.items():
        found = ratio_coverage(random, each, tasks, replications)
        cells = (
            f"{found[name]:.3f} " + ("      " if other is None else f"({other:.2f})")
            for name, other in zip(METHODS, published, strict=True)
        )
        print(f"  {f'{each}, {tasks}':14}" + "".join(f"{cell:>20}" for cell in cells))
        figures |= {f"{name} ({each}, {tasks})": round(coverage, 4) for name, coverage in found.items()}
        # Promised where the method is: Fieller everywhere, the others from where they measure at least 94 %.
        checks += [
            within(f"{name} ({each}, {tasks})", found[name])
            for name, other in zip(METHODS[:3], published, strict=False)
            if name == "Fieller" or (other or 0) >= 0.94
        ]
    return figures, checks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20260101)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    figures, checks = ratios(random, options.replications)

    alarms = watched(random, options.replications)
    print(f"\nfalse alarms while watching 3,000 runs: {alarms} (another simulation: 0.48, 0.068; width 1.55)")
    figures |= {f"watched: {name}": round(value, 4) for name, value in alarms.items()}
    checks.append(
        Check(
            name="false alarms of the confidence sequence",
            value=alarms["confidence sequence"],
            goal="at most 7 %, of which 5 % nominal",
            holds=alarms["confidence sequence"] <= 0.07,
        )
    )

    simulations: Sequence[tuple[str, Callable[[np.random.Generator, int], dict[str, Tally]], set[str]]] = (
        ("value within a horizon", late, {"all", "mature"}),
        ("judged tasks", judged, {"both"}),
        ("randomised decisions", decisions, {"randomised"}),
        ("reliability", reliability, {f"pass^{k}" for k in range(1, 5)} | {f"attempt {k}" for k in range(1, 5)}),
        ("flips", flips, {"net share"}),
        ("audits", audits, {draw.value for draw in Draw}),
    )
    for title, simulate, promised in simulations:
        tallies = simulate(random, options.replications)
        figures |= show(title, tallies)
        checks += [within(f"{title}: {name}", tallies[name].coverage) for name in tallies if name in promised]
        # The chance of a further attempt is a curved function of the fit, biased by a hundredth with 50 tasks.
        checks += [
            unbiased(f"{title}: {name}", tallies[name])
            for name in tallies
            if name in promised and not name.startswith("attempt")
        ]

    durations = speed(random)
    print("\nmilliseconds for 100,000 tasks: " + ", ".join(f"{name} {value:.0f}" for name, value in durations.items()))
    figures |= {f"milliseconds: {name}": round(value, 1) for name, value in durations.items()}
    slowest = max(value for name, value in durations.items() if name != "bootstrap-t")
    checks.append(
        Check(
            name="slowest estimate of 100,000 tasks, resampling them apart, in milliseconds",
            value=round(slowest),
            goal="under 1,000",
            holds=slowest < 1000,
        )
    )
    close("intervals", packages=["numpy", "scipy"], figures=figures, checks=checks)


if __name__ == "__main__":
    main()

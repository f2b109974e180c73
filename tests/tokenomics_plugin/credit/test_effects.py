from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

from tokenomics_plugin.credit import adjusted_association, randomised_effect

TRUE_EFFECT = 0.1


class Logs(NamedTuple):
    outcomes: np.ndarray
    on: np.ndarray
    propensities: np.ndarray
    proxy: np.ndarray
    hidden: np.ndarray


def hard_tasks_reflect(seed: int, *, runs: int = 2000) -> Logs:
    """What is hard reflects; a fifth of the decisions is a coin's."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=runs)
    wants = hidden > 0
    propensities = 0.8 * wants + 0.1
    on = random.random(runs) < propensities
    outcomes = 0.5 - 0.3 * hidden + TRUE_EFFECT * on + random.normal(0, 0.3, runs)
    return Logs(outcomes, on, propensities, hidden + random.normal(0, 0.7, runs), hidden)


def test_hidden_difficulty_turns_the_sign_of_what_is_observed() -> None:
    logs = hard_tasks_reflect(1)
    naive = adjusted_association(logs.outcomes, on=logs.on)
    adjusted = adjusted_association(logs.outcomes, on=logs.on, covariates=logs.proxy[:, np.newaxis])
    assert naive.interval.high is not None
    assert naive.interval.high < 0
    assert naive.estimate < adjusted.estimate < TRUE_EFFECT
    assert TRUE_EFFECT not in adjusted.interval
    whole = adjusted_association(logs.outcomes, on=logs.on, covariates=logs.hidden[:, np.newaxis])
    assert TRUE_EFFECT in whole.interval, "only with all that the agent knew"


def test_an_association_says_so_in_type_in_data_and_in_print() -> None:
    logs = hard_tasks_reflect(1)
    found = adjusted_association(logs.outcomes, on=logs.on)
    assert type(found).__name__ == "Association"
    assert asdict(found)["basis"] == "association"
    assert str(found).startswith("association -0.")


@pytest.mark.parametrize("with_proxy", [False, True], ids=["plain", "with a covariate"])
def test_logged_chance_covers_whatever_the_agent_knew(with_proxy: bool) -> None:
    replications, covered, estimates = 300, 0, []
    for seed in range(replications):
        logs = hard_tasks_reflect(seed, runs=600)
        found = randomised_effect(
            logs.outcomes,
            on=logs.on,
            propensities=logs.propensities,
            covariates=logs.proxy[:, np.newaxis] if with_proxy else None,
        )
        covered += TRUE_EFFECT in found.interval
        estimates.append(found.estimate)
    assert covered / replications == pytest.approx(0.95, abs=0.035)
    assert np.mean(estimates) == pytest.approx(TRUE_EFFECT, abs=4 * np.std(estimates) / replications**0.5)


def test_a_covariate_makes_the_interval_narrower() -> None:
    logs = hard_tasks_reflect(1)
    widths = []
    for covariates in (None, logs.hidden[:, np.newaxis]):
        interval = randomised_effect(
            logs.outcomes, on=logs.on, propensities=logs.propensities, covariates=covariates
        ).interval
        assert interval.high is not None
        assert interval.low is not None
        widths.append(interval.high - interval.low)
    assert widths[1] < 0.8 * widths[0]


def test_uneven_odds_leave_fewer_effective_runs() -> None:
    logs = hard_tasks_reflect(1)
    fair = randomised_effect(logs.outcomes, on=logs.on, propensities=np.full(2000, 0.5))
    uneven = randomised_effect(logs.outcomes, on=logs.on, propensities=logs.propensities)
    assert fair.effective_runs == pytest.approx(2000)
    assert uneven.effective_runs < 1000


def test_a_plain_association_is_the_difference_of_means() -> None:
    outcomes = np.array([1.0, 2.0, 3.0, 5.0, 7.0])
    on = np.array([True, True, False, False, False])
    found = adjusted_association(outcomes, on=on)
    assert found.estimate == pytest.approx(1.5 - 5)
    # With each run a cluster it is the heteroscedastic error HC1, with five clusters' degrees of freedom.
    error = np.sqrt(5 / 4 * 4 / 3 * (0.5 / 4 + 8 / 9))
    assert found.interval.high == pytest.approx(-3.5 + stats.t.ppf(0.975, 4) * error)


def test_comparing_within_tasks_takes_away_what_their_runs_share() -> None:
    random = np.random.default_rng(2)
    tasks = np.repeat(np.arange(300), 4)
    hidden = np.repeat(random.normal(size=300), 4)
    on = random.random(1200) < 1 / (1 + np.exp(-1.5 * hidden))
    outcomes = 0.5 - 0.3 * hidden + TRUE_EFFECT * on + random.normal(0, 0.2, 1200)
    across = adjusted_association(outcomes, on=on, clusters=tasks)
    within = adjusted_association(outcomes, on=on, clusters=tasks, within_clusters=True)
    assert across.estimate < 0
    assert TRUE_EFFECT in within.interval
    assert within.clusters == 300


def test_robustness_is_the_published_value() -> None:
    # Cinelli and Hazlett (2020), section 5: t = 4.18 with 783 degrees of freedom has a robustness value of 13.9 %.
    # 786 runs, an intercept, the switch and a covariate: the same t, built from a residual of the right length.
    random = np.random.default_rng(4)
    others = np.column_stack([np.ones(786), random.normal(size=786)])
    on = random.random(786) < 0.5
    residual = random.normal(size=786)
    design = np.column_stack([on, others])
    residual -= design @ np.linalg.lstsq(design, residual, rcond=None)[0]
    switch = on - others @ np.linalg.lstsq(others, on.astype(float), rcond=None)[0]
    error = np.sqrt(residual @ residual / 783 / (switch @ switch))
    found = adjusted_association(residual + on * 4.18 * error, on=on, covariates=others[:, 1:])
    assert found.estimate == pytest.approx(4.18 * error)
    assert found.robustness == pytest.approx(0.139, abs=0.0005)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"propensities": np.array([0.5, 0.5, 0.5, 1.0])}, "strictly between 0 and 1"),
        ({"propensities": np.full(3, 0.5)}, "propensities must have one entry for each of 4 runs"),
        ({"on": np.array([True] * 4)}, "runs that were off are needed"),
        ({"clusters": ["a"] * 4}, "at least two clusters"),
        ({"clusters": ["a"] * 3}, "3 labels for 4 runs"),
    ],
    ids=["certain", "too few", "never off", "one cluster", "labels"],
)
def test_what_identifies_nothing_is_refused(changes: dict[str, Any], rule: str) -> None:
    fields: dict[str, Any] = {"on": np.array([True, False, True, False]), "propensities": np.full(4, 0.5)}
    with pytest.raises(ValueError, match=rule):
        randomised_effect(np.arange(4.0), **fields | changes)


@pytest.mark.parametrize("within", [False, True], ids=["across", "within tasks"])
def test_without_runs_to_compare_there_is_no_association(within: bool) -> None:
    on = np.array([True, True, False, False]) if within else np.ones(4, dtype=bool)
    with pytest.raises(ValueError, match="nothing to compare"):
        adjusted_association(np.arange(4.0), on=on, clusters=["a", "a", "b", "b"], within_clusters=within)


def test_an_unknown_outcome_is_not_taken_for_a_failure() -> None:
    logs = hard_tasks_reflect(1, runs=50)
    logs.outcomes[3] = np.nan
    with pytest.raises(ValueError, match="leave out, or bound"):
        randomised_effect(logs.outcomes, on=logs.on, propensities=logs.propensities)
    with pytest.raises(ValueError, match="leave out, or bound"):
        adjusted_association(logs.outcomes, on=logs.on)


def test_what_explains_everything_is_robust_to_everything_and_what_explains_nothing_to_nothing() -> None:
    on = np.array([True, True, False, False])
    assert adjusted_association(np.array([3.0, 3.0, 1.0, 1.0]), on=on).robustness == pytest.approx(1)
    assert adjusted_association(np.array([3.0, 1.0, 3.0, 1.0]), on=on).robustness == pytest.approx(0)


def test_two_runs_leave_nothing_to_estimate_an_error_from() -> None:
    with pytest.raises(ValueError, match="2 coefficients need more runs than that, got 2"):
        adjusted_association(np.array([1.0, 0.0]), on=np.array([True, False]))

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tokenomics_plugin.statistics import JudgedSample, SetShape, cluster_mean, ratio_of_sums


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(23)


def biased(random: np.random.Generator, tasks: int, labelled: int) -> tuple[np.ndarray, np.ndarray, list[float | None]]:
    """Truth, a judge's scores, and the people's labels of the first tasks."""
    truth = (random.random(tasks) < 0.5).astype(float)
    scores = np.where(truth, random.random(tasks) < 0.76, random.random(tasks) < 0.29).astype(float)
    return truth, scores, [float(good) if index < labelled else None for index, good in enumerate(truth)]


def test_estimate_and_weight_of_the_paper() -> None:
    scores, labels = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, None, None, None]
    # Cov(label, score) = 1/6 over the labelled, Var(score) = 2/9 over all, n/N = 1.
    weight = (1 / 6) / (2 * 2 / 9)
    found = JudgedSample(scores=scores, labels=labels).value()
    assert found.weight == pytest.approx(weight)
    assert found.mean.estimate == pytest.approx(weight * 2 / 3 + 1 / 3 - weight * 2 / 3)
    assert found.judge_only == pytest.approx(2 / 3)


def test_an_interval_of_the_paper() -> None:
    scores, labels = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0, None, None, None, None]
    found = JudgedSample(scores=scores, labels=labels).value()
    assert found.weight == 0, "the labels and scores of the labelled are uncorrelated"
    people = np.array([1.0, 0.0, 0.0, 1.0])
    # Without the judge: the variance of the mean of four labels, clusters counted among all eight tasks.
    error = np.sqrt(((people - 0.5) ** 2).sum() / 4**2 * 8 / 7)
    assert found.mean.interval.high == pytest.approx(0.5 + 3.182446 * error, rel=1e-6)


def test_a_judge_that_agrees_with_people_counts_in_full(random: np.random.Generator) -> None:
    truth, _, labels = biased(random, 2000, 100)
    found = JudgedSample(scores=truth, labels=labels).value()
    assert found.weight == pytest.approx(0.95, abs=0.02)
    assert found.mean.estimate == pytest.approx(truth.mean(), abs=0.01)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_judge_that_says_the_same_of_all_is_ignored(random: np.random.Generator, score: float) -> None:
    truth, _, labels = biased(random, 300, 60)
    found = JudgedSample(scores=[score] * 300, labels=labels).value()
    assert found.weight == 0
    assert found.mean.estimate == pytest.approx(truth[:60].mean())


def test_with_everything_labelled_the_judge_is_not_asked(random: np.random.Generator) -> None:
    truth, scores, labels = biased(random, 80, 80)
    found, plain = JudgedSample(scores=scores, labels=labels).value(), cluster_mean([(good, 1) for good in truth])
    assert (found.mean.estimate, found.mean.clusters) == (plain.estimate, plain.clusters)
    assert found.mean.interval.low == pytest.approx(plain.interval.low)


def test_fewer_than_fifty_labels_leave_the_judge_uncalibrated(random: np.random.Generator) -> None:
    _, scores, labels = biased(random, 500, 50)
    assert JudgedSample(scores=scores, labels=labels).value().caveat is None
    fewer = JudgedSample(scores=scores, labels=[*labels[:49], None, *labels[50:]]).value()
    assert fewer.caveat == "uncalibrated judge: 49 human labels, fewer than 50"


def test_copies_of_the_same_tasks_add_no_certainty(random: np.random.Generator) -> None:
    _, scores, labels = biased(random, 400, 100)
    once = JudgedSample(scores=scores, labels=labels).value().mean
    twice = JudgedSample(
        scores=np.repeat(scores, 2),
        labels=[label for label in labels for _ in range(2)],
        clusters=[index // 2 for index in range(800)],
    ).value()
    assert twice.mean.clusters == once.clusters == 100
    # The weight's covariance has another divisor: 199 for 99.
    assert twice.mean.interval.low == pytest.approx(once.interval.low, rel=1e-2)


def test_cost_per_success_and_success_per_cost_are_inverse(random: np.random.Generator) -> None:
    _, scores, labels = biased(random, 1000, 100)
    costs = random.lognormal(0, 0.8, 1000)
    sample = JudgedSample(scores=scores, labels=labels)
    dear, worth = sample.cost_per_value(costs), sample.value_per_cost(costs)
    assert dear.estimate == pytest.approx(1 / worth.estimate)
    assert dear.confidence_set.shape is SetShape.INTERVAL
    assert dear.confidence_set.low == pytest.approx(1 / (worth.confidence_set.high or 0))
    assert dear.confidence_set.high == pytest.approx(1 / (worth.confidence_set.low or 0))


def test_with_everything_labelled_the_ratio_is_fiellers(random: np.random.Generator) -> None:
    truth, scores, labels = biased(random, 80, 80)
    costs = random.lognormal(0, 0.8, 80)
    found = JudgedSample(scores=scores, labels=labels).cost_per_value(costs)
    plain = ratio_of_sums(np.stack([costs, truth], axis=1))
    assert found.estimate == pytest.approx(plain.estimate)
    assert found.confidence_set.high == pytest.approx(plain.confidence_set.high)


def test_nominal_coverage_holds_where_the_judge_alone_misleads(
    random: np.random.Generator, slack: Callable[[int], float]
) -> None:
    replications, both, judge, ratio, narrower = 500, 0, 0, 0, []
    for _ in range(replications):
        truth, scores, labels = biased(random, 2000, 100)
        costs = random.lognormal(0, 0.8, 2000) * np.where(truth, 1, 1.6)
        sample = JudgedSample(scores=scores, labels=labels)
        found = sample.value().mean.interval
        people = cluster_mean([(label, 1) for label in labels if label is not None]).interval
        both += 0.5 in found
        judge += 0.5 in cluster_mean([(score, 1) for score in scores]).interval
        ratio += 2 * np.exp(0.32) * 1.3 in sample.cost_per_value(costs).confidence_set
        narrower.append(((found.high or 0) - (found.low or 0)) / ((people.high or 0) - (people.low or 0)))
    assert both / replications == pytest.approx(0.95, abs=slack(replications))
    assert ratio / replications == pytest.approx(0.95, abs=slack(replications))
    assert judge / replications < 0.6
    assert np.mean(narrower) == pytest.approx(0.9, abs=0.04)


def test_what_cannot_be_corrected_is_refused() -> None:
    with pytest.raises(ValueError, match="one label or None per score"):
        JudgedSample(scores=[1.0, 0.0], labels=[1.0])
    with pytest.raises(ValueError, match="labels from at least two clusters, got 1"):
        JudgedSample(scores=[1.0, 0.0, 1.0], labels=[1.0, 0.0, None], clusters=["a", "a", "b"])
    with pytest.raises(ValueError, match="labels must be finite"):
        JudgedSample(scores=[1.0, 0.0], labels=[1.0, float("inf")])
    with pytest.raises(ValueError, match="below the line is 0"):
        JudgedSample(scores=[0.0, 0.0, 0.0], labels=[0.0, 0.0, None]).cost_per_value([1.0, 1.0, 1.0])

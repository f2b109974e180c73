"""gpt-4o on tau-bench's airline tasks: how reliable, what another attempt is worth, what call caps save.

The file says what was said and whether the task was solved, not how many tokens that took. They are counted again, at
list prices and with a cache that never misses; the tools' schemas, which every call carried, are not in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import comb
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from reproduction.comparison import Figure, Section
from reproduction.tokens import TokenCounter, token_counter
from tokenomics_plugin.marginal import Attempt, RepeatedTask, RetryCurve, Trial, attempt_limit, retry_curve
from tokenomics_plugin.simulation import (
    CallCap,
    LoggedRun,
    PolicyResult,
    RunTable,
    StopAfterErrors,
    avoidable_failed_spend,
    choose_rule,
    judge_improvement,
    recommend,
    simulate,
    simulate_family,
    truncation_frontier,
)
from tokenomics_plugin.statistics import wilson

__all__ = ["FILE", "logged_runs", "reproduce", "retry_curve_of"]

FILE = "trajectories/tau-bench-gpt4o-airline/historical_trajectories/gpt-4o-airline.json"

_USD_PER_MILLION = {"fresh": 2.50, "cached": 1.25, "output": 10.00}
_TOKENS_PER_MESSAGE = 4
"""Of the chat format: role and separators."""
_SOLVED = 1 - 1e-6
_ERROR = "Error"
"""How this benchmark's tools begin the answer to a call that fails."""

_PASS_HAT = (0.420, 0.2733, 0.220, 0.200)


@dataclass(frozen=True, kw_only=True)
class _PublishedAttempt:
    """A row of the published retry table."""

    probability: float
    probability_ends: tuple[float, float]
    marginal_cost: float
    marginal_cost_ends: tuple[float, float] | None
    cumulative_success: float
    cost_per_success: float
    independent: float


_RETRY_TABLE = (
    _PublishedAttempt(
        probability=0.420,
        probability_ends=(0.325, 0.525),
        marginal_cost=0.127,
        marginal_cost_ends=None,
        cumulative_success=0.420,
        cost_per_success=0.127,
        independent=0.420,
    ),
    _PublishedAttempt(
        probability=0.253,
        probability_ends=(0.175, 0.345),
        marginal_cost=0.253,
        marginal_cost_ends=(0.17, 0.41),
        cumulative_success=0.567,
        cost_per_success=0.160,
        independent=0.664,
    ),
    _PublishedAttempt(
        probability=0.215,
        probability_ends=(0.132, 0.327),
        marginal_cost=0.321,
        marginal_cost_ends=(0.19, 0.57),
        cumulative_success=0.660,
        cost_per_success=0.182,
        independent=0.805,
    ),
    _PublishedAttempt(
        probability=0.176,
        probability_ends=(0.083, 0.321),
        marginal_cost=0.425,
        marginal_cost_ends=(0.22, 0.96),
        cumulative_success=0.720,
        cost_per_success=0.203,
        independent=0.887,
    ),
)
_CAPS = {22: (6.1, 0, None), 20: (8.5, 1, 0.91), 16: (17.6, 13, 0.14), 8: (55.8, 42, None)}
"""Per cap: percent saved, successes lost, break-even value."""
_ENDS = "interval end, of other draws: within 10 %"
_FRAMING = 0.005
"""Share by which money may differ: what a message costs beside its text was not published with the figures."""
_OTHER_TOKENS = "tokens of another kind"
_FRAMED = "within 0.5 %: tokens beside the text of a message are an assumption"


def logged_runs(path: Path, tokens: TokenCounter) -> list[LoggedRun]:
    """Read the file's runs, one step for each model call."""
    return [
        LoggedRun(
            task_id=str(record["task_id"]),
            trace_id=f"{record['task_id']}/{record['trial']}",
            step_costs=np.array(list(_call_costs(record["traj"], tokens))),
            step_errors=np.array(list(_failed(record["traj"]))),
            is_success=record["reward"] >= _SOLVED,
        )
        for record in json.loads(path.read_text(encoding="utf-8"))
    ]


def retry_curve_of(runs: Sequence[LoggedRun]) -> RetryCurve:
    """The retry curve of tasks that were run several times."""
    by_task = groupby(sorted(runs, key=_task), key=_task)
    return retry_curve(
        [RepeatedTask(task_id=task, trials=tuple(_trial(run) for run in trials)) for task, trials in by_task],
        resamples=4000,
    )


def reproduce(data: Path) -> Section:
    """Compute the published figures again."""
    tokens = token_counter()
    runs = logged_runs(data / FILE, tokens)
    table, curve = RunTable.of(runs), retry_curve_of(runs)
    results = simulate_family(table, [CallCap(calls=calls) for calls in _CAPS])
    return Section(
        title="tau-bench, gpt-4o, airline: 50 tasks, 4 trials each",
        basis=f"{tokens.basis}, 4 more a message; $2.50 in, $1.25 cached, $10 out a million; no tool schemas",
        figures=[
            *_reliability(runs),
            *_retries(curve, is_exact=tokens.is_exact),
            *_spend(runs, is_exact=tokens.is_exact),
            *_after_an_error(table, is_exact=tokens.is_exact),
            *(figure for result in results for figure in _cap(result, is_exact=tokens.is_exact)),
        ],
        lines=[*_limits(curve), *_claims(table, results)],
    )


def _task(run: LoggedRun) -> str:
    return run.task_id


def _trial(run: LoggedRun) -> Trial:
    return Trial(is_success=bool(run.is_success), cost=float(run.step_costs.sum()))


def _call_costs(messages: Sequence[dict[str, Any]], tokens: TokenCounter) -> Iterator[float]:
    """USD of each model call, with everything that an earlier call read or wrote in the cache."""
    context = cached = 0
    for message in messages:
        size = _message_tokens(message, tokens)
        if message["role"] == "assistant":
            usd = _USD_PER_MILLION
            yield ((context - cached) * usd["fresh"] + cached * usd["cached"] + size * usd["output"]) / 1e6
            cached = context + size
        context += size


def _failed(messages: Sequence[dict[str, Any]]) -> Iterator[bool]:
    """Whether the tool that each model call asked for, if any, answered with an error."""
    for place, message in enumerate(messages):
        if message["role"] == "assistant":
            answer = messages[place + 1] if place + 1 < len(messages) else {"role": "end"}
            yield answer["role"] == "tool" and answer["content"].startswith(_ERROR)


def _message_tokens(message: dict[str, Any], tokens: TokenCounter) -> int:
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    texts = [message["content"] or "", *(call[part] for call in calls for part in ("name", "arguments"))]
    return _TOKENS_PER_MESSAGE + sum(tokens.count(text) for text in texts if text)


def _reliability(runs: Sequence[LoggedRun]) -> Iterator[Figure]:
    tasks = [[run.is_success for run in trials] for _, trials in groupby(sorted(runs, key=_task), key=_task)]
    for count, published in enumerate(_PASS_HAT, start=1):
        ours = fmean(comb(sum(map(bool, ends)), count) / comb(len(ends), count) for ends in tasks)
        yield Figure(name=f"pass^{count}", ours=ours, published=published, tolerance=5e-5)


def _retries(curve: RetryCurve, *, is_exact: bool) -> Iterator[Figure]:
    for attempt, row in zip(curve.attempts, _RETRY_TABLE, strict=True):
        yield from _success_figures(attempt, row)
        yield from _cost_figures(attempt, row, is_exact=is_exact)
    if curve.fit is not None:
        yield Figure(name="beta-binomial alpha", ours=curve.fit.alpha, published=0.642, tolerance=5e-4)
        yield Figure(name="beta-binomial beta", ours=curve.fit.beta, published=0.858, tolerance=5e-4)


def _success_figures(attempt: Attempt, row: _PublishedAttempt) -> Iterator[Figure]:
    name = f"attempt {attempt.number}"
    found = attempt.success_probability
    # The table prints thousandths.
    yield Figure(name=f"{name}: q", ours=found.point, published=row.probability, tolerance=5e-4)
    ends = (found.interval.low, found.interval.high)
    for end, ours, published in zip(("low", "high"), ends, row.probability_ends, strict=True):
        yield Figure(name=f"{name}: q, {end}", ours=ours, published=published, tolerance=published / 10, note=_ENDS)
    yield Figure(
        name=f"{name}: solved so far",
        ours=attempt.cumulative_success.point,
        published=row.cumulative_success,
        tolerance=5e-4,
    )
    yield Figure(
        name=f"{name}: if independent", ours=attempt.independent_forecast, published=row.independent, tolerance=5e-4
    )


def _cost_figures(attempt: Attempt, row: _PublishedAttempt, *, is_exact: bool) -> Iterator[Figure]:
    name, marginal, so_far = f"attempt {attempt.number}", attempt.marginal_cost, attempt.cumulative_cost_per_success
    yield Figure(
        name=f"{name}: $ per further success",
        ours=None if marginal is None else marginal.point,
        published=row.marginal_cost,
        tolerance=row.marginal_cost * _FRAMING,
        is_checked=is_exact,
        note=_FRAMED if is_exact else _OTHER_TOKENS,
    )
    if marginal is not None and row.marginal_cost_ends is not None:
        ends = (marginal.interval.low, marginal.interval.high)
        for end, ours, published in zip(("low", "high"), ends, row.marginal_cost_ends, strict=True):
            yield Figure(
                name=f"{name}: $ per further success, {end}",
                ours=ours,
                published=published,
                tolerance=published / 10,
                is_checked=is_exact,
                note=_ENDS if is_exact else _OTHER_TOKENS,
            )
    yield Figure(
        name=f"{name}: $ per success so far",
        ours=None if so_far is None else so_far.point,
        published=row.cost_per_success,
        tolerance=row.cost_per_success * _FRAMING,
        is_checked=is_exact,
        note=_FRAMED if is_exact else _OTHER_TOKENS,
    )


def _spend(runs: Sequence[LoggedRun], *, is_exact: bool) -> Iterator[Figure]:
    spend = [float(run.step_costs.sum()) for run in runs]
    failed = sum(cost for run, cost in zip(runs, spend, strict=True) if not run.is_success)
    yield Figure(
        name="% of spend in failed runs",
        ours=100 * failed / sum(spend),
        published=71,
        tolerance=0.5,
        is_checked=is_exact,
        note="" if is_exact else _OTHER_TOKENS,
    )


def _after_an_error(table: RunTable, *, is_exact: bool) -> Iterator[Figure]:
    """What follows the first error of a tool: a warning is no verdict."""
    result = simulate(table, StopAfterErrors(errors=1))
    warned, solved = result.touched_runs, result.lost_successes
    interval = wilson(solved, warned)
    for name, ours, published in (
        ("solved after a tool's first error", solved / warned, 0.25),
        ("solved after a tool's first error, low", interval.low, 0.14),
        ("solved after a tool's first error, high", interval.high, 0.41),
    ):
        yield Figure(name=name, ours=ours, published=published, tolerance=5e-3)
    for name, ours, published, tolerance in (
        ("$ spent after it", result.saved.point / warned, 0.041, 5e-4),
        ("break-even $ of stopping there", result.break_even_value, 0.17, 5e-3),
    ):
        yield Figure(
            name=name,
            ours=ours,
            published=published,
            tolerance=tolerance,
            is_checked=is_exact,
            note="" if is_exact else _OTHER_TOKENS,
        )


def _cap(result: PolicyResult, *, is_exact: bool) -> Iterator[Figure]:
    assert isinstance(result.rule, CallCap), "the family is one of call caps"
    name = f"cap of {result.rule.calls} calls"
    saved_percent, lost, break_even = _CAPS[result.rule.calls]
    yield Figure(
        name=f"{name}: % saved",
        ours=100 * result.saved_share.point,
        published=saved_percent,
        tolerance=0.05,
        is_checked=is_exact,
        note="" if is_exact else _OTHER_TOKENS,
    )
    yield Figure(name=f"{name}: lost of {result.successes}", ours=result.lost_successes, published=lost)
    if break_even is not None:
        yield Figure(
            name=f"{name}: break-even $",
            ours=result.break_even_value,
            published=break_even,
            tolerance=5e-3,
            is_checked=is_exact,
            note="" if is_exact else _OTHER_TOKENS,
        )
    if not lost:
        yield Figure(
            name=f"{name}: % of successes lost, at most",
            ours=None if result.lost_share_limit is None else 100 * result.lost_share_limit,
            published=3.6,
            is_checked=False,
            note="the rule of three, 3/84, was published; ours is exact",
        )


def _limits(curve: RetryCurve) -> Iterator[str]:
    for value in (0.20, 0.30, 0.40, 0.50, 1.00):
        limit = attempt_limit(curve, value=value)
        yield (
            f"a success worth ${value:.2f}: try {limit.attempts} times at most "
            f"({limit.cautious} by the lower ends of q, {limit.hopeful} by the upper)"
        )
    for forecast in curve.forecast:
        yield f"attempt {forecast.number}, not observed: q {forecast.success_probability:.3f} by the fit"
    if curve.mean_cost_until_success is None:
        yield "trying until success: expected cost unbounded"


def _usd(amount: float | None) -> str:
    return "none" if amount is None else f"{amount:.3f}"


def _claims(table: RunTable, results: Sequence[PolicyResult]) -> Iterator[str]:
    for result in results:
        low, high = result.saved_share.interval.low or 0.0, result.saved_share.interval.high or 0.0
        clustered = result.lost_share_limit_clustered or 0.0
        yield (
            f"{result.rule.description}: saves {result.saved_share.point:.1%} [{low:.1%}, {high:.1%}] of the spend; "
            f"loses {result.lost_successes} of {result.successes}, at most {clustered:.1%} if those of a task go "
            f"together; $ per success {_usd(result.cost_per_success)} -> {_usd(result.cost_per_success_under_rule)}"
        )
        judged = judge_improvement(result, margin=0.02)
        yield f"  an improvement? {'yes' if judged.holds else 'no: ' + '; '.join(judged.objections)}"
    caps = [CallCap(calls=calls) for calls in range(5, 31)]
    family = simulate_family(table, caps, resamples=1)
    failed = avoidable_failed_spend(family)
    yield (
        f"failed runs cost ${failed.spend:.2f}; a cap that loses no success would have avoided ${failed.avoidable:.2f} "
        f"of it, {failed.avoidable / failed.spend:.1%}"
    )
    frontier = truncation_frontier(family)
    points = (
        f"{point.result.rule.description.removeprefix('stop a run after ')}: "
        f"{point.result.saved_share.point:.1%}, {point.most_lost}"
        for point in frontier
    )
    yield f"frontier (saved, lost): {'; '.join(points)}"
    choice = choose_rule(table, caps)
    if choice is not None:
        yield (
            f"chosen on half of the tasks to lose none: {choice.rule.description}; on the other half it saves "
            f"{choice.reported_on.saved_share.point:.1%} and loses {choice.reported_on.lost_successes}"
        )
    advice = recommend(table, results[0])
    if advice is not None and advice.configuration is not None:
        yield f"{advice.action} Class {advice.identification}: {advice.configuration}"

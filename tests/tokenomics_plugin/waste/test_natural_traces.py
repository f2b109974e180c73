"""What the detectors find in real runs that nobody made up: gpt-4o as an airline's agent, 200 runs of tau-bench."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import SideEffects, Trajectory
from tokenomics_plugin.waste import DuplicateRead, Loop, RetryAfterSameFailure, scan
from tokenomics_plugin.waste.builtin import BUILT_IN
from trajectories.chat_logs import AIRLINE, tau_bench

pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def runs() -> Sequence[Trajectory]:
    if not AIRLINE.exists():
        pytest.skip(f"{AIRLINE} is absent: set TOKENOMICS_SHARED_DATA to where the shared data are")
    return list(tau_bench())


def repeats(runs: Sequence[Trajectory]) -> int:
    """Tool calls that were made before with the same arguments, in the same run."""
    return sum(len(run.tool_calls) - len({(call.tool, call.arguments_hash) for call in run.tool_calls}) for run in runs)


def test_the_runs_have_the_published_number_of_tool_calls_and_of_repeats(runs: Sequence[Trajectory]) -> None:
    assert len(runs) == 200
    assert sum(len(run.tool_calls) for run in runs) == 1164
    assert repeats(runs) == 32


def test_twenty_six_repeats_are_waste_and_six_come_after_a_write(runs: Sequence[Trajectory]) -> None:
    reads = [finding for run in runs for finding in DuplicateRead().find(run)]
    failures = [finding for run in runs for finding in RetryAfterSameFailure().find(run)]

    assert (len(reads), len(failures)) == (10, 16)
    assert repeats(runs) - len(reads) - len(failures) == 6
    assert {finding.tier for finding in reads} == {Tier.A}
    # `tool_error` is the class of every error that a tool words itself: it may pass or not, and nobody knows.
    assert {finding.tier for finding in failures} == {Tier.B}


def test_the_repeated_failures_are_failed_writes(runs: Sequence[Trajectory]) -> None:
    tools = Counter(
        call.tool
        for run in runs
        for finding in RetryAfterSameFailure().find(run)
        for call in run.tool_calls
        if call.span_id == finding.spans[0]
    )

    assert tools == {"book_reservation": 8, "update_reservation_flights": 8}


def test_without_state_versions_the_six_would_have_been_taken_for_waste(runs: Sequence[Trajectory]) -> None:
    blind = SideEffects(read={"*"})

    found = [
        finding
        for run in tau_bench(side_effects=blind)
        for detector in (DuplicateRead(), RetryAfterSameFailure())
        for finding in detector.find(run)
    ]

    # One of the 32 gave another result the second time.
    assert len(found) == 31


def test_after_an_error_the_same_tool_is_called_next_in_29_of_69_cases(runs: Sequence[Trajectory]) -> None:
    after_errors = [
        (call, later) for run in runs for call, later in pairwise(run.tool_calls) if call.error_type is not None
    ]

    assert sum(call.tool == later.tool for call, later in after_errors) == 29
    assert len(after_errors) == 69


def test_every_request_of_a_repeat_is_claimed_with_it(runs: Sequence[Trajectory]) -> None:
    findings = [finding for run in runs for finding in (*DuplicateRead().find(run), *RetryAfterSameFailure().find(run))]

    assert all(len(finding.spans) == 2 for finding in findings)


def test_no_detector_fails_on_them(runs: Sequence[Trajectory]) -> None:
    detectors = [cls() for cls in BUILT_IN]

    problems = [problem for run in runs for problem in scan(run, detectors).problems]

    assert problems == []
    assert sum(1 for run in runs for _ in Loop().find(run)) < 20

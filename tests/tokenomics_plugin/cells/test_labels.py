from __future__ import annotations

from decimal import Decimal

import pytest

from tokenomics_plugin.cells import Cause, Flags, Label, MissedCache, RunOutcome, Tier, label_of, run_outcome
from tokenomics_plugin.cells.flags import CellRef
from tokenomics_plugin.cells.labels import strongest
from tokenomics_plugin.outcome import Outcome, OutcomeStatus

PROVEN, LIKELY = Cause("D1", Tier.A), Cause("D8", Tier.B)


@pytest.mark.parametrize(
    ("causes", "is_evidence", "is_overhead", "label"),
    [
        ({PROVEN}, True, True, Label.WASTE),
        (set(), True, True, Label.PRODUCTIVE),
        (set(), False, True, Label.OVERHEAD),
        (set(), False, False, Label.UNKNOWN),
    ],
    ids=["a cause wins over all", "evidence wins over the role", "then the role counts", "nothing says"],
)
def test_the_rule_of_labels(causes: set[Cause], is_evidence: bool, is_overhead: bool, label: Label) -> None:
    assert label_of(frozenset(causes), is_evidence=is_evidence, is_overhead=is_overhead) is label


def test_a_cell_is_as_surely_waste_as_its_surest_cause_says() -> None:
    assert strongest(frozenset({LIKELY, PROVEN})) is Tier.A
    assert strongest(frozenset()) is None


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (None, RunOutcome.UNLABELLED),
        (Outcome(task_id="t", status=OutcomeStatus.SUCCEEDED), RunOutcome.SUCCESS),
        (Outcome(task_id="t", status=OutcomeStatus.HARMFUL), RunOutcome.HARMFUL),
        (Outcome(task_id="t", status=OutcomeStatus.PENDING), RunOutcome.PENDING),
        (Outcome(task_id="t", status=OutcomeStatus.FAILED), RunOutcome.FAIL),
        (Outcome(task_id="t", status=OutcomeStatus.FAILED, score=0.0, value=Decimal(0)), RunOutcome.FAIL),
        (Outcome(task_id="t", status=OutcomeStatus.FAILED, value=Decimal("0.5")), RunOutcome.PARTIAL),
        (Outcome(task_id="t", status=OutcomeStatus.FAILED, score=0.5), RunOutcome.PARTIAL),
    ],
    ids=["none", "success", "harmful", "pending", "failed", "scored 0", "worth something", "half right"],
)
def test_a_run_stands_at_one_place_of_the_outcome_axis(outcome: Outcome | None, expected: RunOutcome) -> None:
    assert run_outcome(outcome) is expected


def test_flags_of_two_detectors_join_cell_by_cell() -> None:
    first = Flags(
        cells={CellRef("s", 0): frozenset({PROVEN})}, missed_caches={"s": MissedCache(10, frozenset({PROVEN}))}
    )
    second = Flags(
        cells={CellRef("s", 0): frozenset({LIKELY}), CellRef("s", 1): frozenset({LIKELY})},
        missed_caches={"s": MissedCache(4, frozenset({LIKELY}))},
    )
    assert first | second == Flags(
        cells={CellRef("s", 0): frozenset({PROVEN, LIKELY}), CellRef("s", 1): frozenset({LIKELY})},
        missed_caches={"s": MissedCache(10, frozenset({PROVEN, LIKELY}))},
    )

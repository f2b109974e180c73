"""Rows of one run: what it was, what its money was for, who took part, what was found in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import pyarrow as pa

from tokenomics_plugin.analysis.tables import CAUSES, PARTIES, RUNS
from tokenomics_plugin.cells import Label, RunCells, Tier, run_outcome, usd
from tokenomics_plugin.pricing import TOKEN_CLASSES, billed_tokens
from tokenomics_plugin.trajectory import ModelCall, ToolCall, Trajectory
from tokenomics_plugin.waste import Finding

__all__ = ["RowBuffer"]

_MAX_IDS: Final = 20
_CHUNK_RUNS: Final = 1024
"""Runs whose rows are Python objects at a time, which take more memory than tables."""
_FIRST_ATTEMPT: Final = 1
_SCHEMAS: Final = {"runs": RUNS, "parties": PARTIES, "causes": CAUSES}
_Row = tuple[Any, ...]


class RowBuffer:
    """Collects rows, run by run, and makes tables of them, a thousand runs at a time."""

    def __init__(self) -> None:
        self._count = 0
        self._rows: dict[str, list[_Row]] = {name: [] for name in _SCHEMAS}
        self._chunks: dict[str, list[pa.Table]] = {name: [] for name in _SCHEMAS}

    def add(self, trajectory: Trajectory, findings: Sequence[Finding], cells: RunCells) -> None:
        """Add one run."""
        number, rows = self._count, self._rows
        rows["runs"].append((number, *_run(trajectory, cells), *_money(cells)))
        rows["parties"] += _parties(number, trajectory, cells)
        if findings:
            rows["causes"] += _causes(number, findings, cells)
        self._count += 1
        if self._count % _CHUNK_RUNS == 0:
            self._seal()

    def tables(self) -> dict[str, pa.Table]:
        """The rows so far, by name of the table. Runs are numbered from 0."""
        self._seal()
        return {name: pa.concat_tables(chunks) for name, chunks in self._chunks.items()}

    def _seal(self) -> None:
        for name, rows in self._rows.items():
            self._chunks[name].append(_table(rows, _SCHEMAS[name]))
            rows.clear()


def _table(rows: Sequence[_Row], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _run(trajectory: Trajectory, cells: RunCells) -> _Row:
    """The columns up to the token classes."""
    steps, calls, tools = trajectory.steps, trajectory.model_calls, trajectory.tool_calls
    both: list[ModelCall | ToolCall] = [*calls, *tools]
    counts = [counts for call in calls if (counts := billed_tokens(call)) is not None]
    return (
        trajectory.trace_id,
        trajectory.task_id or trajectory.trace_id,
        trajectory.task_id is not None,
        trajectory.group,
        run_outcome(trajectory.outcome).value,
        min((step.started_unix_nano for step in steps), default=None),
        max((step.ended_unix_nano or step.started_unix_nano for step in steps), default=None),
        len(calls),
        len(tools),
        sum(cost is not None for cost in cells.call_costs),
        len(counts),
        sum(call.error_type is not None for call in both),
        sum((call.attempt_number or _FIRST_ATTEMPT) > _FIRST_ATTEMPT for call in both),
        sum(call.loop_kind is not None for call in tools),
        list(trajectory.agents),
        _names(call.model for call in calls),
        _names(call.tool for call in tools),
        *(map(sum, zip(*counts, strict=True)) if counts else [0] * len(TOKEN_CLASSES)),
    )


def _names(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name is not None))


def _money(cells: RunCells) -> _Row:
    """The columns of money."""
    labels: defaultdict[Label | Tier, int] = defaultdict(int)
    for sums in cells.sums.values():
        for label, _, cost in sums.labelled():
            labels[label] += cost
        for causes, waste in sums.waste.items():
            labels[min(cause.tier for cause in causes)] += waste.cost
    priced = [cost for cost in cells.call_costs if cost is not None]
    amounts = [labels[key] for key in (Label.PRODUCTIVE, Label.OVERHEAD, Label.UNKNOWN, *Tier)]
    total = usd(sum(amounts))
    return (total if len(priced) == len(cells.call_costs) else None, total, *map(usd, amounts))


def _parties(number: int, trajectory: Trajectory, cells: RunCells) -> Iterator[_Row]:
    agents: defaultdict[str | None, list[int]] = defaultdict(lambda: [0, 0])
    models: defaultdict[tuple[str | None, str | None], list[int]] = defaultdict(lambda: [0, 0])
    for (agent, provider, model), sums in cells.sums.items():
        tokens = sum(count for _, count, _ in sums.labelled()) + sum(waste.tokens for waste in sums.waste.values())
        cost = sum(cost for _, _, cost in sums.labelled()) + sum(waste.cost for waste in sums.waste.values())
        for total in (agents[agent], models[model, provider]):
            total[0] += tokens
            total[1] += cost
    yield from ((number, "agent", name, None, tokens, usd(cost)) for name, (tokens, cost) in agents.items())
    yield from ((number, "model", *name, tokens, usd(cost)) for name, (tokens, cost) in models.items())
    yield from (
        (number, "tool", name, None, None, None) for name in _names(call.tool for call in trajectory.tool_calls)
    )


def _causes(number: int, findings: Iterable[Finding], cells: RunCells) -> Iterator[_Row]:
    of_cause: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.is_waste:
            of_cause[finding.cause].append(finding)
    claimed, shares = _claims(cells)
    for cause, found in of_cause.items():
        tokens, cost = claimed[cause]
        yield (
            number,
            cause,
            min(finding.tier for finding in found).value,
            len(found),
            _span_ids(call for finding in found for call in _claimed_calls(finding)),
            _span_ids(span_id for finding in found for span_id in finding.evidence),
            tokens,
            usd(cost),
            float(usd(int(shares[cause]))),
        )


def _claims(cells: RunCells) -> tuple[Mapping[str, list[int]], Mapping[str, Fraction]]:
    """Tokens and attodollars that each cause claims, and its share of them: one m-th of what m causes claim."""
    claimed: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    shares: defaultdict[str, Fraction] = defaultdict(Fraction)
    for sums in cells.sums.values():
        for causes, waste in sums.waste.items():
            for cause in causes:
                claimed[cause.id][0] += waste.tokens
                claimed[cause.id][1] += waste.cost
                shares[cause.id] += Fraction(waste.cost, len(causes))
    return claimed, shares


def _claimed_calls(finding: Finding) -> Iterator[str]:
    yield from finding.spans
    yield from finding.outputs
    yield from (claimed.call for claimed in finding.blocks)


def _span_ids(span_ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(span_ids))[:_MAX_IDS]

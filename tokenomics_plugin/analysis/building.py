"""Makes an analysis of a store: figures from its spans, cells and findings from its trajectories, side by side.

The two passes are independent, and the second falls into parts by trace. With several processes each takes what is
next, and the parts are added up: ledgers merge, tables are laid end to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc

from tokenomics_plugin import semconv
from tokenomics_plugin.analysis.analysis import Analysis, tables_in_memory
from tokenomics_plugin.analysis.logged_runs import logged_run
from tokenomics_plugin.analysis.rows import RowBuffer
from tokenomics_plugin.analysis.tables import TASKS
from tokenomics_plugin.cells import CellLedger
from tokenomics_plugin.credit import evidence_of
from tokenomics_plugin.policies import LoggedDecision
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report.summary import Summary, summarize
from tokenomics_plugin.report.task import TaskSummary
from tokenomics_plugin.simulation import LoggedRun
from tokenomics_plugin.store import TraceStore, collect_rarely
from tokenomics_plugin.trajectory import UNDECLARED, SideEffects
from tokenomics_plugin.waste import Detector, Problem, find_detectors, flags_of, scan

__all__ = ["analyse"]

_MAX_SIMULATED: Final = 20_000
"""Traces whose runs are simulated; of more, a sample."""
_PARTS_PER_PROCESS: Final = 2
_WORTH_A_PROCESS: Final = 5_000
"""Traces below which starting processes takes longer than they save."""
_CHECKSUMS: Final = 2**32


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What a part is worked out with."""

    db: Path
    prices: PriceBook
    detectors: tuple[Detector, ...]
    side_effects: SideEffects
    simulated_share: float


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What was worked out about some traces."""

    ledger: CellLedger
    tables: dict[str, pa.Table]
    runs: list[LoggedRun]
    problems: set[Problem]


def analyse(
    db: Path | str,
    prices: PriceBook,
    *,
    detectors: Sequence[Detector] | None = None,
    side_effects: SideEffects = UNDECLARED,
    processes: int = 1,
) -> Analysis:
    """Analyse a store.

    Args:
        db: Its file.
        prices: What calls cost.
        detectors: What looks for waste; by default all that are installed.
        side_effects: What the tools do; undeclared ones may write.
        processes: How many to use, for a store that is worth it.

    Raises:
        StoreError: If it is missing, stays locked, or is not a store.
    """
    installed = find_detectors()
    with TraceStore(db, read_only=True) as store:
        traces, decisions = store.trace_count(), tuple(_randomised(store))
    settings = _Settings(
        db=Path(db),
        prices=prices,
        detectors=installed.found if detectors is None else tuple(detectors),
        side_effects=side_effects,
        simulated_share=min(1.0, _MAX_SIMULATED / max(1, traces)),
    )
    if processes > 1 and traces >= _WORTH_A_PROCESS:
        summary, parts = _in_processes(settings, processes)
    else:
        summary, parts = _summary(settings), [_part(settings, 0, 1)]
    problems = () if detectors is not None else installed.problems
    return _joined(settings, summary, parts, problems, decisions)


def _in_processes(settings: _Settings, processes: int) -> tuple[Summary, list[_Part]]:
    count = processes * _PARTS_PER_PROCESS
    # Spawned: a fork would copy the locks of whatever threads the caller has.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=collect_rarely) as pool:
        summary = pool.submit(_summary, settings)
        parts = [pool.submit(_part, settings, index, count) for index in range(count)]
        return summary.result(), [part.result() for part in parts]


def _summary(settings: _Settings) -> Summary:
    with TraceStore(settings.db, read_only=True) as store:
        return summarize(store, settings.prices)


def _part(settings: _Settings, index: int, count: int) -> _Part:
    ledger, rows, runs, problems = CellLedger(settings.prices), RowBuffer(), list[LoggedRun](), set[Problem]()
    with TraceStore(settings.db, read_only=True) as store:
        part = None if count == 1 else (index, count)
        for trajectory in store.trajectories(side_effects=settings.side_effects, part=part):
            found = scan(trajectory, settings.detectors)
            problems.update(found.problems)
            cells = ledger.add(trajectory, flags=flags_of(found.findings), evidence=evidence_of(trajectory))
            rows.add(trajectory, found.findings, cells)
            if _is_sampled(trajectory.trace_id, settings.simulated_share):
                run = logged_run(trajectory, cells.call_costs)
                if run is not None:
                    runs.append(run)
    return _Part(ledger=ledger, tables=rows.tables(), runs=runs, problems=problems)


def _is_sampled(trace_id: str, share: float) -> bool:
    """Whether a trace is in the sample, the same at every analysis; ids need not be random."""
    return share >= 1 or crc32(trace_id.encode()) < share * _CHECKSUMS


def _randomised(store: TraceStore) -> Iterator[LoggedDecision]:
    """Decisions that chance took. Events come over the network: one that lacks a name is left out."""
    for event, span in store.events(semconv.EVENT_POLICY_DECISION):
        with suppress(KeyError, ValueError):
            decision = LoggedDecision.from_event(event, span)
            if decision.is_randomised and decision.task_id is not None:
                yield decision


def _joined(
    settings: _Settings,
    summary: Summary,
    parts: Sequence[_Part],
    problems: Sequence[Problem],
    decisions: tuple[LoggedDecision, ...],
) -> Analysis:
    first, *others = parts
    for part in others:
        first.ledger.merge(part.ledger)
    tables = {name: _end_to_end([part.tables for part in parts], name) for name in first.tables}
    found = sorted({problem for part in parts for problem in part.problems}, key=lambda problem: problem.detector)
    return Analysis(
        summary=summary,
        ledger=first.ledger.summary(),
        runs=tuple(run for part in parts for run in part.runs),
        simulated_share=settings.simulated_share,
        side_effects=settings.side_effects,
        decisions=decisions,
        detectors=settings.detectors,
        problems=(*problems, *found),
        database=tables_in_memory({**tables, "tasks": _tasks(summary.tasks)}),
    )


def _end_to_end(parts: Sequence[dict[str, pa.Table]], name: str) -> pa.Table:
    """One table of several, runs numbered on."""
    numbered, before = [], 0
    for tables in parts:
        table = tables[name]
        numbers = pc.add(table["run_id"], before)
        numbered.append(table.set_column(0, "run_id", numbers))
        before += len(tables["runs"])
    return pa.concat_tables(numbered)


def _tasks(tasks: Sequence[TaskSummary]) -> pa.Table:
    columns = zip(*map(_task, tasks), strict=True) if tasks else [()] * len(TASKS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, TASKS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=TASKS)


def _task(task: TaskSummary) -> tuple[object, ...]:
    spend = task.spend
    return (
        task.task_id,
        task.group,
        task.status.value,
        task.traces,
        spend.spans,
        spend.errors,
        spend.calls,
        spend.tokens.total if spend.calls_with_usage == spend.calls else None,
        spend.cost_usd,
        spend.priced_cost_usd,
        task.value,
        task.harm,
        task.currency,
        task.value_usd,
        task.harm_usd,
    )

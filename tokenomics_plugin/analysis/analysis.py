"""What was worked out about a store at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from tokenomics_plugin.cells import CellSummary
from tokenomics_plugin.policies import LoggedDecision
from tokenomics_plugin.report.summary import Summary
from tokenomics_plugin.simulation import LoggedRun
from tokenomics_plugin.trajectory import SideEffects
from tokenomics_plugin.waste import Detector, Problem

__all__ = ["Analysis"]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Sums and tables. It does not change; a store that has grown is analysed anew."""

    summary: Summary
    """Figures over tasks, agents, models and tools."""
    ledger: CellSummary
    """The bill, cell by cell summed up."""
    runs: tuple[LoggedRun, ...]
    """Runs for the simulator: those of known cost, or a sample of them."""
    simulated_share: float
    """Share of the traces that `runs` was taken from, by their ids: 1.0 unless there are very many."""
    side_effects: SideEffects
    """What the tools were declared to do."""
    decisions: tuple[LoggedDecision, ...]
    """Decisions of policies that chance took, in order of time."""
    detectors: tuple[Detector, ...]
    """What looked for waste."""
    problems: tuple[Problem, ...]
    """Detectors that failed."""
    database: duckdb.DuckDBPyConnection
    """The tables, see `tables`."""

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query over the tables; from any thread."""
        with self.database.cursor() as cursor:
            return cursor.execute(query, list(parameters)).fetchall()

    def columns(self, query: str, parameters: Sequence[Any] = ()) -> Mapping[str, Any]:
        """The same as one NumPy array a column; NULL numbers become NaN or masked."""
        with self.database.cursor() as cursor:
            return cursor.execute(query, list(parameters)).fetchnumpy()

    def close(self) -> None:
        """Let go of the tables' memory."""
        self.database.close()


def tables_in_memory(tables: Mapping[str, pa.Table], *, memory_limit_mib: int = 512) -> duckdb.DuckDBPyConnection:
    """A database of tables."""
    database = duckdb.connect(":memory:", config={"memory_limit": f"{memory_limit_mib}MiB", "threads": 2})
    for name, table in tables.items():
        database.register("incoming", table)
        database.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
        database.unregister("incoming")
    return database

"""The tables of an analysis: one row for each run, for each party of a run, for each finding's cause, for each task.

Money is exact (18 decimals of a dollar); what is unknown is NULL and never 0. They live in memory, in a database of
their own, so that lists are sorted, filtered and searched by SQL without a lock on the store.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

__all__ = ["CAUSES", "PARTIES", "RUNS", "TASKS", "USD", "WASTE_USD"]

USD: Final = pa.decimal128(38, 18)
"""An amount of US dollars, as exact as cells are."""
WASTE_USD: Final = "(waste_a_usd + waste_b_usd + waste_c_usd)"
"""SQL for all waste of a run."""

_NAMES: Final = pa.list_(pa.string())

RUNS: Final = pa.schema(
    [
        ("run_id", pa.int64()),
        ("trace_id", pa.string()),
        ("task_id", pa.string()),  # the trace's id where no task was named
        ("names_task", pa.bool_()),
        ("task_group", pa.string()),
        ("outcome", pa.string()),
        ("start_ns", pa.int64()),
        ("end_ns", pa.int64()),
        ("model_calls", pa.int64()),
        ("tool_calls", pa.int64()),
        ("priced_calls", pa.int64()),
        ("measured_calls", pa.int64()),
        ("errors", pa.int64()),
        ("retries", pa.int64()),
        ("repeats", pa.int64()),
        ("agents", _NAMES),
        ("models", _NAMES),
        ("tools", _NAMES),
        ("input_tokens", pa.int64()),  # of the measured calls, like the other classes
        ("cache_write_tokens", pa.int64()),
        ("cache_read_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("cost_usd", USD),  # NULL when a call has no known cost
        ("priced_usd", USD),
        ("productive_usd", USD),
        ("overhead_usd", USD),
        ("unknown_usd", USD),
        ("waste_a_usd", USD),
        ("waste_b_usd", USD),
        ("waste_c_usd", USD),  # these six add up to priced_usd
    ]
)
PARTIES: Final = pa.schema(
    [
        ("run_id", pa.int64()),
        ("kind", pa.string()),  # agent, model or tool
        ("name", pa.string()),
        ("provider", pa.string()),
        ("tokens", pa.int64()),
        ("priced_usd", USD),
    ]
)
CAUSES: Final = pa.schema(
    [
        ("run_id", pa.int64()),
        ("cause", pa.string()),
        ("tier", pa.string()),  # the strongest evidence among its findings in the run
        ("findings", pa.int64()),
        ("spans", _NAMES),
        ("evidence", _NAMES),
        ("tokens", pa.int64()),
        ("usd", USD),  # of all cells that it claims, also those that others claim too
        ("share_usd", pa.float64()),  # its share of them; shares add up to the run's waste
    ]
)
TASKS: Final = pa.schema(
    [
        ("task_id", pa.string()),
        ("task_group", pa.string()),
        ("status", pa.string()),
        ("traces", pa.int64()),
        ("spans", pa.int64()),
        ("errors", pa.int64()),
        ("model_calls", pa.int64()),
        ("tokens", pa.int64()),
        ("cost_usd", USD),
        ("priced_usd", USD),
        ("value", USD),
        ("harm", USD),
        ("currency", pa.string()),
        ("value_usd", USD),
        ("harm_usd", USD),
    ]
)

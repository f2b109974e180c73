"""Short ways to write logged runs, and strategies that draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tokenomics_plugin.simulation import LoggedRun

__all__ = ["logged", "run_lists"]


def logged(
    costs: Sequence[float],
    *,
    task: str = "a",
    success: bool | None = True,
    errors: Sequence[bool] | None = None,
    **columns: Any,
) -> LoggedRun:
    """A run from plain lists."""
    arrays: dict[str, Any] = {
        name: np.array(column) if isinstance(column, list) else column for name, column in columns.items()
    }
    return LoggedRun(
        task_id=task,
        step_costs=np.array(costs, float),
        is_success=success,
        step_errors=np.array([False] * len(costs) if errors is None else errors),
        **arrays,
    )


@st.composite
def _runs(draw: st.DrawFn) -> LoggedRun:
    steps = draw(st.integers(1, 8))

    def column(elements: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(elements, min_size=steps, max_size=steps))

    return logged(
        column(st.integers(0, 9)),
        task=draw(st.sampled_from("abcdef")),
        success=draw(st.sampled_from([True, False, None])),
        errors=column(st.booleans()),
        action_keys=column(st.integers(-1, 2)),
        read_keys=column(st.integers(-1, 1)),
        attempts=sorted(column(st.integers(1, 3))),
        success_step=draw(st.none() | st.integers(0, steps - 1)),
    )


run_lists = st.lists(_runs(), min_size=1, max_size=12)

"""The synthetic agent: whether estimators find the value, waste and confounding that were planted in it.

Nothing here was published: the truths are those of the agent, and the estimators and their promises are those of
`estimators.py`, in fewer draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from estimators import Row, make_checks, replicate
from reproduction.comparison import Figure, Section

__all__ = ["reproduce"]

_DRAWS, _TASKS, _SEED = 100, 2000, 20260101


def reproduce(_data: Path) -> Section:
    """Draw the agent's logs again and again, and score every estimator; no data set is read."""
    rows, drops = replicate(_DRAWS, tasks=_TASKS, seed=_SEED)
    return Section(
        title="Synthetic agent with planted value, waste and confounding: bias",
        basis=f"{_DRAWS} draws of {_TASKS} tasks; the truth is known, nothing was published",
        figures=[*_biases(rows)],
        lines=[f"dropped by leave-one-out net: {name} in {share:.1%} of draws" for name, share in drops.items()],
        promises=[*make_checks(rows, drops)],
    )


def _biases(rows: Sequence[Row]) -> Iterator[Figure]:
    for row in rows:
        yield Figure(
            name=f"{row.estimator}: {row.truth}",
            ours=row.bias,
            note=f"truth {row.true:.4f}, coverage {row.coverage:.1%}, wrong sign in {row.wrong_sign:.1%} of draws",
        )

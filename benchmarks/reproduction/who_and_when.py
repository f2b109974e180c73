"""Who&When: how much of a failed run is spent after the step that decided it.

Each step is sent everything that was said before it, so what follows the decisive error costs more than its share of
the text. The logs have outputs only: the cost of a step is the length of the conversation up to and with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import fmean, median

from reproduction.comparison import Figure, Section
from reproduction.tokens import token_counter

__all__ = ["FOLDER", "reproduce", "share_after"]

FOLDER = "trajectories/WhoAndWhen/Who&When/Algorithm-Generated"


def share_after(step: int, sizes: Sequence[int]) -> float | None:
    """Share of the cost of all steps that comes after `step`, when each is sent all before it; `None` of nothing."""
    costs = list(accumulate(sizes))
    total = sum(costs)
    return sum(costs[step + 1 :]) / total if total else None


def reproduce(data: Path) -> Section:
    """Compute the published figures again."""
    logs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((data / FOLDER).glob("*.json"))]
    steps = [int(log["mistake_step"]) for log in logs]
    texts = [[turn["content"] or "" for turn in log["history"]] for log in logs]
    characters = [[len(text) for text in turns] for turns in texts]
    of_text = [sum(sizes[step + 1 :]) / sum(sizes) for step, sizes in zip(steps, characters, strict=True)]
    return Section(
        title="Who&When, algorithm-generated failures",
        basis=f"{len(logs)} failures; characters, as no token counts are in the data; outputs only",
        figures=[
            Figure(name="failures", ours=len(logs), published=126),
            *_shares(steps, characters),
            Figure(
                name="mean % of the text alone after the decisive error",
                ours=100 * fmean(of_text),
                published=39,
                tolerance=0.5,
            ),
        ],
        lines=[*_in_tokens(steps, texts), "hand-crafted failures (published 64 and 81 %): not in the data here"],
    )


def _shares(steps: Sequence[int], sizes: Sequence[Sequence[int]]) -> Iterator[Figure]:
    shares = [100 * share for share in map(share_after, steps, sizes) if share is not None]
    name = "% of resend cost after the decisive error"
    yield Figure(name=f"mean {name}", ours=fmean(shares), published=68, tolerance=0.5)
    yield Figure(name=f"median {name}", ours=median(shares), published=76, tolerance=0.5)


def _in_tokens(steps: Sequence[int], texts: Sequence[Sequence[str]]) -> Iterator[str]:
    tokens = token_counter()
    if tokens.is_exact:
        sizes = [[tokens.count(text) for text in turns] for turns in texts]
        shares = [share for share in map(share_after, steps, sizes) if share is not None]
        yield f"in {tokens.basis} instead: mean {fmean(shares):.1%}, median {median(shares):.1%}"

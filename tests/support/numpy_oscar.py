"""OSCAR in NumPy, row by row, as plainly as it can be said: what every implementation is checked against."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Halves = NDArray[np.float16]

SMALLEST_STEP = np.float32(2.0**-24)
SHRUNK = [np.float32(share) for share in (0.55, 0.7, 0.85, 1.0)]


@dataclass(frozen=True, kw_only=True)
class Side:
    """How rows become codes; all of one head."""

    rotation: Floats
    """(D, D)."""
    mean: Floats | None
    """(D,)."""
    clip_ratio: float | None
    """`None` searches."""
    groups: int
    damping: float | None
    metric: Floats | None
    """(D, D), of rotated errors."""
    stretch: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row's codes."""

    packed: NDArray[np.uint8]
    """(D / 4,)."""
    scale: Halves
    """(G,)."""
    minimum: Halves
    """(G,)."""

    def restored(self) -> Floats:
        """What the codes stand for, still turned."""
        codes = np.concatenate([self.packed >> shift & 3 for shift in (0, 2, 4, 6)]).astype(np.float64)
        grouped = codes.reshape(len(self.scale), -1)
        restored: Floats = (grouped * self.scale[:, None].astype(float) + self.minimum[:, None].astype(float)).ravel()
        return restored


def encode(row: Singles, side: Side) -> Row:
    """Centre, rotate, find ranges, round, scale, pack."""
    centred = row.astype(np.float64) if side.mean is None else row.astype(np.float64) - side.mean
    turned = (centred @ side.rotation).astype(np.float32)
    ranges = _ranges(turned, side)
    minimum = np.array([low for low, _ in ranges], np.float32).astype(np.float16)
    step = np.array([max(step, SMALLEST_STEP) for _, step in ranges], np.float32).astype(np.float16)
    codes = _codes(turned, minimum, step, side)
    if side.stretch:
        size = len(row) // side.groups
        stored = np.repeat(minimum.astype(float), size) + np.repeat(step.astype(float), size) * codes
        metric = np.eye(len(row)) if side.metric is None else side.metric
        loss = float(np.clip(turned @ metric @ turned / (turned @ metric @ stored), 0.8, 1.25))
        factor = np.float32(1 + side.stretch * (loss - 1))
        minimum, step = ((part.astype(np.float32) * factor).astype(np.float16) for part in (minimum, step))
    return Row(packed=_packed(codes), scale=step, minimum=minimum)


def _ranges(turned: Singles, side: Side) -> list[tuple[np.float32, np.float32]]:
    """Minimum and step of each group."""
    if side.clip_ratio is None:
        return [_searched(group) for group in turned.reshape(side.groups, -1)]
    rank = min(int(side.clip_ratio * len(turned)), len(turned) - 1)
    limit = np.sort(np.abs(turned))[rank] if side.clip_ratio > 0 else np.float32(np.inf)
    clipped = np.clip(turned, -limit, limit).reshape(side.groups, -1)
    return [_range(group.min(), group.max()) for group in clipped]


def _range(low: np.float32, high: np.float32) -> tuple[np.float32, np.float32]:
    return low, max((high - low) / np.float32(3), SMALLEST_STEP)


def _searched(group: Singles) -> tuple[np.float32, np.float32]:
    """Of ranges between shrunken extremes, each fitted to its codes by least squares, that of least squared error."""
    mean = group.mean(dtype=np.float32)
    best, least = _range(group.min(), group.max()), np.float32(np.inf)
    for below, above in product(SHRUNK, repeat=2):
        minimum, step = _range(mean + (group.min() - mean) * below, mean + (group.max() - mean) * above)
        codes = _nearest(group, minimum, step)
        centred = codes - codes.mean(dtype=np.float32)
        if (centred != 0).any():
            fitted = ((group - mean) * centred).sum() / (centred**2).sum()
            if fitted > SMALLEST_STEP:
                minimum, step = mean - fitted * codes.mean(dtype=np.float32), fitted
        error = ((group - minimum - step * _nearest(group, minimum, step)) ** 2).sum()
        if error < least:
            best, least = (minimum, step), error
    return best


def _nearest(rows: Singles, minimum: np.float32, step: np.float32) -> Singles:
    codes: Singles = np.clip(np.floor((rows - minimum) / step + np.float32(0.5)), 0, 3)
    return codes


def _codes(turned: Singles, minimum: Halves, step: Halves, side: Side) -> Singles:
    size = len(turned) // side.groups
    low, width = (np.repeat(part.astype(np.float32), size) for part in (minimum, step))
    feedback = _feedback(side)
    codes, target = np.empty_like(turned), turned.copy()
    for channel in range(len(turned)):
        codes[channel] = _nearest(target[channel], low[channel], width[channel])
        error = low[channel] + codes[channel] * width[channel] - turned[channel]
        target[channel + 1 :] -= error * feedback[channel, channel + 1 :]
    return codes


def _feedback(side: Side) -> Singles:
    """The part above the diagonal of F, where metric + damping = F diag F^T and F is unit upper triangular."""
    size = len(side.rotation)
    if side.damping is None or side.metric is None:
        return np.zeros((size, size), np.float32)
    damped = side.metric + side.damping * np.trace(side.metric) / size * np.eye(size)
    upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    above: Singles = np.triu(upper / np.diagonal(upper), 1).astype(np.float32)
    return above


def _packed(codes: Singles) -> NDArray[np.uint8]:
    first, second, third, fourth = codes.astype(np.uint8).reshape(4, -1)
    return np.asarray(first | second << 2 | third << 4 | fourth << 6, np.uint8)


def attend(query: Floats, keys: list[Row], values: list[Row], scaling: float) -> tuple[Floats, float]:
    """What one turned query reads of one head's codes, still turned, and the log-sum-exp."""
    scores = scaling * np.array([query @ row.restored() for row in keys])
    highest = scores.max()
    weights = np.exp(scores - highest)
    output: Floats = weights / weights.sum() @ np.array([row.restored() for row in values])
    return output, float(highest + np.log(weights.sum()))

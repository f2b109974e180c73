"""Rotations trained on what attention reads, after OptR (arXiv 2608.02691): R0 exp(A - A^T), for each head an A.

A fitted rotation spreads importance; it does not know how a row's range, and with it the step, changes with it. A few
steps of gradient descent through the quantiser do: codes are passed straight through, while minimum and step follow the
row. Keys come first, judged by the divergence of attention; values after them, by the error of what is read.

Rows are clipped and rounded to the nearest code while training, whatever the cache will do: a search for the range or
rounding in a metric has no useful gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tokenomics_local_llm.oscar.calibration import visit_attention
from tokenomics_local_llm.oscar.quantizer import QuantizerRecipe, clip_threshold
from tokenomics_local_llm.oscar.recipe import OscarRecipe
from tokenomics_local_llm.oscar.sampled import SampledAttention
from tokenomics_local_llm.oscar.transform import Rotations, SideTransform

__all__ = ["train_rotations"]

_TOP: Final = 3
_CLIP_RATIO: Final = 0.92  # where the recipe searches
_LEAST_STEP: Final = 1e-8


def train_rotations(
    model: PreTrainedModel,
    rotations: Rotations,
    texts: Iterable[Tensor],
    recipe: OscarRecipe | None = None,
    *,
    steps: int = 40,
    rate: float = 2e-3,
    queries: int = 64,
) -> Rotations:
    """Rotations from which to read errs less than from those that were fitted.

    Args:
        model: The model that was calibrated.
        rotations: What to start from.
        texts: Token ids, (T,) each, longer than both windows; each layer is trained on one after another.
        recipe: As the cache will have it; `None` is the default.
        steps: Of Adam, for each text, side and layer; the rate falls to 0 along a cosine.
        rate: At the beginning.
        queries: How many of each text's queries are asked.

    Returns:
        Rotations of the same kind; their eigenvalues are ones, because they diagonalise no moment.

    Raises:
        ValueError: If the texts fit into the windows.
    """
    chosen = recipe or OscarRecipe()
    keys, values = dict(rotations.keys), dict(rotations.values)

    def train(layer: int, query: Tensor, key: Tensor, value: Tensor, _output: Tensor) -> None:
        sample = SampledAttention.of(query, key, value, chosen, queries)
        turn = values[layer]
        metric = turn.unturned_metric
        keys[layer] = _trained(keys[layer], chosen.keys, sample.keys, sample.key_divergence, steps, rate)
        values[layer] = _trained(
            turn, chosen.values, sample.values, lambda rows: sample.value_error(rows, metric), steps, rate
        )

    visit_attention(model, texts, train, longer_than=chosen.sink_tokens + chosen.recent_tokens)
    return Rotations(keys=keys, values=values)


def _trained(
    side: SideTransform,
    recipe: QuantizerRecipe,
    rows: Tensor,
    loss: Callable[[Tensor], Tensor],
    steps: int,
    rate: float,
) -> SideTransform:
    mean = side.mean[:, None] if recipe.centred and side.mean is not None else torch.zeros(())
    centred = rows - mean
    with torch.enable_grad():
        skew = torch.zeros_like(side.rotation, requires_grad=True)
        optimizer = torch.optim.Adam([skew], lr=rate)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            more = torch.matrix_exp(skew - skew.mT)
            restored = _through_codes(centred @ (side.rotation @ more), recipe) @ (more.mT @ side.back) + mean
            optimizer.zero_grad()
            torch.autograd.backward(loss(restored))
            optimizer.step()
    more = torch.matrix_exp((skew - skew.mT).detach().double())
    return replace(
        side,
        rotation=(side.rotation.double() @ more).float(),
        inverse=None if side.inverse is None else (more.mT @ side.inverse.double()).float(),
        metric=None if side.metric is None else (more.mT @ side.metric.double() @ more).float(),
        eigenvalues=torch.ones_like(side.eigenvalues),
    )


def _through_codes(rows: Tensor, recipe: QuantizerRecipe) -> Tensor:
    """What clipped rows' nearest codes stand for; the gradient takes rounding for the identity."""
    limit = clip_threshold(rows, _CLIP_RATIO if recipe.clip_ratio is None else recipe.clip_ratio)
    clipped = torch.minimum(torch.maximum(rows, -limit), limit)
    grouped = clipped.view(*rows.shape[:-1], -1, recipe.group_size or rows.shape[-1])
    low, high = grouped.aminmax(dim=-1, keepdim=True)
    step = ((high - low) / _TOP).clamp_min(_LEAST_STEP)
    place = (grouped - low) / step
    codes = place + (place.round() - place).detach()
    restored: Tensor = (low + step * codes).flatten(-2)
    return restored

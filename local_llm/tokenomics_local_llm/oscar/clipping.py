"""Clips chosen layer by layer: for keys by the divergence of attention, for values by the error of what is read.

One clip for a whole model is a compromise: rows of some layers have heavy tails, whose ends carry attention, and rows
of others are better off with a finer step. Error of the rows themselves does not tell which, so attention is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tokenomics_local_llm.oscar.calibration import visit_attention
from tokenomics_local_llm.oscar.codec import SideCodec
from tokenomics_local_llm.oscar.quantizer import QuantizerRecipe
from tokenomics_local_llm.oscar.recipe import OscarRecipe
from tokenomics_local_llm.oscar.sampled import SampledAttention
from tokenomics_local_llm.oscar.transform import Rotations, SideTransform

__all__ = ["CLIP_RATIOS", "choose_clips"]

CLIP_RATIOS: Final = (0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 1.0)

_Losses = dict[int, dict[float, float]]


def choose_clips(
    model: PreTrainedModel,
    rotations: Rotations,
    texts: Iterable[Tensor],
    recipe: OscarRecipe | None = None,
    *,
    clip_ratios: Sequence[float] = CLIP_RATIOS,
    queries: int = 64,
) -> Rotations:
    """The same rotations with a clip for each layer's keys and for its values.

    Args:
        model: The model that was calibrated.
        rotations: Its rotations.
        texts: Token ids, (T,) each, longer than both windows.
        recipe: As the cache will have it, but for the clips; `None` is the default.
        clip_ratios: What to choose from.
        queries: How many of each text's queries are asked.

    Raises:
        ValueError: If the texts fit into the windows.
    """
    chosen = recipe or OscarRecipe()
    key_losses: _Losses = defaultdict(lambda: dict.fromkeys(clip_ratios, 0.0))
    value_losses: _Losses = defaultdict(lambda: dict.fromkeys(clip_ratios, 0.0))

    def judge(layer: int, query: Tensor, key: Tensor, value: Tensor, _output: Tensor) -> None:
        sample = SampledAttention.of(query, key, value, chosen, queries)
        turn = rotations.values[layer]
        metric = turn.unturned_metric
        _add(key_losses[layer], rotations.keys[layer], chosen.keys, sample.keys, sample.key_divergence)
        _add(value_losses[layer], turn, chosen.values, sample.values, lambda rows: sample.value_error(rows, metric))

    visit_attention(model, texts, judge, longer_than=chosen.sink_tokens + chosen.recent_tokens)
    return Rotations(keys=_clipped(rotations.keys, key_losses), values=_clipped(rotations.values, value_losses))


def _add(
    losses: dict[float, float],
    transform: SideTransform,
    recipe: QuantizerRecipe,
    rows: Tensor,
    loss: Callable[[Tensor], Tensor],
) -> None:
    for ratio in losses:
        codec = SideCodec(replace(transform, clip_ratio=torch.tensor(ratio)), recipe)
        losses[ratio] += float(loss(codec.decode(codec.encode(rows[None]))[0]))


def _clipped(sides: dict[int, SideTransform], losses: _Losses) -> dict[int, SideTransform]:
    return {
        layer: replace(side, clip_ratio=torch.tensor(min(losses[layer], key=losses[layer].__getitem__)))
        for layer, side in sides.items()
    }

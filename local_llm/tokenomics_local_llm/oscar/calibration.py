"""Calibration: a model reads text, and rotations, means and metrics of its keys and values come out.

The statistics are taken by an attention function of our own, which transformers calls with queries and keys after
position encoding, exactly as the cache will meet them. Text should be long and mixed: rotations fitted on prompts of a
few hundred tokens are met by positions they have never seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from tokenomics_local_llm.oscar.moments import LayerMoments
from tokenomics_local_llm.oscar.rotation import hadamard, rotation_of_moment
from tokenomics_local_llm.oscar.transform import Rotations, SideTransform

__all__ = ["ValueObjective", "collect_moments", "fit_rotations"]

ValueObjective = Literal["energy", "output", "covariance"]

_NAME: Final = "tokenomics_calibration"


def collect_moments(
    model: PreTrainedModel, texts: Iterable[Tensor], *, sink_tokens: int = 64
) -> dict[int, LayerMoments]:
    """Let a model read token sequences, each from its beginning, and sum its moments.

    Args:
        model: Any causal language model whose attention goes through transformers' attention interface.
        texts: Token ids, (T,) each; as long as the contexts to be served, or as memory allows.
        sink_tokens: Positions at the beginning of each text to leave out.

    Returns:
        Moments of each layer that attends, by its index.

    Raises:
        ValueError: If the model reported no attention at all.
    """
    moments: dict[int, LayerMoments] = {}
    with _attending_by(model, _NAME), torch.inference_mode():
        for text in texts:
            model(
                input_ids=text[None].to(model.device),
                use_cache=False,
                logits_to_keep=1,
                oscar_moments=moments,
                oscar_sink=sink_tokens,
            )
    if not moments:
        raise ValueError(
            f"{type(model).__name__} made no attention call that could be observed on texts longer than {sink_tokens} "
            "tokens: give longer texts, or a model that uses transformers' attention interface"
        )
    return moments


def fit_rotations(
    moments: dict[int, LayerMoments],
    *,
    per_head: bool = True,
    fitted: bool = True,
    value_objective: ValueObjective = "energy",
    output_metrics: dict[int, Tensor] | None = None,
) -> Rotations:
    """Rotations, means and metrics of each layer.

    Args:
        moments: What `collect_moments` returns.
        per_head: One rotation a key-value head; else one a layer, of the heads' mean moment, as OSCAR publishes them.
        fitted: U H P; else a Hadamard matrix, which needs no moments.
        value_objective: What the rotation of values diagonalises.
        output_metrics: What `folding.output_metrics` returns, for rounding values channel after channel.
    """
    keys, values = {}, {}
    for layer, sums in moments.items():
        query = sums.query / (sums.tokens * sums.query_heads)
        value = _value_moment(sums, value_objective)
        keys[layer] = _side(query, sums.key_sum / sums.tokens, query, per_head=per_head, fitted=fitted)
        metric = None if output_metrics is None else output_metrics[layer]
        values[layer] = _side(value, sums.value_sum / sums.tokens, metric, per_head=per_head, fitted=fitted)
    return Rotations(keys=keys, values=values)


def _side(moment: Tensor, mean: Tensor, metric: Tensor | None, *, per_head: bool, fitted: bool) -> SideTransform:
    shared = moment if per_head else moment.mean(0, keepdim=True)
    if fitted:
        rotation, eigenvalues = rotation_of_moment(shared)
    else:
        size = moment.shape[-1]
        rotation, eigenvalues = hadamard(size)[None], torch.ones(1, size, dtype=torch.float64)
    rotated = None if metric is None else rotation.mT @ (metric if per_head else metric.mean(0, keepdim=True)) @ rotation
    return SideTransform(
        rotation=rotation.float(),
        eigenvalues=eigenvalues.float(),
        mean=mean.float(),
        metric=None if rotated is None else rotated.float(),
    )


def _value_moment(sums: LayerMoments, objective: ValueObjective) -> Tensor:
    if objective == "output":
        return sums.output / (sums.tokens * sums.query_heads)
    return (sums.energy if objective == "energy" else sums.value) / sums.tokens


@contextmanager
def _attending_by(model: PreTrainedModel, name: str) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _observed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    oscar_moments: dict[int, LayerMoments],
    oscar_sink: int,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    output: Tensor
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if key.shape[2] > oscar_sink:
        layer: Any = module.layer_idx
        if layer not in oscar_moments:
            heads = key.shape[1]
            oscar_moments[layer] = LayerMoments.empty(heads, key.shape[3], query.shape[1] // heads)
        for row in range(key.shape[0]):
            oscar_moments[layer].add(
                query[row, :, oscar_sink:],
                key[row, :, oscar_sink:],
                value[row, :, oscar_sink:],
                output[row].transpose(0, 1)[:, oscar_sink:],
            )
    return output, None


AttentionInterface.register(_NAME, _observed_attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)

"""The rotation of values, moved into the weights around it, where it costs nothing at run time.

What a head reads, the sum of p_t v_t, is linear in its values. So v_proj may write rotated values, and the columns of
o_proj that read the head turn them back: the model computes the same, and its cache receives values that are already
rotated. Keys have no such place, because the position encoding comes between their projection and the cache.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenomics_local_llm.oscar.transform import Rotations, SideTransform

__all__ = ["fold_value_rotations", "output_metrics"]


def output_metrics(model: PreTrainedModel) -> dict[int, Tensor]:
    """What an error in a head's output costs after the output projection, for each layer and key-value head.

    Returns:
        The sum of W^T W over the query heads of each key-value head, (H, D, D), float64, by the layer's index.
    """
    metrics = {}
    for layer, attention in _attentions(model).items():
        heads, head_dim = _value_heads(attention), attention.head_dim
        weight = _columns(attention.o_proj, heads, head_dim)
        metrics[layer] = torch.einsum("ohgd,ohge->hde", weight, weight).cpu()
    return metrics


@torch.no_grad()
def fold_value_rotations(model: PreTrainedModel, rotations: Rotations) -> Rotations:
    """Turn the values that a model computes, in place, and what reads them back; its logits stay the same.

    Products are taken in float64 and rounded once to the weights' dtype.

    Returns:
        The rotations that the changed model's cache needs, whose values come turned already.

    Raises:
        ValueError: If the model's attention has no separate `v_proj` and `o_proj`, or was folded before.
    """
    attentions = _attentions(model)
    values = {}
    for layer, side in rotations.values.items():
        attention = attentions[layer]
        heads, head_dim = _value_heads(attention), attention.head_dim
        device = attention.v_proj.weight.device
        rotation, back = (part.double().expand(heads, -1, -1).to(device) for part in (side.rotation, side.back))
        write, read = attention.v_proj, attention.o_proj
        rows = write.weight.double().view(heads, head_dim, -1)
        _set(write.weight, (rotation.mT @ rows).flatten(0, 1))
        if write.bias is not None:
            bias = write.bias.double().view(heads, 1, head_dim)
            _set(write.bias, (bias @ rotation).flatten())
        _set(read.weight, torch.einsum("ohgd,hed->ohge", _columns(read, heads, head_dim), back).flatten(1))
        values[layer] = _already_turned(side)
    return Rotations(keys=rotations.keys, values=values)


def _already_turned(side: SideTransform) -> SideTransform:
    mean = None if side.mean is None else (side.mean.unsqueeze(-2) @ side.rotation).squeeze(-2)
    unit = torch.eye(side.rotation.shape[-1])[None]
    return replace(side, rotation=unit, inverse=None, mean=mean)


def _columns(read: nn.Linear, heads: int, head_dim: int) -> Tensor:
    """The weight of an output projection, (O, H, g, D), float64."""
    return read.weight.detach().double().view(read.out_features, heads, -1, head_dim)


def _set(parameter: nn.Parameter, exact: Tensor) -> None:
    parameter.copy_(exact.to(parameter.dtype))


def _value_heads(attention: Any) -> int:
    return int(attention.v_proj.out_features // attention.head_dim)


def _attentions(model: PreTrainedModel) -> dict[int, Any]:
    modules: list[Any] = list(model.modules())
    parts = ("v_proj", "o_proj", "head_dim", "layer_idx")
    found = {module.layer_idx: module for module in modules if all(hasattr(module, part) for part in parts)}
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no attention with separate v_proj and o_proj, into which a rotation of values "
            "could be folded: leave it unfolded, which costs one small product a step"
        )
    return found

"""Calibration: a model reads text, and rotations, means and metrics of its keys and values come out.

The statistics are taken by an attention function of our own, which transformers calls with queries and keys after
position encoding, exactly as the cache will meet them. Text should be long and mixed: rotations fitted on prompts of a
few hundred tokens are met by positions they have never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from tokenomics_local_llm.oscar.attending import attending_by
from tokenomics_local_llm.oscar.folding import output_metrics
from tokenomics_local_llm.oscar.moments import LayerMoments
from tokenomics_local_llm.oscar.rotation import hadamard, rotation_of_moment
from tokenomics_local_llm.oscar.transform import Rotations, SideTransform

__all__ = ["ValueObjective", "calibrate", "collect_moments", "fit_rotations", "visit_attention"]

ValueObjective = Literal["energy", "output", "covariance"]
Visit = Callable[[int, Tensor, Tensor, Tensor, Tensor], None]

_NAME: Final = "tokenomics_calibration"
_WHITENING: Final = 0.5  # half way to alike directions: with 1, SmolLM2 loses what it gains with 0.5
_SPREAD_DAMPING: Final = 0.01  # of the mean variance: directions that calibration hardly saw are not blown up


def calibrate(model: PreTrainedModel, texts: Iterable[Tensor], *, sink_tokens: int = 64) -> Rotations:
    """Rotations of a model as the default recipe needs them; arguments and errors are those of `collect_moments`."""
    moments = collect_moments(model, texts, sink_tokens=sink_tokens)
    return fit_rotations(moments, whitening=_WHITENING, output_metrics=output_metrics(model))


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

    def add(layer: int, query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> None:
        if layer not in moments:
            heads, _, head_dim = key.shape
            moments[layer] = LayerMoments.empty(heads, head_dim, query.shape[0] // heads)
        moments[layer].add(*(part[:, sink_tokens:] for part in (query, key, value, output)))

    visit_attention(model, texts, add, longer_than=sink_tokens)
    return moments


def visit_attention(model: PreTrainedModel, texts: Iterable[Tensor], visit: Visit, *, longer_than: int) -> None:
    """Let a model read token sequences, each from its beginning, and show what every layer attends with.

    Args:
        model: Any causal language model whose attention goes through transformers' attention interface.
        texts: Token ids, (T,) each.
        visit: Called with the layer's index, queries (Hq, T, D) and keys (H, T, D) after position encoding, values
            (H, T, D), and what attention made of them, (Hq, T, D); in no-grad mode.
        longer_than: Shorter texts, in tokens, are not shown.

    Raises:
        ValueError: If the model reported no attention at all.
    """
    layers = set()

    def note(layer: int, *parts: Tensor) -> None:
        layers.add(layer)
        visit(layer, *parts)

    with attending_by(model, _NAME), torch.no_grad():
        for text in texts:
            shown = note if len(text) > longer_than else None
            ids = text[None].to(model.device)
            model(input_ids=ids, use_cache=False, logits_to_keep=1, oscar_visit=shown)
    if not layers:
        raise ValueError(
            f"{type(model).__name__} made no attention call that could be observed on texts longer than {longer_than} "
            "tokens: give longer texts, or a model that uses transformers' attention interface"
        )


def fit_rotations(
    moments: dict[int, LayerMoments],
    *,
    per_head: bool = True,
    fitted: bool = True,
    whitening: float = 0.0,
    value_objective: ValueObjective = "covariance",
    output_metrics: dict[int, Tensor] | None = None,
) -> Rotations:
    """Rotations, means and metrics of each layer.

    Args:
        moments: What `collect_moments` returns.
        per_head: One rotation a key-value head; else one a layer, of the heads' mean moment, as OSCAR publishes them.
        fitted: U H P; else a Hadamard matrix, which needs no moments.
        whitening: How far strong directions are scaled down before they are rotated: each by its variance to the power
            -`whitening` / 2. 0 is orthogonal, 1 leaves all directions alike.
        value_objective: What the rotation of values diagonalises.
        output_metrics: What `folding.output_metrics` returns, for rounding values channel after channel.
    """
    keys, values = {}, {}
    for layer, sums in moments.items():
        query = sums.query / (sums.tokens * sums.query_heads)
        key_mean = sums.key_sum / sums.tokens
        key = sums.key / sums.tokens - key_mean.unsqueeze(-1) * key_mean.unsqueeze(-2)
        fit = _Fit(per_head=per_head, fitted=fitted, whitening=whitening)
        keys[layer] = fit.side(None, spread=key, mean=key_mean, metric=query)
        values[layer] = fit.side(
            _value_moment(sums, value_objective),
            spread=sums.value / sums.tokens,
            mean=sums.value_sum / sums.tokens,
            metric=None if output_metrics is None else output_metrics[layer],
        )
    return Rotations(keys=keys, values=values)


@dataclass(frozen=True, kw_only=True)
class _Fit:
    per_head: bool
    fitted: bool
    whitening: float

    def side(self, moment: Tensor | None, *, spread: Tensor, mean: Tensor, metric: Tensor | None) -> SideTransform:
        """Of the moment of what is turned or, where that is `None`, of the metric of what reads it."""
        scaling = self._scaling(self._shared(spread))
        if moment is None:
            assert metric is not None
            undone = torch.linalg.inv(scaling)
            scaled = undone @ self._shared(metric) @ undone.mT
        else:
            scaled = scaling.mT @ self._shared(moment) @ scaling
        rotation, eigenvalues = self._rotation(scaled)
        turn = scaling @ rotation
        back = torch.linalg.inv(turn)
        cost = None if metric is None else back @ self._shared(metric) @ back.mT
        return SideTransform(
            rotation=turn.float(),
            eigenvalues=eigenvalues.float(),
            inverse=back.float() if self.whitening else None,
            mean=mean.float(),
            metric=None if cost is None else cost.float(),
        )

    def _shared(self, moment: Tensor) -> Tensor:
        return moment if self.per_head else moment.mean(0, keepdim=True)

    def _rotation(self, moment: Tensor) -> tuple[Tensor, Tensor]:
        if self.fitted:
            return rotation_of_moment(moment)
        heads, size, _ = moment.shape
        return hadamard(size).expand(heads, -1, -1), torch.ones(heads, size, dtype=torch.float64)

    def _scaling(self, spread: Tensor) -> Tensor:
        size = spread.shape[-1]
        level = spread.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        damped = spread / level + _SPREAD_DAMPING * torch.eye(size, dtype=torch.float64)
        variances, directions = torch.linalg.eigh(damped)
        scaling: Tensor = (directions * variances.pow(-self.whitening / 2).unsqueeze(-2)) @ directions.mT
        return scaling


def _value_moment(sums: LayerMoments, objective: ValueObjective) -> Tensor:
    if objective == "output":
        return sums.output / (sums.tokens * sums.query_heads)
    return {"energy": sums.energy, "covariance": sums.value}[objective] / sums.tokens


def _observed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    oscar_visit: Visit | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    output: Tensor
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if oscar_visit is not None:
        layer: Any = module.layer_idx
        oscar_visit(layer, query[0], key[0], value[0], output[0].transpose(0, 1))
    return output, None


AttentionInterface.register(_NAME, _observed_attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)

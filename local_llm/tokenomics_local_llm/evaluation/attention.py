"""How far attention strays, layer by layer, when its keys have been through a cache.

The model itself runs exactly; beside it a second cache is given the same keys and values. Each layer's attention is
computed twice from the same queries, over the exact keys and over what the second cache makes of them. So a layer
shows its own error, and not what layers below it passed on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from tokenomics_local_llm.model import cache_argument
from tokenomics_local_llm.oscar.attending import attending_by

__all__ = ["attention_divergence"]

_NAME: Final = "tokenomics_shadowed"


@dataclass(kw_only=True)
class _Shadow:
    """A cache that sees what the model's own sees."""

    cache: Cache
    scores: bool = False
    """Whether the queries of now are scored."""
    divergences: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))


@torch.inference_mode()
def attention_divergence(
    model: PreTrainedModel, tokens: Tensor, cache: Cache, *, scored_tokens: int, chunk_tokens: int = 256
) -> dict[int, float]:
    """Divergence of attention over a cache's keys from attention over exact ones.

    Args:
        model: A causal language model without sliding windows.
        tokens: A text, (T,).
        cache: Empty; holds the text afterwards.
        scored_tokens: How many of the last positions' queries to score, at least.
        chunk_tokens: Tokens read at a time.

    Returns:
        Mean KL divergence by layer, over heads and positions, nats.

    Raises:
        ValueError: If the text is not longer than what is to be scored.
    """
    if not 0 < scored_tokens < len(tokens):
        raise ValueError(f"scored_tokens must be above 0 and below the text's {len(tokens)}, got {scored_tokens}")
    shadow, exact = _Shadow(cache=cache), DynamicCache(config=model.config)
    with attending_by(model, _NAME):
        for start in range(0, len(tokens), chunk_tokens):
            chunk = tokens[start : start + chunk_tokens]
            shadow.scores = start + len(chunk) > len(tokens) - scored_tokens
            model(
                input_ids=chunk[None].to(model.device),
                use_cache=True,
                logits_to_keep=1,
                shadow=shadow,
                **{cache_argument(model): exact},
            )
    return {layer: float(torch.cat(parts, dim=-1).mean()) for layer, parts in sorted(shadow.divergences.items())}


def _shadowed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    shadow: _Shadow,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    output: Tensor
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    layer: Any = module.layer_idx
    new = slice(key.shape[2] - query.shape[2], None)
    restored, _ = shadow.cache.update(key[:, :, new], value[:, :, new], layer)
    if shadow.scores:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        shadow.divergences[layer].append(_divergence(query[0] * scale, key[0], restored[0]))
    return output, None


def _divergence(query: Tensor, exact: Tensor, restored: Tensor) -> Tensor:
    """Of each head's and position's attention, (Hq, N)."""
    expected, found = (_log_weights(query, keys) for keys in (exact, restored))
    return (expected.exp() * (expected - found).nan_to_num(nan=0.0)).sum(-1)  # both are -inf at what is masked


def _log_weights(query: Tensor, keys: Tensor) -> Tensor:
    heads, tokens, _ = keys.shape
    grouped = query.float().reshape(heads, -1, query.shape[1], query.shape[2])
    scores = torch.einsum("hgnd,htd->hgnt", grouped, keys.float()).flatten(0, 1)
    later = torch.ones(query.shape[1], tokens, dtype=torch.bool, device=keys.device).triu(tokens - query.shape[1] + 1)
    return torch.log_softmax(scores.masked_fill(later, -torch.inf), -1)


AttentionInterface.register(_NAME, _shadowed_attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)

"""What some queries of a text read from one layer, exactly and through codes: by it clips and turns are judged.

Tokens of the windows stay exact for each query, as they do in the cache, so that only what will be codes counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenomics_local_llm.oscar.recipe import OscarRecipe

__all__ = ["SampledAttention"]


@dataclass(frozen=True, kw_only=True)
class SampledAttention:
    """One layer's attention over one text, of some of its queries."""

    query: Tensor
    """(H, g, N, D), scaled."""
    keys: Tensor
    """(H, T, D)."""
    values: Tensor
    """(H, T, D)."""
    packed: Tensor
    """Which tokens are codes by the time of each query, (N, T)."""
    hidden: Tensor
    """Which tokens lie after each query, (N, T)."""

    @classmethod
    def of(cls, query: Tensor, key: Tensor, value: Tensor, recipe: OscarRecipe, queries: int) -> SampledAttention:
        """Of what `visit_attention` shows: `queries` of the text's second half, at even distances."""
        heads, tokens, channels = key.shape
        at = torch.linspace(tokens // 2, tokens - 1, queries).long()
        chosen = query.float()[:, at].view(heads, -1, queries, channels) * channels**-0.5
        token, now = torch.arange(tokens), at[:, None]
        return cls(
            query=chosen,
            keys=key.float(),
            values=value.float(),
            packed=(token >= recipe.sink_tokens) & (token <= now - recipe.recent_tokens),
            hidden=token > now,
        )

    def logits(self, keys: Tensor) -> Tensor:
        """Of all tokens a query sees, (H, g, N, T), with `keys` in place of those that are codes."""
        exact, coarse = (torch.einsum("hgnd,htd->hgnt", self.query, rows) for rows in (self.keys, keys))
        return torch.where(self.packed, coarse, exact).masked_fill(self.hidden, -torch.inf)

    def key_divergence(self, keys: Tensor) -> Tensor:
        """Mean divergence of the weights with `keys` in place of codes from the exact ones, nats."""
        expected = self.logits(self.keys).log_softmax(-1)
        found = self.logits(keys).log_softmax(-1)
        weighed = expected.exp() * (expected - found).masked_fill(self.hidden, 0.0)
        return weighed.sum(-1).mean()

    def value_error(self, values: Tensor, metric: Tensor | None) -> Tensor:
        """Mean squared error of the outputs with `values` in place of codes, in a metric (H, D, D)."""
        weights = self.logits(self.keys).softmax(-1) * self.packed
        error = torch.einsum("hgnt,htd->hgnd", weights, values - self.values)
        weighed = error if metric is None else torch.einsum("hgnd,hde->hgne", error, metric)
        return (weighed * error).sum(-1).mean()

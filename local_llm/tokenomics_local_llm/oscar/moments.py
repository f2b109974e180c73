"""Second moments of queries, keys and values, summed while a model reads calibration text.

Nothing is dumped: each attention layer hands over what it attends with, and sums of D x D remain. Positions of the sink
are left out, because they are never quantised and their keys and values look like no others'. Sums are float64: the
small eigenvalues that whitening and rounding rely on drown in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LayerMoments"]


@dataclass(kw_only=True)
class LayerMoments:
    """Sums over tokens of one layer's heads; all float64, H key-value heads with g query heads each."""

    query: Tensor
    """Sum of q^T q over the tokens and over the head's query heads, (H, D, D)."""
    key: Tensor
    """Sum of k^T k, (H, D, D)."""
    key_sum: Tensor
    """Sum of k, (H, D)."""
    value: Tensor
    """Sum of v^T v, (H, D, D)."""
    value_sum: Tensor
    """Sum of v, (H, D)."""
    energy: Tensor
    """Sum of w v^T v, (H, D, D), where w is the token's k A k^T over its mean and A the query moment of the same text:
    the weights of OSCAR's published rotations of values."""
    output: Tensor
    """Sum of o^T o over what attention gives each query head, (H, D, D): the weights of OSCAR's paper."""
    tokens: int = 0
    """Tokens summed over."""
    query_heads: int = 1
    """g, query heads that share a key-value head."""

    @classmethod
    def empty(cls, heads: int, head_dim: int, query_heads: int) -> LayerMoments:
        """Of no tokens yet."""

        def square() -> Tensor:
            return torch.zeros(heads, head_dim, head_dim, dtype=torch.float64)

        def line() -> Tensor:
            return torch.zeros(heads, head_dim, dtype=torch.float64)

        return cls(
            query=square(), key=square(), key_sum=line(), value=square(), value_sum=line(), energy=square(),
            output=square(), query_heads=query_heads,
        )  # fmt: skip

    def add(self, query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> None:
        """Add one text's tokens, those of its sink already left out.

        Args:
            query: (Hq, T, D), after position encoding.
            key: (H, T, D), after position encoding.
            value: (H, T, D).
            output: What attention made of them, (Hq, T, D).
        """
        heads, tokens, _ = key.shape
        queries = query.double().reshape(heads, -1, query.shape[-1])
        keys, values = key.double(), value.double()
        outputs = output.double().reshape(heads, -1, output.shape[-1])
        moment = queries.mT @ queries
        self.query += moment.cpu()
        self.key += (keys.mT @ keys).cpu()
        self.key_sum += keys.sum(1).cpu()
        self.value += (values.mT @ values).cpu()
        self.value_sum += values.sum(1).cpu()
        energy = ((keys @ moment) * keys).sum(-1, keepdim=True)
        weights = energy * tokens / energy.sum(1, keepdim=True)
        self.energy += (values.mT @ (weights * values)).cpu()
        self.output += (outputs.mT @ outputs).cpu()
        self.tokens += tokens

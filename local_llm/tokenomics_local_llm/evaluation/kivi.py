"""KIVI (arXiv 2402.02750) for comparison: keys quantised per channel over groups of tokens, values per token.

Only the numbers are made: what is quantised is restored at once, so quality can be measured and memory cannot.
"""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor
from transformers import Cache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

__all__ = ["kivi_bits_per_element", "kivi_cache"]

_GROUP_TOKENS: Final = 64  # so that a scale and a minimum cost keys as many bits as values of heads of 64
_RESIDUAL_TOKENS: Final = 128


class _KiviLayer(DynamicLayer):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._quantized_tokens = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = super().update(key_states, value_states)
        last = max(keys.shape[2] - _RESIDUAL_TOKENS, 0) // _GROUP_TOKENS * _GROUP_TOKENS
        if last > self._quantized_tokens:
            leaving = slice(self._quantized_tokens, last)
            self.keys, self.values = keys.clone(), values.clone()
            self.keys[:, :, leaving] = _by_channel(keys[:, :, leaving])
            self.values[:, :, leaving] = _restored(values[:, :, leaving])
            self._quantized_tokens = last
        return keys, values


def _by_channel(keys: Tensor) -> Tensor:
    batch, heads, tokens, channels = keys.shape
    groups = keys.reshape(batch, heads, tokens // _GROUP_TOKENS, _GROUP_TOKENS, channels)
    return _restored(groups.mT).mT.reshape(keys.shape)


def _restored(rows: Tensor) -> Tensor:
    low, high = rows.aminmax(dim=-1, keepdim=True)
    step = ((high - low) / 3).half().float().clamp_min(2.0**-24)
    codes = ((rows - low) / step).round().clamp(0, 3)
    return (low.half() + codes * step).to(rows.dtype)


def kivi_cache(config: PretrainedConfig) -> Cache:
    """An empty cache for a model of this configuration."""
    return Cache(layers=[_KiviLayer() for _ in range(config.num_hidden_layers)])


def kivi_bits_per_element(tokens: int, head_dim: int) -> float:
    """Mean bits of a stored number, with 16 bits a scale and a minimum."""
    quantized = max(tokens - _RESIDUAL_TOKENS, 0) // _GROUP_TOKENS * _GROUP_TOKENS
    codes = 2 + (32 / _GROUP_TOKENS + 32 / head_dim) / 2
    return (quantized * codes + (tokens - quantized) * 16) / tokens

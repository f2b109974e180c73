"""How a cache is laid out and how its history becomes codes: one object, built once, handed in."""

from __future__ import annotations

from dataclasses import dataclass, field

from tokenomics_local_llm.oscar.quantizer import QuantizerRecipe

__all__ = ["OscarRecipe"]

_STORED_BITS = 16  # of a scale and of a minimum


@dataclass(frozen=True, kw_only=True)
class OscarRecipe:
    """Windows and quantisers of an `OscarCache`."""

    sink_tokens: int = 64
    """First tokens of each sequence, kept as the model computed them."""
    recent_tokens: int = 256
    """Newest tokens kept as the model computed them, at least."""
    demotion_tokens: int = 16
    """Tokens that leave the recent window at a time; up to this many less one more are kept there."""
    keys: QuantizerRecipe = field(default_factory=QuantizerRecipe)
    """How keys become codes."""
    values: QuantizerRecipe = field(default_factory=lambda: QuantizerRecipe(centred=False, stretch=0.5))
    """How values become codes."""

    def __post_init__(self) -> None:
        if self.sink_tokens < 0 or self.recent_tokens < 0:
            raise ValueError(
                f"windows must not be negative, got sink_tokens={self.sink_tokens}, recent_tokens={self.recent_tokens}"
            )
        if self.demotion_tokens < 1:
            raise ValueError(f"demotion_tokens must be at least 1, got {self.demotion_tokens}")

    @classmethod
    def as_published(cls) -> OscarRecipe:
        """The recipe of OSCAR's paper and code, with float16 scales: no centring, nearest codes."""
        return cls(keys=QuantizerRecipe.as_published(0.96), values=QuantizerRecipe.as_published(0.92))

    def quantized_tokens(self, tokens: int) -> int:
        """How many of a sequence's tokens are codes once it has `tokens`: whole blocks, between the two windows."""
        beyond = max(tokens - self.sink_tokens - self.recent_tokens, 0)
        return beyond - beyond % self.demotion_tokens

    def bits_per_element(self, tokens: int, head_dim: int, *, window_bits: int = 16) -> float:
        """Mean bits of a stored number of a sequence of `tokens`, windows and scales included."""
        quantized = self.quantized_tokens(tokens)
        codes = sum(2 + 2 * _STORED_BITS / (side.group_size or head_dim) for side in (self.keys, self.values)) / 2
        return (quantized * codes + (tokens - quantized) * window_bits) / tokens

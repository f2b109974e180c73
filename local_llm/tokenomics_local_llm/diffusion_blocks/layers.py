"""Transformer layers that a noise level may modulate (DiT's adaLN, Peebles & Xie 2023, arXiv 2212.09748).

One layer serves all three tasks. Its modulation starts at zero. A gate of 0 then makes the layer the identity, which
suits networks whose every row is noisy; a gate of 1 makes it the plain layer, so that rows without noise, which get no
modulation, and rows with noise start alike. Attention returns its keys and values, and accepts those of earlier
rows: what training computes in one go, decoding takes from a cache.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from tokenomics_local_llm.diffusion_blocks.edm import SIGMA_DATA

__all__ = ["Head", "KeysValues", "NoiseEmbedding", "Rotation", "TransformerLayer", "fixed_targets", "rotation"]

_FREQUENCIES = 256


class KeysValues(NamedTuple):
    """Of one layer, each (B, H, T, D)."""

    keys: Tensor
    values: Tensor

    def then(self, later: KeysValues) -> KeysValues:
        """These rows followed by others."""
        return KeysValues(torch.cat([self.keys, later.keys], dim=2), torch.cat([self.values, later.values], dim=2))


class Rotation(NamedTuple):
    """Cosines and sines of rotary positions, each (T, D)."""

    cos: Tensor
    sin: Tensor


def rotation(positions: Tensor, head_size: int) -> Rotation:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864), for positions (T,)."""
    frequencies = 10_000.0 ** -(torch.arange(0, head_size, 2, device=positions.device) / head_size)
    angles = torch.cat([positions[:, None] * frequencies] * 2, dim=-1)
    return Rotation(angles.cos(), angles.sin())


def fixed_targets(classes: int, width: int, *, seed: int = 0) -> Tensor:
    """Rows of length 1 to add noise to, (classes, width); orthogonal where there is room.

    The paper learns them together with all blocks, so that no block can be trained without the others. These are the
    same for every block that knows the seed.
    """
    rows = torch.randn(classes, width, generator=torch.Generator().manual_seed(seed))
    if classes <= width:
        orthogonal: Tensor = torch.linalg.qr(rows.T).Q
        return orthogonal.T.contiguous()
    return nn.functional.normalize(rows, dim=-1)


class NoiseEmbedding(nn.Module):
    """c_noise, any shape, to a vector of `width` each: sinusoids, then two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, c_noise: Tensor) -> Tensor:
        """Returns (..., width)."""
        half = _FREQUENCIES // 2
        frequencies = 10_000.0 ** -(torch.arange(half, device=c_noise.device) / half)
        angles = c_noise[..., None] * frequencies
        return cast(Tensor, self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1)))


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, each normalised before and added after.

    Args:
        width: Of the residual stream.
        heads: Of attention; divides the width.
        condition_width: Of the vector that modulates; 0 for a layer that nothing modulates.
        gate: What the gates start from: 0 for the identity, 1 for the plain layer.
    """

    def __init__(self, width: int, heads: int, *, condition_width: int = 0, gate: float = 1.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads must divide width, got heads={heads} and width={width}")
        self.heads = heads
        self.gate = gate
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulation = _zero_linear(condition_width, 6 * width) if condition_width else None

    def forward(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        rotate: Rotation | None = None,
        past: KeysValues | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """Run the layer.

        Args:
            x: (B, T, width).
            condition: (B, 1 or T, condition_width); `None` leaves the layer plain.
            mask: True where row t may look at a key, (T, keys); `None` lets it look at all.
            rotate: Positions of the rows.
            past: Keys and values before the layer's own.

        Returns:
            The rows, and their own keys and values.
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self._modulate(condition)
        normed = self.attention_norm(x) * (1 + scale_a) + shift_a
        attended, own = self._attend(normed, mask=mask, rotate=rotate, past=past)
        x = x + gate_a * attended
        return x + gate_m * self.mlp(self.mlp_norm(x) * (1 + scale_m) + shift_m), own

    def _modulate(self, condition: Tensor | None) -> tuple[Tensor | float, ...]:
        if condition is None or self.modulation is None:
            return (0.0, 0.0, 1.0) * 2
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, dim=-1)
        return shift_a, scale_a, self.gate + gate_a, shift_m, scale_m, self.gate + gate_m

    def _attend(
        self, x: Tensor, *, mask: Tensor | None, rotate: Rotation | None, past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        split = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, H, T, D)
        queries, keys, values = split.unbind(0)
        if rotate is not None:
            queries, keys = _rotated(queries, rotate), _rotated(keys, rotate)
        own = KeysValues(keys, values)
        seen = own if past is None else past.then(own)
        mixed = nn.functional.scaled_dot_product_attention(queries, seen.keys, seen.values, attn_mask=mask)
        return self.attention_out(mixed.transpose(1, 2).flatten(2)), own


class Head(nn.Module):
    """From the clean estimate to logits: modulated by the noise level, then a linear layer.

    The modulation starts at zero. The linear layer, which starts there in the released code, does not: as long as it is
    small no gradient reaches the layers, and a block first learns to read the answer off z. It starts with logits of
    size 1 at the highest noise, where the estimate is `SIGMA_DATA` times a normalised row.
    """

    def __init__(self, width: int, classes: int, *, condition_width: int) -> None:
        super().__init__()
        self.modulation = _zero_linear(condition_width, 2 * width)
        self.classifier = nn.Linear(width, classes)
        nn.init.normal_(self.classifier.weight, std=1 / (SIGMA_DATA * width**0.5))
        nn.init.zeros_(self.classifier.bias)

    def forward(self, estimate: Tensor, condition: Tensor) -> Tensor:
        """Estimate (..., width), condition (..., condition_width), logits (..., classes)."""
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return cast(Tensor, self.classifier(estimate * (1 + scale) + shift))


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _rotated(x: Tensor, rotate: Rotation) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * rotate.cos + torch.cat([-second, first], dim=-1) * rotate.sin

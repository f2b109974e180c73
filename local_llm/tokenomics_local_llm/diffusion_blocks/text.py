"""Autoregressive text with DiffusionBlocks: the noised variable is the vector of the next token.

The paper says in two paragraphs what it does and releases no code, so what it leaves open is decided here:

- The clean stream is not told the noise level, so that its keys and values serve every step of the sampler and are
  cached like any model's. The noisy row sees them and itself; its own are thrown away.
- Instead of one sequence of twice the length under a mask, the clean rows run first and the noisy rows look at their
  keys and values: the same result, and the same code as decoding.
- Every row has a noise level of its own: noisy rows do not see each other.

What a block can learn is bounded by an ordinary model of its own few layers (see `evidence`): it sees the tokens
themselves and never what other blocks made of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tokenomics_local_llm.diffusion_blocks.edm import (
    SIGMA_DATA,
    Bridge,
    add_noise,
    denoised_vector,
    precondition,
    walk,
)
from tokenomics_local_llm.diffusion_blocks.layers import (
    Head,
    KeysValues,
    NoiseEmbedding,
    TransformerLayer,
    fixed_targets,
    rotation,
)
from tokenomics_local_llm.diffusion_blocks.stack import Batch, Stack

__all__ = ["CleanCache", "TokenDecoder", "TokenDenoiser", "noisy_row_mask"]


def noisy_row_mask(length: int) -> Tensor:
    """What noisy rows may look at: the clean rows before their own place, and of the noisy ones themselves.

    To let a row look at the clean row of its own place would hand over the answer, and make a beautiful loss curve.

    Args:
        length: Tokens T; the first has no noisy row, because nothing precedes it.

    Returns:
        (T - 1, T + T - 1), clean columns first.
    """
    before = torch.ones(length - 1, length, dtype=torch.bool).tril()
    return torch.cat([before, torch.eye(length - 1, dtype=torch.bool)], dim=1)


class CleanCache:
    """Keys and values of the tokens that one block has read, a pair a layer."""

    def __init__(self) -> None:
        self.layers: list[KeysValues] = []

    @property
    def tokens(self) -> int:
        """How many it has read."""
        return self.layers[0].keys.shape[2] if self.layers else 0

    def append(self, rows: list[KeysValues]) -> None:
        """Add what the layers made of the next tokens."""
        self.layers = [old.then(new) for old, new in zip(self.layers, rows, strict=True)] if self.layers else rows

    def crop(self, tokens: int) -> None:
        """Forget all but the first tokens."""
        self.layers = [KeysValues(kv.keys[:, :, :tokens], kv.values[:, :, :tokens]) for kv in self.layers]


class TokenDenoiser(nn.Module):
    """One block: p(token | tokens before it, noisy vector of the token).

    Args:
        vocabulary: How many tokens there are.
        width: Of the residual stream and of the vectors of tokens.
        layers: Of this block.
        heads: Of attention.
    """

    targets: Tensor

    def __init__(self, *, vocabulary: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.head_size = width // heads
        self.register_buffer("targets", fixed_targets(vocabulary, width))
        # The clean stream starts where the noisy one points, each coordinate of size 1.
        self.embedding = nn.Embedding(vocabulary, width, _weight=self.targets * width**0.5)
        self.noise_embedding = NoiseEmbedding(width)
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, condition_width=width, gate=1.0) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = Head(width, vocabulary, condition_width=width)

    def read(self, tokens: Tensor, cache: CleanCache) -> list[KeysValues]:
        """Run clean tokens (B, T) behind those in the cache, which stays as it is; their keys and values by layer."""
        rotate = self._rotation(cache.tokens, tokens.shape[1], tokens.device)
        mask = torch.ones(tokens.shape[1], cache.tokens + tokens.shape[1], dtype=torch.bool, device=tokens.device)
        mask = mask.tril(diagonal=cache.tokens)
        x, rows = self.embedding(tokens), []
        for index, layer in enumerate(self.layers):
            x, own = layer(x, mask=mask, rotate=rotate, past=cache.layers[index] if cache.layers else None)
            rows.append(own)
        return rows

    def denoise(
        self, z: Tensor, sigma: Tensor, clean: list[KeysValues], *, mask: Tensor | None, position: int = 0
    ) -> Tensor:
        """Logits of noisy rows.

        Args:
            z: (B, T, width), the first at `position`.
            sigma: (B, T).
            clean: Keys and values of the clean rows, by layer.
            mask: What a row may look at, (T, clean rows + T); `None` for all, right for one row after the last token.
            position: Of the first row.

        Returns:
            (B, T, vocabulary).
        """
        c_skip, c_out, c_in, c_noise = precondition(sigma)
        condition = self.noise_embedding(c_noise)
        rotate = self._rotation(position, z.shape[1], z.device)
        x = c_in[..., None] * z
        for layer, past in zip(self.layers, clean, strict=True):
            x, _ = layer(x, condition, mask=mask, rotate=rotate, past=past)
        estimate = c_skip[..., None] * z + c_out[..., None] * self.norm(x)
        logits: Tensor = self.head(estimate, condition)
        return logits

    def forward(self, tokens: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
        """Logits of each token but the first, given those before it and its noisy vector.

        Args:
            tokens: (B, T).
            z: (B, T - 1, width).
            sigma: (B, T - 1).

        Returns:
            (B, T - 1, vocabulary).
        """
        mask = noisy_row_mask(tokens.shape[1]).to(tokens.device)
        return self.denoise(z, sigma, self.read(tokens, CleanCache()), mask=mask, position=1)

    def sigma_shape(self, batch: Batch) -> tuple[int, ...]:
        """One noise level a token, but for the first."""
        return batch[0].shape[0], batch[0].shape[1] - 1

    def losses(self, batch: Batch, sigma: Tensor, *, generator: torch.Generator) -> Tensor:
        """Cross-entropy of each token of (tokens,) but the first, (B, T - 1)."""
        (tokens,) = batch
        z = add_noise(self.targets[tokens[:, 1:]], sigma, generator=generator)
        logits = self(tokens, z, sigma)
        return nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")

    def loss_weights(self, sigma: Tensor) -> Tensor:
        """None, as for classes."""
        return torch.ones_like(sigma)

    def _rotation(self, first: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        return rotation(torch.arange(first, first + count, device=device), self.head_size)


class TokenDecoder:
    """Writes token after token: every block reads the last token once, and a noisy row walks down the noise levels.

    Temperature would do nothing: at the end of the walk one token has all the probability. To draw, draw at the first
    step: `bridge="sample"`.

    Args:
        stack: The blocks.
        points: Noise levels a token; `None` for one a block.
        bridge: From logits to a vector.
        generator: Of the noise.
    """

    def __init__(
        self,
        stack: Stack[TokenDenoiser],
        *,
        points: int | None = None,
        bridge: Bridge = "sample",
        generator: torch.Generator,
    ) -> None:
        self._stack = stack
        self._sigmas = stack.schedule.grid(points or stack.schedule.blocks)
        self._bridge: Bridge = bridge
        self._generator = generator
        self.caches = [CleanCache() for _ in stack.denoisers]

    @torch.no_grad()
    def read(self, tokens: Tensor) -> None:
        """Let every block read tokens, (B, T)."""
        for denoiser, cache in zip(self._stack.denoisers, self.caches, strict=True):
            cache.append(denoiser.read(tokens, cache))

    @torch.no_grad()
    def next_token(self) -> Tensor:
        """The token after what was read, (B,), greedy at the lowest noise level."""
        targets = self._stack.denoisers[0].targets
        batch = self.caches[0].layers[0].keys.shape[0]

        def denoise(z: Tensor, sigma: float) -> Tensor:
            return denoised_vector(self._logits(z, sigma), targets, bridge=self._bridge, generator=self._generator)

        start = (self._sigmas[0] ** 2 + SIGMA_DATA**2) ** 0.5
        z = start * torch.randn(batch, 1, targets.shape[1], generator=self._generator)
        return self._logits(walk(z, self._sigmas, denoise), self._sigmas[-1])[:, 0].argmax(dim=-1)

    def write(self, tokens: int) -> Iterator[Tensor]:
        """Tokens, each (B,), each read before the next is made."""
        for _ in range(tokens):
            token = self.next_token()
            yield token
            self.read(token[:, None])

    def _logits(self, z: Tensor, sigma: float) -> Tensor:
        block = self._stack.schedule.block_of(sigma)
        cache, levels = self.caches[block], torch.full(z.shape[:2], sigma)
        return self._stack.denoisers[block].denoise(z, levels, cache.layers, mask=None, position=cache.tokens)

"""The choice of the next token from the logits: greedy, or temperature and nucleus sampling."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Sampler"]


class Sampler:
    """Draws tokens one after the other from a random stream of its own.

    Args:
        temperature: Divides the logits; 0 always takes the most probable token.
        top_p: Draws only among the most probable tokens that together reach this probability
            (Holtzman et al. 2020, arXiv:1904.09751).
        seed: Same seed, same draws; `None` draws anew each time.

    Raises:
        ValueError: If `temperature` is negative or `top_p` is not in (0, 1].
    """

    def __init__(self, *, temperature: float = 0.0, top_p: float = 1.0, seed: int | None = None) -> None:
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature must be 0 (greedy) or a positive number, got {temperature}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1 (no cut), got {top_p}")
        # Within what float32 can divide by: beyond, 0 / 0 and inf / inf would make NaN of the probabilities.
        self._temperature = temperature and min(max(temperature, 1e-30), 1e30)
        self._top_p = top_p
        self._random = torch.Generator()
        if seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(seed)

    def __call__(self, logits: Tensor) -> int:
        """The next token; logits are float32 on the CPU, (V,), with -inf for what is forbidden."""
        if self._temperature == 0:
            return int(logits.argmax())
        # The largest is moved to 0 first, or a small temperature would make it infinite.
        probabilities = torch.softmax((logits - logits.max()) / self._temperature, dim=-1)
        if self._top_p < 1:
            probabilities = _nucleus(probabilities, self._top_p)
        return int(torch.multinomial(probabilities, 1, generator=self._random))


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    ordered, tokens = probabilities.sort(descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    return torch.zeros_like(probabilities).scatter(0, tokens, ordered.where(before < top_p, 0.0))

"""What a language model is trained on: rows of tokens, each with the token that it should say next."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenomics_local_llm.diffusion_blocks.cross_entropy import IGNORED
from tokenomics_local_llm.diffusion_blocks.randomness import random_stream

__all__ = ["Example", "Rows", "pack", "pad"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One text."""

    tokens: Sequence[int]
    """All of it."""
    learned: Sequence[bool]
    """Which of its tokens the model should learn to say: an answer's, not its question's."""


@dataclass(frozen=True)
class Rows:
    """Tokens and targets, each (R, T) int64; targets are the next tokens, or `IGNORED`."""

    input_ids: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def batch(self, step: int, size: int, *, seed: int) -> Rows:
        """The rows of one step: each epoch in an order of its own, which depends on the seed alone."""
        wanted = range(step * size, (step + 1) * size)
        orders = {epoch: self._order(epoch, seed) for epoch in {index // len(self) for index in wanted}}
        return self.at([int(orders[index // len(self)][index % len(self)]) for index in wanted])

    def at(self, indices: Sequence[int]) -> Rows:
        """Some rows, without the columns that only pad."""
        targets = self.targets[list(indices)]
        used = (targets != IGNORED).any(dim=0).nonzero()
        length = int(used.max()) + 1 if len(used) else 1
        return Rows(self.input_ids[list(indices), :length], targets[:, :length])

    def batches(self, size: int) -> Iterable[Rows]:
        """All rows, in order."""
        return (self.at(range(start, min(start + size, len(self)))) for start in range(0, len(self), size))

    def to(self, device: torch.device) -> Rows:
        """The same on a device."""
        return Rows(self.input_ids.to(device), self.targets.to(device))

    @property
    def learned_tokens(self) -> int:
        """Targets that a loss is taken of."""
        return int((self.targets != IGNORED).sum())

    def digest(self) -> str:
        """Changes whenever a token does."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.input_ids, self.targets):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _order(self, epoch: int, seed: int) -> Tensor:
        return torch.randperm(len(self), generator=random_stream(seed, "order", epoch))


def pack(tokens: Sequence[int], *, length: int) -> Rows:
    """Running text, cut into rows of this length; the rest that fills none is left out.

    Raises:
        ValueError: If the text is shorter than one row and its last target.
    """
    count = (len(tokens) - 1) // length
    if not count:
        raise ValueError(f"a row takes {length + 1} tokens and there are {len(tokens)}: add text, or shorten the rows")
    stream = torch.tensor(tokens[: count * length + 1])
    return Rows(stream[:-1].reshape(count, length), stream[1:].clone().reshape(count, length))


def pad(examples: Sequence[Example], *, length: int) -> Rows:
    """One row an example, cut off at this length; examples of which nothing is left to learn are left out.

    Raises:
        ValueError: If none is left.
    """
    rows = [_row(example, length) for example in examples]
    kept = [row for row in rows if (row[1] != IGNORED).any()]
    if not kept:
        raise ValueError(f"none of {len(rows)} examples has a token to learn within {length} tokens: lengthen the rows")
    return Rows(torch.stack([row[0] for row in kept]), torch.stack([row[1] for row in kept]))


def _row(example: Example, length: int) -> tuple[Tensor, Tensor]:
    input_ids = torch.zeros(length, dtype=torch.int64)
    targets = torch.full((length,), IGNORED)
    tokens, learned = example.tokens[: length + 1], example.learned[1 : length + 1]
    input_ids[: len(tokens) - 1] = torch.tensor(tokens[:-1])
    wanted = [token if learn else IGNORED for token, learn in zip(tokens[1:], learned, strict=True)]
    targets[: len(wanted)] = torch.tensor(wanted)
    return input_ids, targets

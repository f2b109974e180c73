"""Random streams that belong to a purpose: the same key, the same draws, whatever ran before and on which device."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["random_stream", "seed_of"]


def seed_of(*key: object) -> int:
    """A seed for this key, such as (run, round, block)."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # torch takes 63 bits


def random_stream(*key: object) -> torch.Generator:
    """A generator on the CPU for this key."""
    return torch.Generator().manual_seed(seed_of(*key))

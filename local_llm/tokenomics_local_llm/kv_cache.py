"""Which key-value cache a text is generated with: the full one, or OSCAR's 2-bit codes between two exact windows.

A factory stands between the two: what a kind of cache needs of a model, such as rotations, is found once, when the
factory is made, and each text then gets an empty cache from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor
from transformers import Cache, DynamicCache, PretrainedConfig

from tokenomics_local_llm.model import LocalModel
from tokenomics_local_llm.oscar.cache import OscarCache
from tokenomics_local_llm.rotations import rotations_of

__all__ = ["CacheFactory", "HeldCache", "KVCacheKind", "full_cache", "kv_caches"]

KVCacheKind = Literal["full", "oscar"]
CacheFactory = Callable[[PretrainedConfig], Cache]


@dataclass(frozen=True, kw_only=True)
class HeldCache:
    """What a text's cache holds."""

    kind: str
    """A `KVCacheKind`, or the class of a cache of another kind."""
    bits_per_element: float | None
    """Bits held for each number of the keys and values, scales, windows and room for growth included; `None` when it
    holds none."""
    nbytes: int
    """Bytes held."""

    @classmethod
    def of(cls, cache: Cache) -> HeldCache:
        """The figures of a cache as it is now."""
        if isinstance(cache, OscarCache):
            return cls(kind="oscar", bits_per_element=cache.bits_per_element(), nbytes=cache.nbytes())
        parts = [part for layer in cache.layers for part in vars(layer).values() if isinstance(part, Tensor)]
        held = [part for part in parts if part.is_floating_point()]  # the rest are counters
        elements, nbytes = sum(part.numel() for part in held), sum(part.nbytes for part in held)
        kind = "full" if type(cache) is DynamicCache else type(cache).__name__
        return cls(kind=kind, bits_per_element=8 * nbytes / elements if elements else None, nbytes=nbytes)


def full_cache(config: PretrainedConfig) -> Cache:
    """A cache of keys and values as the model computed them."""
    return DynamicCache(config=config)


def kv_caches(model: LocalModel, kind: KVCacheKind = "full", *, calibration: Path | None = None) -> CacheFactory:
    """What makes the caches of a model's texts, for `generate` and `stream`.

    Args:
        model: The model.
        kind: "full" keeps keys and values as they are; "oscar" keeps 2 bits of all but the first and the newest.
        calibration: Text to calibrate "oscar" on; `None` takes what `rotations.rotations_of` finds.

    Raises:
        ValueError: If the kind is unknown, or there is no use for the calibration text.
        LocalLLMError: If the calibration text cannot be read or is too short.
    """
    if kind not in get_args(KVCacheKind):
        raise ValueError(f"kv_cache must be one of {', '.join(get_args(KVCacheKind))}, got {kind!r}")
    if kind == "full":
        if calibration is not None:
            raise ValueError(f"a full cache needs no calibration, got {calibration}: leave it out, or take 'oscar'")
        return full_cache
    rotations = rotations_of(model, calibration=calibration)
    return lambda config: OscarCache.for_model(model.model, rotations)

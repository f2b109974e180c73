"""The caches that are compared: from nothing but 2 bits, one step at a time, to ours, and others' caches.

All OSCAR arms share one calibration: the moments are collected once, and each way to fit rotations reads them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor
from transformers import Cache, PreTrainedModel, QuantizedCache

from tokenomics_local_llm.evaluation.kivi import kivi_bits_per_element, kivi_cache
from tokenomics_local_llm.oscar import (
    OscarCache,
    OscarRecipe,
    QuantizerRecipe,
    Rotations,
    fit_rotations,
)
from tokenomics_local_llm.oscar.moments import LayerMoments

__all__ = ["ABLATIONS", "OURS", "PUBLISHED", "Arm", "Fits", "arms", "fit", "missing_peers"]

PUBLISHED: Final = "OSCAR as published"
OURS: Final = "ours"
ABLATIONS: Final = (
    "Hadamard + windows + clip",
    "+ centred keys",
    "+ a rotation per head",
    "+ sequential rounding of keys",
    "+ searched ranges",
    "+ stretch",
    "+ sequential rounding of values",
    "ours, Hadamard",
    "ours, centred values",
    "ours, refitted",
)
"""The arms between the published recipe and ours, and what else was tried."""

_PEERS: Final = {"quanto": ("optimum", 0), "hqq": ("hqq", 1)}  # the package of each, and the axis that it groups along
_PEER_SCALE_BITS: Final = 0.5  # 16 bits a scale and a zero, for groups of 64


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to keep keys and values."""

    name: str
    """What tables call it."""
    make: Callable[[], Cache]
    """An empty cache."""
    bits: Callable[[int], float]
    """Bits per element after so many tokens."""


@dataclass(frozen=True, kw_only=True)
class Fits:
    """Rotations of one model, fitted in the ways that are compared."""

    published: Rotations
    """One a layer, values by the energies of their keys."""
    per_head: Rotations
    """One a head, by the moments of what reads it."""
    hadamard: Rotations
    """Hadamard, with means and metrics."""
    whitened: Rotations
    """As `calibrate` makes them."""
    plain: Rotations
    """Hadamard, without means."""
    none: Rotations
    """No rotation."""


def fit(moments: dict[int, LayerMoments], metrics: dict[int, Tensor]) -> Fits:
    """Fit all of them.

    Args:
        moments: What `collect_moments` returns.
        metrics: What `output_metrics` returns.
    """
    layers, head_dim = len(moments), moments[0].key.shape[-1]
    return Fits(
        published=fit_rotations(moments, per_head=False, value_objective="energy"),
        per_head=fit_rotations(moments, output_metrics=metrics),
        hadamard=fit_rotations(moments, fitted=False, output_metrics=metrics),
        whitened=fit_rotations(moments, whitening=0.5, output_metrics=metrics),
        plain=Rotations.plain(layers, head_dim),
        none=Rotations.plain(layers, head_dim, rotate=False),
    )


def arms(model: PreTrainedModel, fits: Fits) -> list[Arm]:
    """All of them; transformers' quantised caches where their packages are installed."""
    head_dim = fits.none.keys[0].rotation.shape[-1]
    return [*_oscar(model, fits, head_dim), _kivi(model, head_dim), *_peers(model)]


def _oscar(model: PreTrainedModel, fits: Fits, head_dim: int) -> Iterator[Arm]:
    for name, rotations, recipe in _steps(fits):
        yield Arm(
            name=name,
            make=lambda rotations=rotations, recipe=recipe: OscarCache.for_model(model, rotations, recipe),  # type: ignore[misc]
            bits=lambda tokens, recipe=recipe: recipe.bits_per_element(tokens, head_dim),  # type: ignore[misc]
        )


def _steps(fits: Fits) -> list[tuple[str, Rotations, OscarRecipe]]:
    published = OscarRecipe.as_published()
    bare = replace(published, sink_tokens=0, recent_tokens=0)
    unclipped = QuantizerRecipe.as_published(0.0)
    centred = replace(published, keys=replace(published.keys, centred=True))
    rounded = replace(centred, keys=replace(centred.keys, damping=0.1))
    searched = replace(
        rounded, keys=replace(rounded.keys, clip_ratio=None), values=replace(rounded.values, clip_ratio=None)
    )
    stretched = replace(
        searched, keys=replace(searched.keys, stretch=1.0), values=replace(searched.values, stretch=0.5)
    )
    ours = OscarRecipe()
    return [
        ("naive 2-bit", fits.none, replace(bare, keys=unclipped, values=unclipped)),
        ("Hadamard", fits.plain, replace(bare, keys=unclipped, values=unclipped)),
        ("Hadamard + windows + clip", fits.plain, published),
        (PUBLISHED, fits.published, published),
        ("+ centred keys", fits.published, centred),
        ("+ a rotation per head", fits.per_head, centred),
        ("+ sequential rounding of keys", fits.per_head, rounded),
        ("+ searched ranges", fits.per_head, searched),
        ("+ stretch", fits.per_head, stretched),
        ("+ sequential rounding of values", fits.per_head, ours),
        (OURS, fits.whitened, ours),
        ("ours, Hadamard", fits.hadamard, ours),
        ("ours, centred values", fits.whitened, replace(ours, values=replace(ours.values, centred=True))),
        (
            "ours, refitted",
            fits.whitened,
            replace(ours, keys=replace(ours.keys, refit=True), values=replace(ours.values, refit=True)),
        ),
    ]


def _kivi(model: PreTrainedModel, head_dim: int) -> Arm:
    return Arm(
        name="KIVI",
        make=lambda: kivi_cache(model.config),
        bits=lambda tokens: kivi_bits_per_element(tokens, head_dim),
    )


def _peers(model: PreTrainedModel) -> Iterator[Arm]:
    for backend, (module, axis) in _PEERS.items():
        for bits in (2, 4) if importlib.util.find_spec(module) else ():
            yield Arm(
                name=f"QuantizedCache {backend} {bits}",
                make=lambda backend=backend, axis=axis, bits=bits: QuantizedCache(  # type: ignore[misc]
                    backend, model.config, nbits=bits, axis_key=axis, axis_value=axis
                ),
                bits=lambda tokens, bits=bits: bits + _PEER_SCALE_BITS,  # type: ignore[misc]
            )


def missing_peers() -> list[str]:
    """Backends of transformers' `QuantizedCache` whose packages are not installed."""
    return [backend for backend, (module, _) in _PEERS.items() if not importlib.util.find_spec(module)]

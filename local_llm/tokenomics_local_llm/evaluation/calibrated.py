"""Moments of a model, kept between runs: fits are cheap, the reading that they come from is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from tokenomics_local_llm.model import LocalModel
from tokenomics_local_llm.oscar import collect_moments
from tokenomics_local_llm.oscar.moments import LayerMoments
from tokenomics_local_llm.rotations import cache_folder, identity
from tokenomics_local_llm.whole_file import written_whole

__all__ = ["kept_moments"]


def kept_moments(model: LocalModel, windows: Sequence[Tensor]) -> dict[int, LayerMoments]:
    """What `collect_moments` returns, from the user's cache folder where it was there before."""
    path = cache_folder() / "oscar" / f"{identity(model.model, windows)}.moments.safetensors"
    if path.is_file():
        return _load(path)
    with model.alone() as alone:
        moments = collect_moments(alone, tqdm(windows, "calibrating", unit="window", disable=None))
    with written_whole(path) as unfinished:
        _save(moments, unfinished)
    return moments


def _save(moments: dict[int, LayerMoments], path: Path) -> None:
    sums = {
        f"{layer}.{field.name}": getattr(each, field.name) for layer, each in moments.items() for field in fields(each)
    }
    first = next(iter(moments.values()))
    counts = {name: str(getattr(first, name)) for name in ("tokens", "query_heads")}
    save_file({name: part for name, part in sums.items() if isinstance(part, Tensor)}, path, metadata=counts)


def _load(path: Path) -> dict[int, LayerMoments]:
    found: dict[int, dict[str, Any]] = {}
    with safe_open(path, framework="pt") as file:
        counts: dict[str, Any] = {name: int(count) for name, count in file.metadata().items()}
        for name in file.keys():  # noqa: SIM118 # not a mapping
            layer, _, field = name.partition(".")
            found.setdefault(int(layer), {})[field] = file.get_tensor(name)
    return {layer: LayerMoments(**sums, **counts) for layer, sums in sorted(found.items())}

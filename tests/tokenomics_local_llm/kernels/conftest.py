"""Random packed keys and values, and attention over them as NumPy has it in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenomics_local_llm.kernels import PackedKeys, PackedValues, Turn, Window

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Both stores, and what they were filled with."""

    keys: PackedKeys
    values: PackedValues
    planar: tuple[tuple[Tensor, Tensor, Tensor], ...]
    """Codes, scales and minimums of the keys, then of the values."""

    def restored(self) -> tuple[Floats, ...]:
        """Keys and values (B, H, T, D) as their codes have them."""
        return tuple(_restored(*part) for part in self.planar)


def _restored(codes: Tensor, scale: Tensor, minimum: Tensor) -> Floats:
    bytes_ = codes.numpy()
    quarters = np.concatenate([bytes_ >> 2 * slot & 3 for slot in range(4)], axis=-1).astype(np.float64)
    size = quarters.shape[-1] // scale.shape[-1]
    step, low = (np.repeat(part.numpy().astype(np.float64), size, axis=-1) for part in (scale, minimum))
    restored: Floats = low + quarters * step
    return restored


@pytest.fixture
def make_packed() -> Callable[..., Packed]:
    """Fills both stores with random codes, whose numbers look like those of rotated rows."""

    def make(*, batch: int = 1, heads: int = 2, tokens: int = 300, dim: int = 64, groups: int = 1) -> Packed:
        def side() -> tuple[Tensor, Tensor, Tensor]:
            codes = torch.randint(0, 256, (batch, heads, tokens, dim // 4), dtype=torch.uint8)
            scale = 0.5 + torch.rand(batch, heads, tokens, groups)
            return codes, scale.half(), (-1.5 * scale + 0.2 * torch.randn_like(scale)).half()

        sizes = {"batch": batch, "heads": heads, "head_dim": dim, "group_size": dim // groups}
        keys, values = PackedKeys(**sizes), PackedValues(**sizes)
        planar = side(), side()
        for store, part in zip((keys, values), planar, strict=True):
            store.append(*part)
        return Packed(keys=keys, values=values, planar=planar)

    torch.manual_seed(0)
    return make


def dense_attention(
    query: Tensor,
    packed: Packed,
    *,
    scaling: float,
    windows: Sequence[Window] = (),
    starts: Tensor | None = None,
    key_turn: Turn | None = None,
    value_turn: Turn | None = None,
) -> tuple[Floats, Floats]:
    """What `decode_attention` should return: every token restored, one softmax over all."""
    keys, values = packed.restored()
    sides = [(_unturned(keys, key_turn), _unturned(values, value_turn), starts)]
    sides += [(window.keys.double().numpy(), window.values.double().numpy(), window.starts) for window in windows]
    all_keys, all_values = (np.concatenate([side[i] for side in sides], axis=2) for i in range(2))
    seen = np.concatenate([_seen(side[0].shape, side[2]) for side in sides], axis=1)
    batch, heads, _, dim = all_keys.shape
    grouped = query.double().numpy().reshape(batch, heads, -1, dim) * scaling
    scores = np.where(seen[:, None, None], grouped @ all_keys.swapaxes(2, 3), -np.inf)
    highest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - highest)
    total = weights.sum(-1, keepdims=True)
    out, lse = (weights / total) @ all_values, highest + np.log(total)
    return out.reshape(query.shape), lse.reshape(query.shape[:3])


def _unturned(rows: Floats, turn: Turn | None) -> Floats:
    if turn is None:
        return rows
    mean: Floats = 0 if turn.mean is None else turn.mean.double().numpy()[:, None]
    back: Floats = rows @ turn.rotation.double().numpy().swapaxes(1, 2) + mean
    return back


def _seen(shape: tuple[int, ...], starts: Tensor | None) -> NDArray[np.bool_]:
    first = np.zeros(shape[0]) if starts is None else starts.numpy()
    seen: NDArray[np.bool_] = np.arange(shape[2]) >= first[:, None]
    return seen

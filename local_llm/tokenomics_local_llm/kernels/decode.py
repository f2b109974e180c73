"""Attention of one new token over packed keys and values, and over windows in full precision, in one call."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from tokenomics_local_llm.kernels.algebra import attend_in_torch
from tokenomics_local_llm.kernels.instructions import Instructions, choose_instructions
from tokenomics_local_llm.kernels.store import PackedKeys, PackedValues
from tokenomics_local_llm.kernels.turn import Turn
from tokenomics_local_llm.kernels.window import Window

__all__ = ["decode_attention"]

_LOGGER = logging.getLogger(__name__)

_MOST_WINDOWS: Final = 2
_LEAST_TOKENS_OF_A_SPLIT: Final = 1024
_LEAST_TOKENS_OF_A_THREAD: Final = 4096
"""Tokens times key/value heads below which waking another thread costs more than it saves."""


def decode_attention(
    query: Tensor,
    keys: PackedKeys,
    values: PackedValues,
    *,
    scaling: float,
    windows: Sequence[Window] = (),
    starts: Tensor | None = None,
    key_turn: Turn | None = None,
    value_turn: Turn | None = None,
    threads: int | None = None,
    instructions: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend to every packed token and every window, as one softmax.

    Query heads h * g to h * g + g - 1 read key/value head h, where g = Hq / H.

    Args:
        query: (B, Hq, 1, D), floating, in the space of the windows: that of the packed keys too, unless `key_turn`
            says otherwise.
        keys: Packed keys, (B, H) and as many tokens as `values`.
        values: Packed values.
        scaling: Of the scores, as a rule 1 / sqrt(D).
        windows: At most two spans in full precision, of one dtype; the order of tokens does not matter.
        starts: Packed tokens at the left of each row that are padding, (B,) int64; none by default.
        key_turn: What was done to keys before packing, and not to those of the windows; nothing by default.
        value_turn: Likewise; the output is in the space of the windows.
        threads: How many may work; by default as many as PyTorch uses.
        instructions: A member of `Instructions` by name; by default the environment's, or the fastest here.

    Returns:
        The output (B, Hq, 1, D) and the natural logarithm of the sum of exponents (B, Hq, 1), both float32. A row
        that has no token at all yields zeros and -inf.

    Raises:
        ValueError: If shapes do not fit, or the instructions are unknown here.
    """
    _check(query, keys, values, windows)
    chosen = _usable(choose_instructions(instructions))
    heads = query.shape[1] // keys.heads
    grouped = query.detach().float().reshape(keys.batch, keys.heads, heads, keys.head_dim)
    if chosen == Instructions.TORCH:
        out, lse = attend_in_torch(
            grouped * scaling, keys, values, windows=windows, starts=starts, key_turn=key_turn, value_turn=value_turn
        )
    else:
        count = torch.get_num_threads() if threads is None else threads
        turns = *_turn(key_turn, keys.head_dim), *_turn(value_turn, keys.head_dim)
        out, lse = _attend_compiled(chosen, grouped, scaling, keys, values, windows, starts, turns, count)
    return out.reshape(query.shape), lse.reshape(query.shape[:-1])


def _check(query: Tensor, keys: PackedKeys, values: PackedValues, windows: Sequence[Window]) -> None:
    for name in ("batch", "heads", "head_dim", "group_size", "length"):
        of_keys, of_values = getattr(keys, name), getattr(values, name)
        if of_keys != of_values:
            raise ValueError(f"keys and values must have the same {name}, got {of_keys} and {of_values}")
    batch, heads, tokens, head_dim = query.shape
    if (batch, tokens, head_dim) != (keys.batch, 1, keys.head_dim) or heads % keys.heads:
        raise ValueError(
            f"the query must be ({keys.batch}, a multiple of {keys.heads}, 1, {keys.head_dim}), got "
            f"{tuple(query.shape)}"
        )
    if len(windows) > _MOST_WINDOWS:
        raise ValueError(f"there can be {_MOST_WINDOWS} windows, got {len(windows)}")
    for window in windows:
        expected = (keys.batch, keys.heads, window.keys.shape[2], keys.head_dim)
        if window.keys.shape != expected or window.values.shape != expected:
            raise ValueError(
                f"a window must be {expected}, got {tuple(window.keys.shape)} and {tuple(window.values.shape)}"
            )


@cache
def _usable(chosen: Instructions) -> Instructions:
    """`chosen`, or `TORCH` where this release of numba or LLVM cannot compile it: a slow answer beats none."""
    if chosen == Instructions.TORCH:
        return chosen
    tiny = {"batch": 1, "heads": 1, "head_dim": 8, "group_size": 8}
    query = torch.ones(1, 1, 1, 8)
    try:
        turns = *_turn(None, 8), *_turn(None, 8)
        _attend_compiled(chosen, query, 1.0, PackedKeys(**tiny), PackedValues(**tiny), (), None, turns, 1)
    except Exception as error:  # numba and llvmlite raise many kinds, none of them documented
        _LOGGER.warning("compiling the %s kernels failed, so that PyTorch serves, slower: %s", chosen, error)
        return Instructions.TORCH
    return chosen


def _attend_compiled(
    chosen: Instructions,
    query: Tensor,
    scaling: float,
    keys: PackedKeys,
    values: PackedValues,
    windows: Sequence[Window],
    starts: Tensor | None,
    turns: tuple[np.ndarray[Any, Any], ...],
    threads: int,
) -> tuple[Tensor, Tensor]:
    from tokenomics_local_llm.kernels import compiled_decode

    cells, (heads, dim) = keys.batch * keys.heads, query.shape[2:]
    kind, places, window_spans, _alive = _windows(windows, keys.batch)
    tokens = keys.length + sum(window.keys.shape[2] for window in windows)
    threads = max(1, min(threads, tokens * cells // _LEAST_TOKENS_OF_A_THREAD))
    splits = max(1, min(threads // math.gcd(cells, threads), keys.length // _LEAST_TOKENS_OF_A_SPLIT))
    units = cells * splits
    parts, part_lse = np.empty((cells, splits, heads, dim), np.float32), np.empty((cells, splits, heads), np.float32)
    shape = (keys.heads, dim, keys.groups, keys.tiles, keys.length)
    scaled = (query * (scaling * math.log2(math.e))).view(cells, heads * dim).numpy()

    def run(first: int, last: int) -> None:
        compiled_decode.attend(
            _tag(chosen),
            first,
            last,
            splits,
            heads,
            shape,
            scaled,
            *keys.arrays,
            *values.arrays,
            _starts(starts, keys.batch),
            *turns,
            kind,
            places,
            window_spans,
            parts.reshape(units, heads, dim),
            part_lse.reshape(units, heads),
        )

    _share(run, units, threads)
    if splits == 1:
        return torch.from_numpy(parts), torch.from_numpy(_without_sentinel(part_lse))
    out, lse = np.empty((cells, heads, dim), np.float32), np.empty((cells, heads), np.float32)
    compiled_decode.merge(splits, dim, parts, part_lse, out, lse)
    return torch.from_numpy(out), torch.from_numpy(_without_sentinel(lse))


def _share(run: Any, units: int, threads: int) -> None:
    """Run all units on `threads` threads, this one among them."""
    bounds = [units * thread // threads for thread in range(threads + 1)]
    others = [_pool(threads - 1).submit(run, *bounds[i : i + 2]) for i in range(1, threads)] if threads > 1 else []
    run(*bounds[:2])
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kernels")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


@cache
def _tag(chosen: Instructions) -> Any:
    """What tells the compiler the instructions: it compiles one version for the type of each."""
    from tokenomics_local_llm.kernels import vector_ir

    kinds = {
        Instructions.VNNI: vector_ir.Vnni,
        Instructions.AVX2: vector_ir.Avx2,
        Instructions.GENERIC: vector_ir.Generic,
    }
    return kinds[chosen]()


def _turn(turn: Turn | None, dim: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return _no_turn(dim) if turn is None else turn.arrays


@cache
def _no_turn(dim: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.empty((0, dim * dim), np.float32), np.empty((0, dim), np.float32)


def _starts(starts: Tensor | None, batch: int) -> np.ndarray[Any, Any]:
    if starts is None:
        return np.zeros(batch, np.int64)
    return starts.to(torch.int64).numpy()


def _windows(windows: Sequence[Window], batch: int) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any], Any]:
    """The windows' kind of numbers, their places in memory, what is seen, and what must live as long as they do."""
    dtype = windows[0].keys.dtype if windows else torch.bfloat16
    tensors = [tuple(_side_by_side(part, dtype) for part in (window.keys, window.values)) for window in windows]
    places = np.zeros((_MOST_WINDOWS, 8), np.int64)
    spans = np.zeros((_MOST_WINDOWS, 2, batch), np.int64)
    for place, span, window, (keys, values) in zip(places, spans, windows, tensors, strict=False):
        place[:] = (keys.data_ptr(), *keys.stride()[:3], values.data_ptr(), *values.stride()[:3])
        span[0] = 0 if window.starts is None else window.starts.numpy()
        span[1] = keys.shape[2] if window.ends is None else window.ends.numpy()
    return _kind(dtype), places, spans, tensors


def _side_by_side(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    same = tensor if tensor.dtype == dtype else tensor.to(dtype)
    return same if same.stride(-1) == 1 else same.contiguous()


@cache
def _kind(dtype: torch.dtype) -> Any:
    """What tells the compiler the windows' numbers, as `_tag` does the instructions."""
    from tokenomics_local_llm.kernels import vector_ir

    kinds = {
        torch.bfloat16: vector_ir.Bfloat16,
        torch.float16: vector_ir.Float16,
        torch.float32: vector_ir.Float32,
    }
    return kinds[dtype]()


def _without_sentinel(lse: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The compiled code knows no infinities."""
    lse[lse < -1e29] = -np.inf
    return lse

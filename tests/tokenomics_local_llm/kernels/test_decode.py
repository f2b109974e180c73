"""Attention over packed tokens equals attention over what they stand for."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tokenomics_local_llm.kernels.conftest import Packed, dense_attention
from tokenomics_local_llm.kernels import (
    Instructions,
    PackedKeys,
    PackedValues,
    Turn,
    Window,
    decode_attention,
    supported_instructions,
)

MakePacked = Callable[..., Packed]

# q and the weights have two 7-bit digits: 1 / 16382 of the largest, added up over channels and tokens.
TOLERANCE = 1e-3

by_instructions = pytest.mark.parametrize(
    "instructions",
    [
        pytest.param(name, marks=pytest.mark.skipif(name not in supported_instructions(), reason="not supported here"))
        for name in Instructions
    ],
)


def query_for(packed: Packed, group: int) -> Tensor:
    keys = packed.keys
    return torch.randn(keys.batch, keys.heads * group, 1, keys.head_dim)


def window_for(packed: Packed, tokens: int, dtype: torch.dtype, starts: Tensor | None = None) -> Window:
    shape = (packed.keys.batch, packed.keys.heads, tokens, packed.keys.head_dim)
    return Window(keys=torch.randn(shape).to(dtype), values=torch.randn(shape).to(dtype), starts=starts)


def turn_for(packed: Packed, *, shared: bool, centred: bool) -> Turn:
    heads, dim = packed.keys.heads, packed.keys.head_dim
    rotation, _ = torch.linalg.qr(torch.randn(1 if shared else heads, dim, dim))
    return Turn(rotation=rotation, mean=torch.randn(heads, dim) if centred else None)


def assert_right(query: Tensor, packed: Packed, instructions: str, **options: Any) -> None:
    scaling = 1 / math.sqrt(query.shape[-1])
    out, lse = decode_attention(
        query, packed.keys, packed.values, scaling=scaling, instructions=instructions, **options
    )
    options.pop("threads", None)
    right, right_lse = dense_attention(query, packed, scaling=scaling, **options)
    assert np.linalg.norm(out.numpy() - right) <= TOLERANCE * np.linalg.norm(right)
    assert lse.numpy() == pytest.approx(right_lse, rel=TOLERANCE, abs=TOLERANCE)


@by_instructions
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dim", [64, 96, 128, 256, 512])
def test_every_head_size_is_right(make_packed: MakePacked, dim: int, groups: int, instructions: str) -> None:
    packed = make_packed(dim=dim, groups=groups)

    assert_right(query_for(packed, 2), packed, instructions)


@by_instructions
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_of_products_do_not_overflow(sign: int, instructions: str) -> None:
    dim, tokens = 512, 130
    sizes = {"batch": 1, "heads": 1, "head_dim": dim, "group_size": dim}
    keys, values = PackedKeys(**sizes), PackedValues(**sizes)
    scale, minimum = torch.ones(1, 1, tokens, 1), torch.zeros(1, 1, tokens, 1)
    for store in (keys, values):
        store.append(torch.full((1, 1, tokens, dim // 4), 255, dtype=torch.uint8), scale, minimum)

    query = torch.full((1, 2, 1, dim), float(sign))
    out, lse = decode_attention(query, keys, values, scaling=0.01, instructions=instructions)

    torch.testing.assert_close(out, torch.full_like(out, 3), rtol=TOLERANCE, atol=0)
    torch.testing.assert_close(lse, torch.full_like(lse, sign * 3 * dim * 0.01 + math.log(tokens)), rtol=1e-4, atol=0)


@by_instructions
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("group", range(1, 17))
def test_every_query_head_reads_its_own_key_value_head(
    make_packed: MakePacked, group: int, batch: int, instructions: str
) -> None:
    packed = make_packed(batch=batch, tokens=70)

    assert_right(query_for(packed, group), packed, instructions)


@by_instructions
@pytest.mark.parametrize("tokens", [1, 15, 16, 63, 64, 65, 127, 128, 129, 1000])
def test_every_length_is_right(make_packed: MakePacked, tokens: int, instructions: str) -> None:
    packed = make_packed(tokens=tokens)

    assert_right(query_for(packed, 3), packed, instructions)


@by_instructions
def test_padding_at_the_left_is_not_seen(make_packed: MakePacked, instructions: str) -> None:
    packed = make_packed(batch=4, tokens=300)

    assert_right(query_for(packed, 2), packed, instructions, starts=torch.tensor([0, 5, 128, 299]))


@by_instructions
def test_scores_far_apart_are_right(make_packed: MakePacked, instructions: str) -> None:
    packed = make_packed(tokens=400)

    assert_right(query_for(packed, 2) * 10, packed, instructions)


@by_instructions
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_windows_join_the_softmax(make_packed: MakePacked, dtype: torch.dtype, instructions: str) -> None:
    packed = make_packed(batch=2)
    windows = [window_for(packed, 64, dtype, torch.tensor([0, 9])), window_for(packed, 270, dtype)]

    assert_right(query_for(packed, 3), packed, instructions, windows=windows)


@by_instructions
def test_a_window_may_be_a_view(make_packed: MakePacked, instructions: str) -> None:
    packed = make_packed()
    whole = window_for(packed, 100, torch.bfloat16)
    across = whole.keys.transpose(2, 3).contiguous().transpose(2, 3)
    view = Window(keys=across[:, :, 3:40], values=whole.values[:, :, 3:40])

    assert_right(query_for(packed, 2), packed, instructions, windows=[view])


@by_instructions
def test_windows_alone_are_enough(make_packed: MakePacked, instructions: str) -> None:
    packed = make_packed(tokens=0)

    assert_right(query_for(packed, 2), packed, instructions, windows=[window_for(packed, 10, torch.float32)])


@by_instructions
@pytest.mark.parametrize("shared", [True, False], ids=["one-rotation", "rotation-a-head"])
@pytest.mark.parametrize("centred", [True, False], ids=["centred", "not-centred"])
def test_windows_may_lie_in_another_space_than_packed_tokens(
    make_packed: MakePacked, shared: bool, centred: bool, instructions: str
) -> None:
    packed = make_packed(batch=2, dim=128)
    turns = {name: turn_for(packed, shared=shared, centred=centred) for name in ("key_turn", "value_turn")}

    assert_right(query_for(packed, 2), packed, instructions, windows=[window_for(packed, 20, torch.float32)], **turns)


@by_instructions
def test_a_row_that_sees_nothing_yields_zeros(make_packed: MakePacked, instructions: str) -> None:
    packed = make_packed(batch=2, tokens=10)

    out, lse = decode_attention(
        query_for(packed, 2), packed.keys, packed.values, scaling=1.0, starts=torch.tensor([10, 0]),
        instructions=instructions,
    )  # fmt: skip

    assert torch.equal(out[0], torch.zeros_like(out[0]))
    assert torch.isneginf(lse[0]).all()
    assert torch.isfinite(lse[1]).all()


@by_instructions
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_splitting_over_threads_changes_nothing(make_packed: MakePacked, threads: int, instructions: str) -> None:
    packed = make_packed(heads=1, tokens=21_000)
    windows = [window_for(packed, 30, torch.float32)]

    assert_right(query_for(packed, 2), packed, instructions, threads=threads, windows=windows)


def test_all_instructions_multiply_alike(make_packed: MakePacked) -> None:
    packed = make_packed(batch=2, dim=96, groups=2)
    query = query_for(packed, 3)
    compiled = [name for name in supported_instructions() if name != Instructions.TORCH]

    results = [decode_attention(query, packed.keys, packed.values, scaling=0.1, instructions=name) for name in compiled]

    # Not to the last bit: how the compiler contracts float steps depends on what it found compiled already.
    for result in results:
        torch.testing.assert_close(result, results[0], atol=1e-5, rtol=1e-5)


def test_rows_of_a_batch_do_not_touch_each_other(make_packed: MakePacked) -> None:
    packed = make_packed(batch=3)
    query = query_for(packed, 2)
    together, _ = decode_attention(query, packed.keys, packed.values, scaling=0.1)

    for store in (packed.keys, packed.values):
        store.select(torch.tensor([2]))
    alone, _ = decode_attention(query[2:], packed.keys, packed.values, scaling=0.1)

    assert torch.equal(together[2:], alone)


def test_shapes_that_do_not_fit_are_refused(make_packed: MakePacked) -> None:
    packed, other = make_packed(tokens=5), make_packed(tokens=6)
    query = query_for(packed, 2)
    window = window_for(packed, 3, torch.float32)

    with pytest.raises(ValueError, match="same length, got 5 and 6"):
        decode_attention(query, packed.keys, other.values, scaling=1.0)
    with pytest.raises(ValueError, match="the query must be"):
        decode_attention(query[:, :3], packed.keys, packed.values, scaling=1.0)
    with pytest.raises(ValueError, match="can be 2 windows, got 3"):
        decode_attention(query, packed.keys, packed.values, scaling=1.0, windows=[window] * 3)
    with pytest.raises(ValueError, match="a window must be"):
        decode_attention(
            query, packed.keys, packed.values, scaling=1.0,
            windows=[Window(keys=window.keys, values=window.values[:, :, :2])],
        )  # fmt: skip


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import torch
from tokenomics_local_llm.kernels import PackedKeys, PackedValues, decode_attention, pack_rows, supported_instructions

sizes = {"batch": 1, "heads": 1, "head_dim": 64, "group_size": 64}
keys, values = PackedKeys(**sizes), PackedValues(**sizes)
for store in (keys, values):
    store.append(*pack_rows(torch.randn(1, 1, 9, 64), clip_ratio=0.9))
out, lse = decode_attention(torch.randn(1, 2, 1, 64), keys, values, scaling=0.1)
print([*map(str, supported_instructions())], tuple(out.shape), bool(lse.isfinite().all()))
"""


def test_pytorch_serves_where_numba_is_missing() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], capture_output=True, text=True, timeout=120)

    assert done.stdout == "['torch'] (1, 2, 1, 64) True\n", done.stderr

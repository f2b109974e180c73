"""The GPU's kernel, run by Triton's interpreter, equals attention over what codes stand for.

With TRITON_INTERPRET=0 the same tests run compiled, on a CUDA device.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tiny_models import logits, some_tokens, tiny_model
from tokenomics_local_llm.oscar import OSCAR_ATTENTION, OscarCache, OscarRecipe, calibrate
from tokenomics_local_llm.oscar.attention import Part, attend_packed, attend_plain, merge
from tokenomics_local_llm.oscar.packing import PackedTokens, dequantize
from tokenomics_local_llm.oscar.store import PackedStore

pytest.importorskip("triton", reason="the kernel for GPUs is written in triton: pip install triton")

from tokenomics_local_llm.kernels.triton_decode import attend_in_triton

INTERPRETED = os.environ["TRITON_INTERPRET"] == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
SCALING = 0.125
TOLERANCE = 1e-4


def packed(
    tokens: int, *, batch: int = 1, heads: int = 2, dim: int = 64, groups: int = 1, seed: int = 0, size: float = 1.0
) -> PackedTokens:
    generator = torch.Generator().manual_seed(seed)
    shape = batch, heads, tokens
    scale = size * (0.5 + torch.rand(*shape, groups, generator=generator))
    minimum = -1.5 * scale + 0.2 * size * torch.randn(*shape, groups, generator=generator)
    codes = torch.randint(0, 256, (*shape, dim // 4), dtype=torch.uint8, generator=generator)
    return PackedTokens(codes=codes.to(DEVICE), scale=scale.half().to(DEVICE), minimum=minimum.half().to(DEVICE))


def query_for(keys: PackedTokens, group: int, tokens: int = 1, seed: int = 7) -> Tensor:
    batch, heads = keys.codes.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, heads * group, tokens, keys.head_dim, generator=generator).to(DEVICE)


def expected(query: Tensor, keys: PackedTokens, values: PackedTokens, first: Tensor | None = None) -> Part:
    visible = None
    if first is not None:
        visible = (torch.arange(keys.tokens, device=DEVICE) >= first[:, None])[:, None]
    return attend_plain(query, dequantize(keys), dequantize(values), SCALING, visible)


def assert_right(
    query: Tensor, keys: PackedTokens, values: PackedTokens, *, first: Tensor | None = None, splits: int | None = None
) -> None:
    part = attend_in_triton(query, keys, values, SCALING, first=first, splits=splits)
    right = expected(query, keys, values, first)
    off, size = (rows.norm(dim=-1) for rows in (part.output - right.output, right.output))
    assert (off <= TOLERANCE * size).all()
    torch.testing.assert_close(part.lse, right.lse, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("group", range(1, 17))
def test_every_query_head_reads_its_own_key_value_head(group: int, batch: int) -> None:
    keys, values = packed(40, batch=batch), packed(40, batch=batch, seed=1)

    assert_right(query_for(keys, group), keys, values)


@settings(max_examples=40, deadline=None)  # a cold interpreter may take its time
@given(
    tokens=st.integers(1, 200), dim=st.sampled_from([16, 64, 96, 128]), key_groups=st.integers(1, 2),
    value_groups=st.integers(1, 2), group=st.integers(1, 20), queries=st.integers(1, 2), splits=st.integers(1, 4),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_every_shape_is_right(
    tokens: int, dim: int, key_groups: int, value_groups: int, group: int, queries: int, splits: int, seed: int
) -> None:
    keys = packed(tokens, dim=dim, heads=1, groups=key_groups, seed=seed)
    values = packed(tokens, dim=dim, heads=1, groups=value_groups, seed=seed + 100)

    assert_right(query_for(keys, group, queries), keys, values, splits=splits)


def test_values_may_have_another_head_size_than_keys() -> None:
    keys, values = packed(70, dim=96), packed(70, dim=64, seed=1)

    assert_right(query_for(keys, 2), keys, values)


@pytest.mark.parametrize("splits", [1, 3], ids=["whole", "split"])
def test_tokens_before_a_sequence_begins_are_not_read(splits: int) -> None:
    keys, values = packed(150, batch=4), packed(150, batch=4, seed=1)

    assert_right(query_for(keys, 2), keys, values, first=torch.tensor([0, 5, 64, 149], device=DEVICE), splits=splits)


@pytest.mark.parametrize("splits", [1, 3], ids=["whole", "split"])
def test_a_sequence_that_sees_nothing_adds_nothing(splits: int) -> None:
    keys, values = packed(150, batch=2), packed(150, batch=2, seed=1)
    query, first = query_for(keys, 2), torch.tensor([150, 0], device=DEVICE)

    part = attend_in_triton(query, keys, values, SCALING, first=first, splits=splits)

    assert torch.equal(part.output[0], torch.zeros_like(part.output[0]))
    assert torch.isneginf(part.lse[0]).all()
    torch.testing.assert_close(part.lse[1], expected(query, keys, values).lse[1], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("size", [1e-4, 1e2, 1e4], ids=["tiny", "large", "near-the-end-of-float16"])
def test_no_magnitude_of_values_overflows_or_drowns(size: float) -> None:
    keys, values = packed(100), packed(100, seed=1, size=size)

    assert_right(query_for(keys, 2), keys, values)


def test_scores_far_apart_are_right() -> None:
    keys, values = packed(100), packed(100, seed=1)

    assert_right(query_for(keys, 2) * 30, keys, values)


def test_a_store_with_room_to_grow_is_read_where_it_lies() -> None:
    whole = packed(130, batch=2), packed(130, batch=2, seed=1)
    stores = [PackedStore(2, 2, 64, 1, DEVICE) for _ in whole]
    for store, part in zip(stores, whole, strict=True):
        store.append(part)
        store.truncate(90)

    assert_right(query_for(whole[0], 3), stores[0].view, stores[1].view)


def test_windows_are_merged_exactly() -> None:
    keys, values = packed(60), packed(60, seed=1)
    query = query_for(keys, 2)
    all_keys, all_values = dequantize(keys), dequantize(values)
    whole = attend_plain(query, all_keys, all_values, SCALING)
    later_keys, later_values = (
        PackedTokens(codes=side.codes[:, :, 20:], scale=side.scale[:, :, 20:], minimum=side.minimum[:, :, 20:])
        for side in (keys, values)
    )

    window = attend_plain(query, all_keys[:, :, :20], all_values[:, :, :20], SCALING)
    merged = merge([window, attend_in_triton(query, later_keys, later_values, SCALING)])

    torch.testing.assert_close(merged.output, whole.output, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_model_writes_with_it_what_the_reference_makes_it_write() -> None:
    model = tiny_model("qwen3")
    model.to(DEVICE)  # type: ignore[arg-type] # transformers wraps it without types
    rotations = calibrate(model, [some_tokens(100)], sink_tokens=4)
    ids, mask = torch.stack([some_tokens(40, seed) for seed in (1, 2)]).to(DEVICE), torch.ones(2, 40, device=DEVICE)
    mask[1, :7] = 0
    model.set_attn_implementation(OSCAR_ATTENTION)
    found = []
    for kernel in (attend_in_triton, attend_packed):
        cache = OscarCache.for_model(
            model, rotations, OscarRecipe(sink_tokens=4, recent_tokens=8), attention_mask=mask, decode_attention=kernel
        )
        logits(model, ids[:, :-2], cache, attention_mask=mask[:, :-2])
        found.append([logits(model, ids[:, at : at + 1], cache, attention_mask=mask[:, : at + 1]) for at in (38, 39)])

    for one, other in zip(*found, strict=True):
        assert (one - other).norm() <= TOLERANCE * other.norm()


def test_heads_that_do_not_divide_are_refused() -> None:
    keys = packed(5)

    with pytest.raises(ValueError, match="multiple of the 2 key-value heads, got 3"):
        attend_in_triton(query_for(keys, 2)[:, :3], keys, keys, SCALING)


def test_more_than_two_groups_are_refused() -> None:
    keys = packed(5, groups=4)

    with pytest.raises(ValueError, match="got 4: set group_size to 64 or 32"):
        attend_in_triton(query_for(keys, 2), keys, keys, SCALING)


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tokenomics_local_llm.kernels import triton_decode

TYPES = {"codes": "*u8", "scale": "*fp16", "minimum": "*fp16", "outputs": "*fp32", "output": "*fp32", "query": "*fp32",
         "lses": "*fp32", "lse": "*fp32", "first": "*i64", "scaling": "fp32"}


def compiled(kernel, constants, capability):
    kinds = {name: TYPES.get(name.rpartition("_")[2], "i32") for name in kernel.arg_names}
    source = ASTSource(kernel, kinds | dict.fromkeys(constants, "constexpr"), constants)
    options = {"num_warps": triton_decode._WARPS, "num_stages": triton_decode._STAGES}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm


for dim, groups, capability in ((128, 1, 90), (96, 2, 80)):
    sizes = {"KEY_QUARTER": dim // 4, "VALUE_QUARTER": dim // 4, "KEY_GROUPS": groups, "VALUE_GROUPS": groups}
    widths = dict.fromkeys(("KEY_WIDTH", "VALUE_WIDTH"), triton_decode._width(dim // 4))
    found = compiled(triton_decode._attend, sizes | widths | {"ROWS": 8, "TOKENS": 64}, capability)
    print(dim, "mma.sync" in found["ptx"], len(found["cubin"]) > 0)
print(len(compiled(triton_decode._merge, {"CHANNELS": 96, "SPLITS": 4, "WIDTH": 128}, 90)["cubin"]) > 0)
"""


def test_the_kernels_compile_for_gpus_that_are_not_there(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE], capture_output=True, text=True, timeout=200, env=environment
    )

    assert done.stdout == "128 True True\n96 True True\nTrue\n", done.stderr

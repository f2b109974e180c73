"""Stores keep the bits they are given, whatever the order and size of what is appended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenomics_local_llm.kernels import PackedKeys, PackedStore, PackedValues

Tokens: TypeAlias = tuple[Tensor, Tensor, Tensor]

STORES: list[type[PackedStore]] = [PackedKeys, PackedValues]
by_kind = pytest.mark.parametrize("kind", STORES, ids=["keys", "values"])


def tokens(count: int, *, batch: int = 2, heads: int = 3, dim: int = 64, groups: int = 1) -> Tokens:
    return (
        torch.randint(0, 256, (batch, heads, count, dim // 4), dtype=torch.uint8),
        torch.rand(batch, heads, count, groups).half(),
        torch.randn(batch, heads, count, groups).half(),
    )


def filled(kind: type[PackedStore], parts: Sequence[Tokens], *, dim: int = 64, groups: int = 1) -> PackedStore:
    batch, heads = parts[0][0].shape[:2]
    store = kind(batch=batch, heads=heads, head_dim=dim, group_size=dim // groups)
    for part in parts:
        store.append(*part)
    return store


def joined(parts: Sequence[Tokens]) -> Tokens:
    codes, scale, minimum = (torch.cat(each, dim=2) for each in zip(*parts, strict=True))
    return codes, scale, minimum


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@by_kind
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dim", [8, 64, 96, 128, 256])
@settings(max_examples=10)
@given(sizes=st.lists(st.integers(0, 200), min_size=1, max_size=5))
def test_planar_tokens_come_back_bit_for_bit(kind: type[PackedStore], dim: int, groups: int, sizes: list[int]) -> None:
    parts = [tokens(size, batch=1, heads=2, dim=dim, groups=groups) for size in sizes]

    assert same(filled(kind, parts, dim=dim, groups=groups).planar(), joined(parts))


@by_kind
def test_a_store_does_not_depend_on_how_tokens_were_appended(kind: type[PackedStore]) -> None:
    parts = [tokens(size) for size in (1, 127, 130, 16)]

    one_by_one, at_once = filled(kind, parts), filled(kind, [joined(parts)])

    tiles = min(one_by_one.tiles, at_once.tiles)
    assert torch.equal(one_by_one.codes[:, :, :tiles], at_once.codes[:, :, :tiles])


@by_kind
def test_rows_of_the_batch_are_selected_in_any_order(kind: type[PackedStore]) -> None:
    part = tokens(150)
    store = filled(kind, [part])

    store.select(torch.tensor([1, 1, 0]))

    assert store.batch == 3
    assert same(store.planar(), [each[[1, 1, 0]] for each in part])


@by_kind
def test_tokens_appended_after_a_crop_replace_the_old_ones(kind: type[PackedStore]) -> None:
    first, second = tokens(200), tokens(90)
    store = filled(kind, [first])

    store.crop(130)
    store.append(*second)

    assert same(store.planar(), joined([tuple(part[:, :, :130] for part in first), second]))  # type: ignore[list-item]


@by_kind
def test_a_store_cannot_keep_more_tokens_than_it_has(kind: type[PackedStore]) -> None:
    with pytest.raises(ValueError, match="holds 5 tokens and cannot keep 6"):
        filled(kind, [tokens(5)]).crop(6)


@by_kind
def test_bytes_held_are_codes_scales_and_minimums_of_whole_tiles(kind: type[PackedStore]) -> None:
    store = filled(kind, [tokens(129, dim=128)], dim=128)

    assert store.nbytes == 2 * 3 * 256 * (128 // 4 + 2 * 2)


@by_kind
def test_memory_grows_by_a_32nd_at_most(kind: type[PackedStore]) -> None:
    store = filled(kind, [tokens(128 * 64)])

    store.append(*tokens(1))

    assert store.tiles == 66


@by_kind
def test_padded_head_sizes_cost_only_values_more(kind: type[PackedStore]) -> None:
    store = filled(kind, [tokens(128, dim=96)], dim=96)

    assert store.codes.numel() == 2 * 3 * 128 * {PackedKeys: 24, PackedValues: 32}[kind]


@by_kind
@pytest.mark.parametrize(("dim", "group", "message"), [(60, 60, "multiple of 8"), (64, 16, "got 64 and 16")])
def test_other_head_and_group_sizes_are_refused(kind: type[PackedStore], dim: int, group: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(batch=1, heads=1, head_dim=dim, group_size=group)


@by_kind
def test_tokens_of_another_shape_are_refused(kind: type[PackedStore]) -> None:
    store, (codes, scale, minimum) = filled(kind, [tokens(1)]), tokens(2)

    with pytest.raises(ValueError, match="codes must be uint8"):
        store.append(codes.float(), scale, minimum)
    with pytest.raises(ValueError, match="scale and minimum must be"):
        store.append(codes, scale[:, :, :1], minimum)

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tokenomics_local_llm.oscar import attention
from tokenomics_local_llm.oscar.attention import Part, attend_packed, attend_plain, merge
from tokenomics_local_llm.oscar.packing import PackedTokens, dequantize
from tokenomics_local_llm.oscar.quantizer import QuantizerRecipe, quantize

SCALING = 0.25


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _packed(tokens: int, *, batch: int = 2, heads: int = 2, group: int | None = None, seed: int = 0) -> PackedTokens:
    return quantize(_random(batch, heads, tokens, 16, seed=seed), QuantizerRecipe(group_size=group))


def _close(part: Part, expected: Part) -> None:
    torch.testing.assert_close(part.output, expected.output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(part.lse, expected.lse, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("query_heads", [1, 2, 3, 4, 6, 8, 12, 16])
def test_attention_over_codes_is_attention_over_what_they_stand_for(query_heads: int) -> None:
    query, keys, values = _random(2, 2 * query_heads, 1, 16), _packed(40), _packed(40, seed=1)
    expected = attend_plain(query, dequantize(keys), dequantize(values), SCALING)
    _close(attend_packed(query, keys, values, SCALING), expected)


def test_groups_of_channels_keep_their_scales() -> None:
    query, keys, values = _random(2, 4, 3, 16), _packed(40, group=8), _packed(40, group=4, seed=1)
    expected = attend_plain(query, dequantize(keys), dequantize(values), SCALING)
    _close(attend_packed(query, keys, values, SCALING), expected)


def test_long_histories_are_attended_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    query, keys, values = _random(2, 4, 1, 16), _packed(50), _packed(50, seed=1)
    first = torch.tensor([0, 33])
    whole = attend_packed(query, keys, values, SCALING, first=first)
    monkeypatch.setattr(attention, "_BLOCK_TOKENS", 16)
    _close(attend_packed(query, keys, values, SCALING, first=first), whole)


def test_tokens_before_a_row_begins_are_not_read() -> None:
    query, keys, values = _random(2, 4, 1, 16), _packed(20), _packed(20, seed=1)
    part = attend_packed(query, keys, values, SCALING, first=torch.tensor([0, 12]))
    alone = attend_plain(query[1:], dequantize(keys)[1:, :, 12:], dequantize(values)[1:, :, 12:], SCALING)
    _close(Part(output=part.output[1:], lse=part.lse[1:]), alone)


def test_a_row_that_sees_nothing_adds_nothing() -> None:
    query, keys, values = _random(2, 4, 1, 16), _packed(20), _packed(20, seed=1)
    part = attend_packed(query, keys, values, SCALING, first=torch.tensor([0, 20]))
    assert torch.equal(part.output[1], torch.zeros(4, 1, 16))
    assert torch.isneginf(part.lse[1]).all()
    seen = attend_plain(query, dequantize(keys), dequantize(values), SCALING)
    merged = merge([part, seen])
    torch.testing.assert_close(merged.output[1], seen.output[1])


@pytest.mark.parametrize("cut", [1, 13, 29])
def test_parts_merge_to_one_softmax(cut: int) -> None:
    query, keys, values = _random(1, 4, 5, 16), _random(1, 2, 30, 16, seed=1), _random(1, 2, 30, 16, seed=2)
    whole = attend_plain(query, keys, values, SCALING)
    parts = [
        attend_plain(query, keys[:, :, part], values[:, :, part], SCALING) for part in (slice(cut), slice(cut, None))
    ]
    _close(merge(parts), whole)
    _close(merge(parts[::-1]), whole)


def test_plain_attention_is_that_of_pytorch() -> None:
    query, keys, values = _random(1, 4, 5, 16), _random(1, 4, 30, 16, seed=1), _random(1, 4, 30, 16, seed=2)
    visible = torch.rand(1, 5, 30, generator=torch.Generator().manual_seed(0)) > 0.3
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=visible[:, None], scale=SCALING
    )
    torch.testing.assert_close(attend_plain(query, keys, values, SCALING, visible).output, expected)

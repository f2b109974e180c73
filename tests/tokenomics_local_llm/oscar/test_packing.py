from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_local_llm.oscar.packing import PackedTokens, dequantize, pack_codes, unpack_codes


@given(channels=st.integers(1, 40).map(lambda quarter: 4 * quarter), seed=st.integers(0, 99))
def test_packed_codes_unpack_to_what_they_were(channels: int, seed: int) -> None:
    codes = torch.randint(0, 4, (2, 3, 5, channels), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    assert torch.equal(unpack_codes(pack_codes(codes)), codes)


def test_a_byte_holds_the_codes_of_channels_a_quarter_apart() -> None:
    codes = torch.tensor([[1, 0, 2, 0, 3, 0, 0, 2]])
    assert pack_codes(codes).tolist() == [[1 | 2 << 2 | 3 << 4, 2 << 6]]


def test_channels_that_four_does_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        pack_codes(torch.zeros(1, 6, dtype=torch.uint8))


def test_each_group_has_its_own_scale_and_minimum() -> None:
    packed = PackedTokens(
        codes=pack_codes(torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]).view(1, 1, 1, 8)),
        scale=torch.tensor([1.0, 10.0]).half().view(1, 1, 1, 2),
        minimum=torch.tensor([0.0, -5.0]).half().view(1, 1, 1, 2),
    )
    assert dequantize(packed).flatten().tolist() == [0, 1, 2, 3, -5, 5, 15, 25]
    assert (packed.tokens, packed.head_dim, packed.nbytes) == (1, 8, 2 + 4 + 4)

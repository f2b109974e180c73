from __future__ import annotations

import pytest

from tokenomics_local_llm.oscar import OscarRecipe

KIB = 1024


@pytest.mark.parametrize(
    ("tokens", "bits"), [(32 * KIB, 2.384), (64 * KIB, 2.317), (128 * KIB, 2.284)], ids=["32K", "64K", "128K"]
)
def test_bits_per_element_are_those_that_are_published(tokens: int, bits: float) -> None:
    recipe = OscarRecipe(demotion_tokens=1)
    assert recipe.bits_per_element(tokens, 128) == pytest.approx(bits, abs=5e-4)


def test_smaller_heads_pay_more_for_their_scales() -> None:
    assert OscarRecipe().bits_per_element(128 * KIB, 64) - OscarRecipe().bits_per_element(128 * KIB, 128) > 0.24


def test_sequences_within_the_windows_are_not_quantised() -> None:
    recipe = OscarRecipe(sink_tokens=64, recent_tokens=256, demotion_tokens=16)
    assert [recipe.quantized_tokens(tokens) for tokens in (0, 64, 320, 335, 336, 351, 352)] == [0, 0, 0, 0, 16, 16, 32]
    assert recipe.bits_per_element(320, 128) == 16


@pytest.mark.parametrize("wrong", [{"sink_tokens": -1}, {"recent_tokens": -1}, {"demotion_tokens": 0}], ids=str)
def test_windows_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OscarRecipe(**wrong)  # type: ignore[arg-type]

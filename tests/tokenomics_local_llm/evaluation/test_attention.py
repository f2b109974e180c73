from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from tiny_models import some_tokens, tiny_model
from tokenomics_local_llm.evaluation.attention import _divergence, attention_divergence
from tokenomics_local_llm.evaluation.kivi import kivi_cache


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_attention_over_exact_keys_does_not_stray(family: str) -> None:
    model = tiny_model(family)

    found = attention_divergence(
        model, some_tokens(300), DynamicCache(config=model.config), scored_tokens=100, chunk_tokens=64
    )

    assert found == {0: pytest.approx(0, abs=1e-6), 1: pytest.approx(0, abs=1e-6)}


def test_each_layer_shows_its_own_error() -> None:
    model = tiny_model("llama")
    before = model.config._attn_implementation

    found = attention_divergence(model, some_tokens(500), kivi_cache(model.config), scored_tokens=64, chunk_tokens=64)

    assert sorted(found) == [0, 1]
    assert min(found.values()) > 1e-3
    assert model.config._attn_implementation == before


def test_divergence_is_that_of_two_softmaxes() -> None:
    query, exact, other = torch.randn(2, 1, 4), torch.randn(1, 3, 4), torch.randn(1, 3, 4)

    found = _divergence(query, exact, other)

    expected = torch.stack([torch.softmax(query[h, 0] @ exact[0].T, -1) for h in range(2)])
    shadowed = torch.stack([torch.softmax(query[h, 0] @ other[0].T, -1) for h in range(2)])
    torch.testing.assert_close(found[:, 0], (expected * (expected / shadowed).log()).sum(-1))


@pytest.mark.parametrize("scored", [0, 300])
def test_more_than_the_text_cannot_be_scored(scored: int) -> None:
    model = tiny_model("llama")

    with pytest.raises(ValueError, match="scored_tokens must be above 0 and below the text's 300"):
        attention_divergence(model, some_tokens(300), DynamicCache(config=model.config), scored_tokens=scored)

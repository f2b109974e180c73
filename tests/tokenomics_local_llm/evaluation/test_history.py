from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

from tiny_models import logits, some_tokens, tiny_model
from tokenomics_local_llm.evaluation import compare, logits_over_history
from tokenomics_local_llm.oscar import OscarCache, OscarRecipe, Rotations

TEXT = some_tokens(50)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_model("llama")


def _full(model: PreTrainedModel, chunk_tokens: int = 8) -> torch.Tensor:
    return logits_over_history(
        model, TEXT, DynamicCache(config=model.config), scored_tokens=30, chunk_tokens=chunk_tokens
    )


@pytest.mark.parametrize("chunk_tokens", [1, 7, 50], ids=str)
def test_the_last_positions_logits_are_returned_however_a_text_is_cut(
    model: PreTrainedModel, chunk_tokens: int
) -> None:
    whole = logits(model, TEXT[None], DynamicCache(config=model.config))[0, 20:]
    torch.testing.assert_close(_full(model, chunk_tokens), whole, atol=1e-4, rtol=1e-4)


def test_a_full_cache_differs_from_itself_in_nothing(model: PreTrainedModel) -> None:
    score = compare(_full(model), _full(model), TEXT)
    assert (score.kl, score.agreement, score.perplexity_ratio, score.positions) == (0, 1, 1, 29)


def test_scores_are_those_of_their_definitions(model: PreTrainedModel) -> None:
    recipe = OscarRecipe(sink_tokens=0, recent_tokens=0, demotion_tokens=1, keys=OscarRecipe.as_published().keys,
                         values=OscarRecipe.as_published().values)  # fmt: skip
    cache = OscarCache.for_model(model, Rotations.plain(2, 16), recipe)
    full, other = _full(model), logits_over_history(model, TEXT, cache, scored_tokens=30, chunk_tokens=8)
    score = compare(full, other, TEXT)
    expected = torch.nn.functional.cross_entropy(other[:-1], TEXT[21:]).exp()
    divergence = torch.nn.functional.kl_div(
        other[:-1].log_softmax(-1), full[:-1].log_softmax(-1), log_target=True, reduction="batchmean"
    )
    assert score.perplexity == pytest.approx(float(expected), rel=1e-5)
    assert score.kl == pytest.approx(float(divergence), rel=1e-4)
    assert score.kl > 0.01
    assert score.agreement < 1


@pytest.mark.parametrize("scored", [0, 50])
def test_a_text_must_be_longer_than_what_is_scored(model: PreTrainedModel, scored: int) -> None:
    with pytest.raises(ValueError, match="below the text's 50"):
        logits_over_history(model, TEXT, DynamicCache(config=model.config), scored_tokens=scored)

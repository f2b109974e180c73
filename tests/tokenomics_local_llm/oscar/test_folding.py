from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Cache, DynamicCache, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from tiny_models import layer_tensors, logits, some_tokens
from tokenomics_local_llm.oscar import (
    OscarCache,
    OscarRecipe,
    Rotations,
    collect_moments,
    fit_rotations,
    fold_value_rotations,
    output_metrics,
)

IDS = some_tokens(60)[None]
# Of sums of a few hundred products, which processors add up in different orders.
ROUNDING = 32 * torch.finfo(torch.float32).eps
RECIPE = OscarRecipe(sink_tokens=4, recent_tokens=8, demotion_tokens=4)


def _rotations(model: PreTrainedModel, whitening: float) -> Rotations:
    moments = collect_moments(model, [some_tokens(100)], sink_tokens=4)
    return fit_rotations(moments, whitening=whitening, output_metrics=output_metrics(model))


def _second_half(model: PreTrainedModel, cache: Cache) -> Tensor:
    """Logits, with what the cache makes of the first half."""
    logits(model, IDS[:, :40], cache)
    return logits(model, IDS[:, 40:], cache)


@pytest.mark.parametrize("whitening", [0.0, 0.5], ids=["orthogonal", "whitened"])
def test_folding_changes_logits_only_by_rounding(fresh: PreTrainedModel, whitening: float) -> None:
    before = logits(fresh, IDS, DynamicCache(config=fresh.config))
    fold_value_rotations(fresh, _rotations(fresh, whitening))
    change = (logits(fresh, IDS, DynamicCache(config=fresh.config)) - before).abs().max()
    assert change < ROUNDING * before.abs().max()


@pytest.mark.parametrize("whitening", [0.0, 0.5], ids=["orthogonal", "whitened"])
def test_a_folded_model_and_its_cache_compute_what_an_unfolded_one_does(
    fresh: PreTrainedModel, whitening: float
) -> None:
    rotations = _rotations(fresh, whitening)
    unfolded = _second_half(fresh, OscarCache.for_model(fresh, rotations, RECIPE))
    exact = _second_half(fresh, DynamicCache(config=fresh.config))
    folded = fold_value_rotations(fresh, rotations)
    again = _second_half(fresh, OscarCache.for_model(fresh, folded, RECIPE))
    assert (again - unfolded).abs().max() < 0.05 * (unfolded - exact).abs().max()  # a few codes fall the other way


def test_values_come_turned_from_a_folded_model(fresh: PreTrainedModel) -> None:
    rotations = _rotations(fresh, 0.0)
    before, after = DynamicCache(config=fresh.config), DynamicCache(config=fresh.config)
    _second_half(fresh, before)
    fold_value_rotations(fresh, rotations)
    _second_half(fresh, after)
    turned = layer_tensors(before, 0)[1] @ rotations.values[0].rotation
    torch.testing.assert_close(layer_tensors(after, 0)[1], turned, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer_tensors(after, 1)[0], layer_tensors(before, 1)[0], atol=1e-4, rtol=1e-4)


def test_the_metric_of_values_is_what_an_error_costs_after_the_projection(shared: PreTrainedModel) -> None:
    attention = shared.model.layers[0].self_attn
    metric = output_metrics(shared)[0]
    error = torch.randn(16, generator=torch.Generator().manual_seed(0))
    cost = 0.0
    for query_head in (2, 3):  # those of key-value head 1
        columns = attention.o_proj.weight.detach()[:, 16 * query_head : 16 * (query_head + 1)]
        cost += float((columns @ error).square().sum())
    assert float(error.double() @ metric[1] @ error.double()) == pytest.approx(cost, rel=1e-4)


def test_models_without_separate_projections_are_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=50))
    with pytest.raises(ValueError, match="leave it unfolded"):
        fold_value_rotations(model, Rotations.plain(1, 8))

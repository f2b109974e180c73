"""Clips are chosen layer by layer, by what attention makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tiny_models import logits, some_tokens
from tokenomics_local_llm.oscar import (
    OscarCache,
    OscarRecipe,
    QuantizerRecipe,
    Rotations,
    choose_clips,
    load_rotations,
    save_rotations,
)
from tokenomics_local_llm.oscar.calibration import visit_attention
from tokenomics_local_llm.oscar.codec import SideCodec
from tokenomics_local_llm.oscar.sampled import SampledAttention

RECIPE = OscarRecipe(sink_tokens=4, recent_tokens=8)
TEXTS = [some_tokens(120, seed) for seed in (31, 32)]
RATIOS = (0.5, 0.9, 1.0)


@pytest.fixture(scope="module")
def clipped(shared: PreTrainedModel, rotations: Rotations) -> Rotations:
    return choose_clips(shared, rotations, TEXTS, RECIPE, clip_ratios=RATIOS, queries=16)


def test_the_clip_of_keys_is_that_of_least_divergence(
    shared: PreTrainedModel, rotations: Rotations, clipped: Rotations
) -> None:
    losses = torch.zeros(2, len(RATIOS))

    def judge(layer: int, query: Tensor, key: Tensor, value: Tensor, _output: Tensor) -> None:
        sample = SampledAttention.of(query, key, value, RECIPE, 16)
        for place, ratio in enumerate(RATIOS):
            codec = SideCodec(rotations.keys[layer], QuantizerRecipe(clip_ratio=ratio))
            losses[layer, place] += sample.key_divergence(codec.decode(codec.encode(key[None]))[0])

    visit_attention(shared, TEXTS, judge, longer_than=12)
    chosen = [float(clipped.keys[layer].clip_ratio or 0) for layer in (0, 1)]
    assert chosen == pytest.approx([RATIOS[place] for place in losses.argmin(-1).tolist()])


def test_a_layer_s_clip_takes_the_place_of_the_recipe_s(clipped: Rotations) -> None:
    side, rows = clipped.keys[0], torch.randn(1, 2, 9, 16, generator=torch.Generator().manual_seed(0))
    assert side.clip_ratio is not None
    own = SideCodec(side, QuantizerRecipe(clip_ratio=0.96)).encode(rows)
    said = SideCodec(replace(side, clip_ratio=None), QuantizerRecipe(clip_ratio=float(side.clip_ratio))).encode(rows)
    assert torch.equal(own.codes, said.codes)
    assert torch.equal(own.scale, said.scale)


def test_clips_are_kept_in_our_files(clipped: Rotations, tmp_path: Path) -> None:
    save_rotations(clipped, tmp_path / "rotations.safetensors")
    again = load_rotations(tmp_path / "rotations.safetensors")
    for one, other in ((again.keys, clipped.keys), (again.values, clipped.values)):
        assert [side.clip_ratio for side in one.values()] == [side.clip_ratio for side in other.values()]


def test_a_cache_of_other_clips_is_not_gone_on_from(
    shared: PreTrainedModel, rotations: Rotations, clipped: Rotations, tmp_path: Path
) -> None:
    one, other = (OscarCache.for_model(shared, each, RECIPE) for each in (clipped, rotations))
    logits(shared, TEXTS[0][None], one)
    one.save(tmp_path / "prefix.safetensors")
    with pytest.raises(ValueError, match="same rotations and recipe"):
        other.load(tmp_path / "prefix.safetensors")


def test_texts_within_the_windows_are_refused(shared: PreTrainedModel, rotations: Rotations) -> None:
    with pytest.raises(ValueError, match="longer than 12 tokens"):
        choose_clips(shared, rotations, [some_tokens(12)], RECIPE)


def test_codes_that_are_exact_diverge_by_nothing_and_windows_never(shared: PreTrainedModel) -> None:
    seen: list[float] = []

    def judge(_layer: int, query: Tensor, key: Tensor, value: Tensor, _output: Tensor) -> None:
        sample = SampledAttention.of(query, key, value, RECIPE, 8)
        covering = SampledAttention.of(query, key, value, OscarRecipe(sink_tokens=4, recent_tokens=200), 8)
        seen.extend([float(sample.key_divergence(sample.keys)), float(sample.value_error(sample.values, None))])
        seen.extend([float(covering.key_divergence(-key)), float(covering.value_error(-value, None))])
        assert sample.key_divergence(-key) > 0.01
        assert sample.value_error(-value, None) > 0.01

    visit_attention(shared, TEXTS[:1], judge, longer_than=0)
    assert seen == pytest.approx([0.0] * 8, abs=1e-6)

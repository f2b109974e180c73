"""A model behind the 2-bit cache, whose rotations are fitted to its weights, before and after these are tuned."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData, finetune
from tokenomics_local_llm.diffusion_blocks.rows import Rows
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning
from tokenomics_local_llm.evaluation import HistoryScore, compare, logits_over_history
from tokenomics_local_llm.oscar import OscarCache, OscarRecipe, Rotations, calibrate

RECIPE = OscarRecipe(sink_tokens=2, recent_tokens=2, demotion_tokens=2)  # nearly all that a text says is codes
VOCABULARY = 32


def texts(count: int, length: int, seed: int) -> Tensor:
    """Each of four words of its own, (count, length), so that what comes next is told by what was read."""
    generator = torch.Generator().manual_seed(seed)
    words = [torch.randperm(VOCABULARY, generator=generator)[:4] for _ in range(count)]
    return torch.stack([four[torch.randint(4, (length,), generator=generator)] for four in words])


def rows(count: int, seed: int) -> Rows:
    found = texts(count, 33, seed)
    return Rows(found[:, :-1], found[:, 1:])


def calibrated(model: Any) -> Rotations:
    return calibrate(model, list(texts(8, 64, seed=3)), sink_tokens=RECIPE.sink_tokens)


def unsuited(rotations: Rotations) -> Rotations:
    """Those that clip most of what their model computes."""
    sides = (rotations.keys, rotations.values)
    keys, values = ({layer: replace(one, clip_ratio=torch.tensor(0.1)) for layer, one in s.items()} for s in sides)
    return Rotations(keys=keys, values=values)


def scores(model: Any, rotations: Rotations) -> list[HistoryScore]:
    found = []
    for text in texts(4, 64, seed=4):
        caches = (DynamicCache(config=model.config), OscarCache.for_model(model, rotations, RECIPE))
        full, codes = (logits_over_history(model, text, one, scored_tokens=32, chunk_tokens=8) for one in caches)
        found.append(compare(full, codes, text))
    return found


def losses(model: Any, rotations: Rotations) -> tuple[float, float]:
    """With the full cache, and with the 2-bit one."""
    found = scores(model, rotations)
    return fmean(log(one.full_perplexity) for one in found), fmean(log(one.perplexity) for one in found)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).train(False)


def test_the_2_bit_cache_keeps_what_tuning_taught_once_its_rotations_are_recalibrated(
    model: Any, tmp_path: Path
) -> None:
    full_before, codes_before = losses(model, calibrated(model))
    data = FineTuningData(train=rows(512, seed=0), held_out=rows(16, seed=1), probe=rows(4, seed=2))
    finetune(model, data, FineTuning(blocks=2, passes=3, steps=30, learning_rate=3e-3, checkpointing=False), tmp_path)

    rotations = calibrated(model)
    full, codes = losses(model, rotations)
    _, with_unsuited = losses(model, unsuited(rotations))

    learned = full_before - full
    assert learned > 0.2
    assert abs(codes_before - full_before) < 0.1 * learned
    assert abs(codes - full) < 0.1 * learned
    assert with_unsuited - full > 0.2 * learned

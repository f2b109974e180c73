from __future__ import annotations

import pytest
import torch

from tiny_models import some_tokens, tiny_model
from tokenomics_local_llm.evaluation.arms import ABLATIONS, OURS, PUBLISHED, arms, fit
from tokenomics_local_llm.evaluation.history import compare, logits_over_history
from tokenomics_local_llm.oscar import collect_moments, output_metrics


def test_every_arm_reads_a_text_and_says_its_bits() -> None:
    model = tiny_model("llama")
    tokens = some_tokens(500)
    compared = arms(model, fit(collect_moments(model, [some_tokens(2000, 1)]), output_metrics(model)))
    full = logits_over_history(model, tokens, compared[0].make(), scored_tokens=100)

    for arm in compared:
        score = compare(full, logits_over_history(model, tokens, arm.make(), scored_tokens=100), tokens)
        assert score.positions == 99
        assert torch.isfinite(torch.tensor(score.kl))
        assert arm.bits(10**6) < 7

    names = [arm.name for arm in compared]
    assert {OURS, PUBLISHED, "KIVI", *ABLATIONS} <= set(names)
    assert len(set(names)) == len(names)


def test_bits_are_those_that_were_published() -> None:
    model = tiny_model("llama")
    bits = {
        arm.name: arm.bits
        for arm in arms(model, fit(collect_moments(model, [some_tokens(300)]), output_metrics(model)))
    }

    assert bits[PUBLISHED](128 * 1024) == pytest.approx(2 + 32 / 16 + 320 / 131072 * (16 - 4), abs=1e-3)
    assert bits[OURS](1000) == bits[PUBLISHED](1000)

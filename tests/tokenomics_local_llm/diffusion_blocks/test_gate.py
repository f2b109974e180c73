from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tokenomics_local_llm.diffusion_blocks.gate import Gate, Judge, Reading
from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData
from tokenomics_local_llm.diffusion_blocks.partition import Partition

BEST = Reading(held_out_loss=2.0, kl=0.1)


@pytest.mark.parametrize(
    ("held_out_loss", "kl", "admitted"),
    [
        (1.9, 0.1, True),
        (1.9, 0.5, True),
        (1.9, 0.6, False),
        (2.0, 0.1, False),
        (2.1, 0.0, False),
        (float("nan"), 0.1, False),
        (1.9, float("nan"), False),
    ],
    ids=["better", "at the limit", "too far", "no better", "worse", "no loss", "no divergence"],
)
def test_what_is_better_and_near_is_admitted(held_out_loss: float, kl: float, admitted: bool) -> None:
    assert Gate(max_kl=0.5).admits(Reading(held_out_loss=held_out_loss, kl=kl), BEST) is admitted


def test_a_model_does_not_diverge_from_itself(any_model: Any, data: FineTuningData, tmp_path: Path) -> None:
    partition = Partition(any_model, 2)

    reading = Judge(partition, data.held_out, data.probe, tmp_path).read()

    with torch.no_grad():
        logits = any_model(data.held_out.input_ids).logits
    exact = torch.nn.functional.cross_entropy(logits.flatten(0, 1), data.held_out.targets.flatten())
    assert reading.kl == 0.0
    assert reading.held_out_loss == pytest.approx(float(exact), rel=1e-5)


@torch.no_grad()
def test_divergence_is_from_the_model_as_it_was_at_first(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    partition = Partition(llama, 2)
    Judge(partition, data.held_out, data.probe, tmp_path)
    before = llama(data.probe.input_ids).logits.log_softmax(-1)
    for value in partition.tensors(1).values():
        value.mul_(1.5)

    kl = Judge(partition, data.held_out, data.probe, tmp_path).read().kl

    after = llama(data.probe.input_ids).logits.log_softmax(-1)
    expected = (before.exp() * (before - after)).sum(-1).mean()
    assert kl == pytest.approx(float(expected), rel=1e-4)
    assert kl > 1e-5

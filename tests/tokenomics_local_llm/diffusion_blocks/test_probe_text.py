from __future__ import annotations

from typing import Any

from tokenomics_local_llm.diffusion_blocks.probe_text import own_text


def test_a_model_writes_the_same_text_of_its_own_each_time(any_model: Any) -> None:
    any_model.generation_config.eos_token_id = None
    first, second = (own_text(any_model, rows=3, length=12, seed=1) for _ in range(2))

    assert first.input_ids.shape == first.targets.shape == (3, 12)
    assert first.input_ids.equal(second.input_ids)
    assert first.input_ids[:, 1:].equal(first.targets[:, :-1])
    assert len(set(first.targets.flatten().tolist())) > 5


def test_another_seed_gives_another_text(llama: Any) -> None:
    assert not own_text(llama, rows=2, length=12, seed=0).targets.equal(
        own_text(llama, rows=2, length=12, seed=1).targets
    )

"""Tiny pretrained models of every family, and a text that they can learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData
from tokenomics_local_llm.diffusion_blocks.rows import pack

_LLAMA_LIKE = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def make_model(family: str, **more: Any) -> Any:
    """One of a family, the same each time."""
    torch.manual_seed(0)
    if family == "gpt2":
        config = GPT2Config(
            vocab_size=32, n_embd=16, n_layer=4, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2, **more
        )
        return GPT2LMHeadModel(config).train(False)
    kinds: dict[str, Any] = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }
    config_class, model_class = kinds[family]
    return model_class(config_class(**_LLAMA_LIKE | ({"head_dim": 8} if family == "qwen3" else {}) | more)).eval()


@pytest.fixture(params=["gpt2", "llama", "mistral", "qwen2", "qwen3"])
def any_model(request: pytest.FixtureRequest) -> Any:
    return make_model(request.param)


@pytest.fixture
def llama() -> Any:
    return make_model("llama")


@pytest.fixture(scope="session")
def data() -> FineTuningData:
    tokens = [(index * index) % 29 for index in range(1200)]
    return FineTuningData(
        train=pack(tokens[:900], length=16),
        held_out=pack(tokens[900:], length=16),
        probe=pack([(index * 7) % 31 for index in range(70)], length=16),
    )

"""Models of two families, tiny and with random weights, and tokens for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from tokenomics_local_llm.model import cache_argument

VOCABULARY = 97
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.3,  # wide enough that what is written depends on what was read
    "attention_bias": True,
    "pad_token_id": 0,
    "eos_token_id": None,
}


def tiny_model(family: str) -> PreTrainedModel:
    """A model, "llama" or "qwen3", the same at each call."""
    torch.manual_seed(1)
    made: dict[str, Any] = {"llama": (LlamaForCausalLM, LlamaConfig), "qwen3": (Qwen3ForCausalLM, Qwen3Config)}
    kind, config = made[family]
    model: PreTrainedModel = kind(config(**SHAPE))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)  # transformers makes them 0
    model.train(False)
    return model


def layer_tensors(cache: Cache, layer: int) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer of a full cache."""
    held: Any = cache.layers[layer]
    return held.keys, held.values


def logits(model: PreTrainedModel, ids: Tensor, cache: Cache, **more: Any) -> Tensor:
    """Of token ids (B, T) that follow what is in a cache."""
    with torch.inference_mode():
        found: Tensor = model(input_ids=ids, **{cache_argument(model): cache}, **more).logits
    return found


def some_tokens(count: int, seed: int = 0) -> Tensor:
    """Token ids, (count,)."""
    return torch.randint(1, VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed))

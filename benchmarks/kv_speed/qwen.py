"""The random model that decodes: of the shape of Qwen3-0.6B, with 4 of its layers; the same in every process."""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

__all__ = ["HEADS", "HEAD_DIM", "LAYERS", "QUERY_HEADS", "VOCABULARY", "random_qwen"]

LAYERS: Final = 4
QUERY_HEADS: Final = 16
HEADS: Final = 8
HEAD_DIM: Final = 128
VOCABULARY: Final = 32_000


def random_qwen(dtype: torch.dtype) -> PreTrainedModel:
    """Its weights are those of the seed 0."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=1024, intermediate_size=3072, num_hidden_layers=LAYERS,
        num_attention_heads=QUERY_HEADS, num_key_value_heads=HEADS, head_dim=HEAD_DIM, max_position_embeddings=262_144,
    )  # fmt: skip
    model: Any = Qwen3ForCausalLM(config)
    ready: PreTrainedModel = model.to(dtype).train(False)
    return ready

"""LoRA as peft makes it, where peft is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

__all__ = ["RANK", "has_peft", "with_lora"]

RANK = 8


def has_peft() -> bool:
    """Whether the arm can be measured."""
    return find_spec("peft") is not None


def with_lora(model: Any) -> Any:
    """Adapters on every linear layer of the transformer's layers; only they are trained."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    )

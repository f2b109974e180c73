"""The layers of a pretrained causal language model, divided into blocks of neighbours.

The only module that knows how transformers' models are made. A parameter belongs to one block or stays as it is:
embedding, final norm and head are nobody's, because every block reads or writes through them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

from tokenomics_local_llm.errors import LocalLLMError

__all__ = ["Partition", "PartitionError"]

_LLAMA_LIKE: Final = ("layers", "norm")
# model_type -> the names of its layers and of its final norm
_PARTS: Final = {
    "gpt2": ("h", "ln_f"),
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
}


class PartitionError(LocalLLMError, ValueError):
    """A model cannot be divided so."""


class Partition:
    """A model and its blocks, in the order of its layers.

    Args:
        model: A causal language model of transformers.
        blocks: How many; their numbers of layers differ by one at most.

    Raises:
        PartitionError: If the model's architecture is not known here, or it has fewer layers than blocks.
    """

    def __init__(self, model: Any, blocks: int) -> None:
        kind = model.config.model_type
        if kind not in _PARTS:
            known = ", ".join(sorted(_PARTS))
            raise PartitionError(f"a model of type {kind!r} cannot be divided into blocks: known types are {known}")
        self.model = model
        layers_name, norm_name = _PARTS[kind]
        self._layers: nn.ModuleList = getattr(model.base_model, layers_name)
        self.norm: nn.Module = getattr(model.base_model, norm_name)
        self.head: nn.Module = model.get_output_embeddings()
        if not 1 <= blocks <= len(self._layers):
            raise PartitionError(f"blocks must be 1 to {len(self._layers)}, the layers of the model, got {blocks}")
        self.blocks = blocks

    def layers(self, block: int) -> list[nn.Module]:
        """The layers of a block."""
        count = len(self._layers)
        return list(self._layers[block * count // self.blocks : (block + 1) * count // self.blocks])

    def parameters(self, block: int) -> dict[str, nn.Parameter]:
        """The parameters of a block, by their names in the model."""
        own = {id(parameter) for layer in self.layers(block) for parameter in layer.parameters()}
        return {name: parameter for name, parameter in self.model.named_parameters() if id(parameter) in own}

    def tensors(self, block: int) -> dict[str, Tensor]:
        """The values of a block's parameters, by name."""
        return {name: parameter.detach() for name, parameter in self.parameters(block).items()}

    def load(self, block: int, tensors: dict[str, Tensor]) -> None:
        """Overwrite a block's parameters.

        Raises:
            ValueError: If a name is missing or one too many.
        """
        own = self.tensors(block)
        if own.keys() != tensors.keys():
            raise ValueError(f"these are not the parameters of block {block}: {sorted(own.keys() ^ tensors.keys())}")
        for name, value in own.items():
            value.copy_(tensors[name])

    def train_only(self, block: int) -> list[nn.Parameter]:
        """Let only this block's parameters have gradients, and drop what gradients there are.

        Below the block nothing then needs a gradient, so that the ordinary forward pass saves nothing there.
        """
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        chosen = list(self.parameters(block).values())
        for parameter in chosen:
            parameter.requires_grad_(True)
        return chosen

    def checkpoint_activations(self, on: bool) -> None:
        """Whether layers are computed twice instead of kept for the backward pass; only while training."""
        # transformers renamed these on the way from 5.0 to 5.24, and warns about the old names.
        if on:
            enable = getattr(self.model, "activation_checkpointing_enable", None)
            (enable or self.model.gradient_checkpointing_enable)({"use_reentrant": False})
        else:
            disable = getattr(self.model, "activation_checkpointing_disable", None)
            (disable or self.model.gradient_checkpointing_disable)()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        place: torch.device = self.model.device
        return place

    def hidden(self, input_ids: Tensor) -> Tensor:
        """What the head reads, (B, T, D)."""
        states: Tensor = self.model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        return states

    def hidden_after(self, block: int, input_ids: Tensor) -> Tensor:
        """What a block writes, (B, T, D); the layers above do not run."""
        handle = self.layers(block)[-1].register_forward_hook(_reach)
        try:
            self.model.base_model(input_ids=input_ids, use_cache=False)
        except _ReachedError as reached:
            return reached.hidden
        finally:
            handle.remove()
        raise AssertionError("the model ran to its end past a layer of its own")

    def __iter__(self) -> Iterator[int]:
        """The numbers of the blocks."""
        return iter(range(self.blocks))


class _ReachedError(Exception):
    """Ends a forward pass early; carries what it came for."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def _reach(_module: nn.Module, _inputs: Any, output: Any) -> None:
    raise _ReachedError(output[0] if isinstance(output, tuple) else output)

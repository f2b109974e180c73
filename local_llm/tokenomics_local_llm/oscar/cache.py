"""`OscarCache` in transformers' cache contract; the only module of this package that touches it."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from tokenomics_local_llm.oscar.codec import SideCodec
from tokenomics_local_llm.oscar.recipe import OscarRecipe
from tokenomics_local_llm.oscar.store import SideStore
from tokenomics_local_llm.oscar.transform import Rotations, SideTransform

__all__ = ["OscarCache", "OscarLayer"]


class OscarLayer(CacheLayerMixin):  # type: ignore[misc]
    is_croppable = True
    is_sliding = False

    def __init__(self, keys: SideTransform, values: SideTransform, recipe: OscarRecipe) -> None:
        super().__init__()
        self._recipe = recipe
        self._codecs = SideCodec(keys, recipe.keys), SideCodec(values, recipe.values)
        self._sides: tuple[SideStore, SideStore] | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        groups = [states.shape[-1] // (side.group_size or states.shape[-1]) for states, side in
                  ((key_states, self._recipe.keys), (value_states, self._recipe.values))]
        self._sides = (
            SideStore(key_states, self._codecs[0], self._recipe, groups[0]),
            SideStore(value_states, self._codecs[1], self._recipe, groups[1]),
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self._sides is None:
            self.lazy_initialization(key_states, value_states)
        seen = []
        for side, states in zip(self._sides, (key_states, value_states)):
            seen.append(states if side.tokens == 0 else states.new_empty(0) if False else _with_past(side, states))
            side.append(states)
        return tuple(seen)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self._sides[0].tokens if self._sides else 0

    def get_max_length(self) -> int:
        return -1


def _with_past(side, states):
    import torch
    return torch.cat([side.restore(), states], dim=2)


class OscarCache(Cache):  # type: ignore[misc]
    @classmethod
    def for_model(cls, model: PreTrainedModel, rotations: Rotations, recipe: OscarRecipe | None = None) -> OscarCache:
        recipe = recipe or OscarRecipe()
        return cls(layers=[OscarLayer(rotations.keys[i], rotations.values[i], recipe) for i in range(model.config.num_hidden_layers)])

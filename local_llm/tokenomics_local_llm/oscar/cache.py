"""`OscarCache`: 2-bit keys and values in transformers' own cache contract; the only module here that touches it.

With any attention of transformers, a layer's `update` returns keys and values restored in full for the time of one
layer's attention. After `model.set_attn_implementation(OSCAR_ATTENTION)` it returns handles instead: tensors of the
right shape and no storage, by which our attention function finds the codes and attends to them as they are. Whatever
else is done to a handle restores it, so that a model that touches its keys first still computes the same.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers import AttentionInterface, Cache, DynamicCache, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from tokenomics_local_llm.oscar.attention import DecodeAttention
from tokenomics_local_llm.oscar.codec import SideCodec
from tokenomics_local_llm.oscar.decode import attend_held, code_stores
from tokenomics_local_llm.oscar.recipe import OscarRecipe
from tokenomics_local_llm.oscar.store import STORED, Held, SideStore, Starts
from tokenomics_local_llm.oscar.transform import Rotations

__all__ = ["OSCAR_ATTENTION", "OscarCache", "OscarLayer"]

OSCAR_ATTENTION: Final = "tokenomics_oscar"
"""The attention implementation that reads codes as they are."""

_SIDES: Final = ("keys", "values")
_FORMAT: Final = {"format": "tokenomics-oscar-cache", "format_version": "1"}


class _Handle(torch.Tensor):
    """Keys or values that exist as codes; any operation but our attention restores them."""

    held: Held
    decode_attention: DecodeAttention | None

    @staticmethod
    def __new__(cls, held: Held, decode_attention: DecodeAttention | None) -> _Handle:
        make: Any = torch.Tensor._make_wrapper_subclass
        handle: _Handle = make(cls, held.shape, dtype=held.recent.dtype, device=held.recent.device)
        handle.held = held
        handle.decode_attention = decode_attention
        return handle

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment] # typed as a method of classes

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override] # typed as a static function
        args, kwargs = tree_map(lambda part: part.held.restore() if isinstance(part, _Handle) else part, (args, kwargs))
        return func(*args, **(kwargs or {}))


class OscarLayer(CacheLayerMixin):  # type: ignore[no-untyped-call] # transformers types only a part of it
    """One layer's keys and values.

    Args:
        keys: Codec of the keys.
        values: Codec of the values.
        recipe: Windows.
        starts: Where the sequences begin.
        hands_out: What `update` returns of what a layer holds: handles or tensors.
        decode_attention: Reads the codes; `None` chooses.
    """

    is_croppable = True
    is_sliding = False

    def __init__(
        self,
        keys: SideCodec,
        values: SideCodec,
        recipe: OscarRecipe,
        starts: Starts | None,
        hands_out: Callable[[Held], Tensor],
        decode_attention: DecodeAttention | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._codecs = keys, values
        self._recipe = recipe
        self._starts = starts
        self._hands_out = hands_out
        self._decode_attention = decode_attention
        self._sides: tuple[SideStore, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes held, room for growth included."""
        return sum(side.nbytes for side in self._sides)

    @property
    def held(self) -> tuple[Held, ...]:
        """Keys and values as they are now; empty before the first token."""
        return tuple(side.held for side in self._sides)

    def tensors(self) -> dict[str, Tensor]:
        """All that is held, by name."""
        named = zip(_SIDES, self._sides, strict=True)
        return {f"{name}.{part}": tensor for name, side in named for part, tensor in side.tensors().items()}

    def take(self, tensors: dict[str, Tensor], tokens: int) -> None:
        """Hold what another layer's `tensors` were."""
        self.lazy_initialization(tensors["keys.recent"], tensors["values.recent"])
        for name, side in zip(_SIDES, self._sides, strict=True):
            side.take({part: tensors[f"{name}.{part}"] for part in STORED}, tokens)

    def identify(self, feed: Callable[[bytes], None]) -> None:
        """What a layer must have in common with another to go on from its codes."""
        feed(repr((self._recipe, None if self._starts is None else self._starts.rows.tolist())).encode())
        for codec in self._codecs:
            codec.identify(feed)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor | None = None) -> None:
        """Make room for sequences of this shape.

        Raises:
            ValueError: If the heads are not those that were calibrated.
        """
        value_states = key_states if value_states is None else value_states
        starts = _expanded(self._starts, key_states.shape[0])
        stores = code_stores(key_states, self._codecs, self._decode_attention)
        self._sides = tuple(
            SideStore(states, _fitting(codec, states), self._recipe, starts, store)
            for states, codec, store in zip((key_states, value_states), self._codecs, stores, strict=True)
        )
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add tokens, (B, H, T, D) each; what is returned has the new ones exactly as they came."""
        first = self.get_seq_length() == 0
        if not self._sides:
            self.lazy_initialization(key_states, value_states)
        keys, values = (
            side.append(states) for side, states in zip(self._sides, (key_states, value_states), strict=True)
        )
        return (key_states, value_states) if first else (self._hands_out(keys), self._hands_out(values))

    def get_mask_sizes(self, query_length: int | Tensor) -> tuple[int, int]:
        """Length and offset of the keys for the next `query_length` queries; older releases pass their positions."""
        new = query_length if isinstance(query_length, int) else query_length.shape[0]
        return self.get_seq_length() + new, 0

    def get_seq_length(self) -> int:
        """Positions so far, padding included."""
        return self._sides[0].tokens if self._sides else 0

    def get_max_length(self) -> int:
        """-1: no limit."""
        return -1

    def get_max_cache_shape(self) -> int:
        """The same under the name of older releases."""
        return -1

    def reset(self) -> None:
        """Forget everything."""
        self._sides = ()
        self.is_initialized = False

    def offload(self) -> None:
        """Refused: what is held is small, and moving it would cost more than it frees.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("an OscarCache is not offloaded: its codes take a seventh of the room, keep them")

    prefetch = offload

    def crop(self, tokens: int) -> None:
        """Remove the newest -`tokens`, or keep the first `tokens` where that is positive.

        Tokens that had become codes stay as their codes stand for them.
        """
        length = self.get_seq_length()
        kept = max(length + tokens, 0) if tokens <= 0 else tokens
        if kept < length:
            for side in self._sides:
                side.crop(kept)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow the beams."""
        self._each_row(lambda rows: rows.index_select(0, beam_idx.to(rows.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each sequence `repeats` times."""
        self._each_row(lambda rows: rows.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences."""
        self._each_row(lambda rows: rows[indices.to(rows.device)])

    def _each_row(self, change: Callable[[Tensor], Tensor]) -> None:
        for side in self._sides:
            side.each_row(change)


def _fitting(codec: SideCodec, states: Tensor) -> SideCodec:
    heads, channels = states.shape[1], states.shape[3]
    if codec.head_dim != channels or codec.rotation.shape[0] not in {1, heads}:
        raise ValueError(
            f"the rotations are for {codec.rotation.shape[0]} heads of {codec.head_dim} channels, the model has "
            f"{heads} of {channels}: calibrate this model"
        )
    return codec


def _expanded(starts: Starts | None, batch: int) -> Starts | None:
    """`generate` repeats the sequences of a batch for beams before the cache sees any."""
    if starts is None:
        return None
    rows = starts.rows.shape[0]
    if batch % rows:
        raise ValueError(
            f"the attention mask has {rows} rows and the batch {batch} sequences: give the batch's own mask"
        )
    return starts.each_row(lambda each: each.repeat_interleave(batch // rows, dim=0))


class OscarCache(Cache):
    """A cache whose full-attention layers keep 2-bit codes between two exact windows; make it by `for_model`."""

    @classmethod
    def for_model(
        cls,
        model: PreTrainedModel,
        rotations: Rotations,
        recipe: OscarRecipe | None = None,
        *,
        attention_mask: Tensor | None = None,
        decode_attention: DecodeAttention | None = None,
    ) -> OscarCache:
        """An empty cache for one batch.

        Args:
            model: The model; its sliding-window and linear layers keep the cache layers that transformers gives them.
            rotations: Of this model's full-attention layers.
            recipe: Windows and quantisers; `None` takes the default.
            attention_mask: The batch's, (B, T), if it is padded on the left: each sequence then gets a sink of its own.
                Without it padding is still masked, but sits in the sinks of the sequences that it precedes.
            decode_attention: Reads the codes after `model.set_attn_implementation(OSCAR_ATTENTION)`, in planar form;
                `None` takes the compiled kernels where they can serve, and PyTorch elsewhere.

        Raises:
            ValueError: If a layer has no rotations, or the model's attention keeps no keys and values of its own.
        """
        config = model.config.get_text_config(decoder=True)
        _refuse_latent_attention(config)
        recipe = recipe or OscarRecipe()
        starts = None if attention_mask is None else Starts.of_mask(attention_mask)

        def hand_out(held: Held) -> Tensor:
            return _Handle(held, decode_attention) if _reads_codes(config) else held.restore()

        layers: list[Any] = list(DynamicCache(config=config).layers)
        for layer, stock in enumerate(layers):
            if type(stock) is DynamicLayer:
                keys, values = _codecs(rotations, recipe, layer)
                layers[layer] = OscarLayer(keys, values, recipe, starts, hand_out, decode_attention)
        return cls(layers=layers)

    @property
    def _oscar_layers(self) -> dict[int, OscarLayer]:
        return {index: layer for index, layer in enumerate(self.layers) if isinstance(layer, OscarLayer)}

    def nbytes(self) -> int:
        """Bytes really held: codes, scales, windows, and room for growth; stock layers as they are."""
        return sum(_layer_nbytes(layer) for layer in self.layers)

    def bits_per_element(self) -> float | None:
        """Bits really held for each number that the model handed over, padding included; `None` before the first."""
        layers = self._oscar_layers.values()
        elements = sum(torch.Size(side.shape).numel() for layer in layers for side in layer.held)
        return 8 * sum(layer.nbytes for layer in layers) / elements if elements else None

    def save(self, path: Path) -> None:
        """Write what is held to one safetensors file, so that another process can go on from it.

        Raises:
            ValueError: If there are no tokens yet, or layers of other kinds.
        """
        layers = self._oscar_layers
        if len(layers) < len(self.layers) or not self.get_seq_length():
            raise ValueError(
                f"only a cache with tokens, and with no layers but OSCAR's, can be saved: this one has "
                f"{self.get_seq_length()} tokens and {len(self.layers) - len(layers)} other layers"
            )
        tensors = {f"{i}.{name}": part for i, layer in layers.items() for name, part in layer.tensors().items()}
        about = {"tokens": str(self.get_seq_length()), "made_by": self._made_by()}
        save_file(tensors, path, metadata=_FORMAT | about)

    def load(self, path: Path) -> None:
        """Take over what `save` wrote, before any token of this cache's own.

        Raises:
            ValueError: If it is another kind of file or made with other rotations or another recipe, or if this cache
                has tokens.
        """
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if self.get_seq_length() or about != about | _FORMAT | {"made_by": self._made_by()}:
                raise ValueError(
                    f"{path} must be a saved OscarCache of the same rotations and recipe, and this cache empty: the "
                    f"file says {about}, and this cache has {self.get_seq_length()} tokens"
                )
            for index, layer in self._oscar_layers.items():
                names = [name for name in file.keys() if name.startswith(f"{index}.")]  # noqa: SIM118 # not a mapping
                tensors = {name.partition(".")[2]: file.get_tensor(name) for name in names}
                layer.take(tensors, int(about["tokens"]))

    def _made_by(self) -> str:
        digest = sha256()
        for layer in self._oscar_layers.values():
            layer.identify(digest.update)
        return digest.hexdigest()


def _refuse_latent_attention(config: PretrainedConfig) -> None:
    if getattr(config, "kv_lora_rank", None):
        raise ValueError(
            f"{config.model_type} caches a latent vector (kv_lora_rank={config.kv_lora_rank}) instead of keys and "
            "values, which OSCAR's rotations do not cover: use DynamicCache"
        )


def _reads_codes(config: PretrainedConfig) -> bool:
    return bool(config._attn_implementation == OSCAR_ATTENTION)


def _codecs(rotations: Rotations, recipe: OscarRecipe, layer: int) -> tuple[SideCodec, SideCodec]:
    if layer not in rotations.keys or layer not in rotations.values:
        raise ValueError(f"the rotations cover layers {sorted(rotations.keys)} and the model also attends in {layer}")
    return SideCodec(rotations.keys[layer], recipe.keys), SideCodec(rotations.values[layer], recipe.values)


def _layer_nbytes(layer: Any) -> int:
    if isinstance(layer, OscarLayer):
        return layer.nbytes
    tensors = [part for part in vars(layer).values() if isinstance(part, Tensor)]
    return sum(part.numel() * part.element_size() for part in tensors)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention over what an `OscarLayer` handed out; over plain tensors, that of transformers."""
    for name in ("softcap", "s_aux"):  # transformers' sdpa would leave out the second without a word
        if kwargs.get(name) is not None:
            raise ValueError(
                f"attention over codes does not know {name}, which {type(module).__name__} uses: choose another "
                "attention implementation for this model, as 'eager'"
            )
    if not _readable_as_codes(query, key, value, attention_mask) or kwargs.get("position_bias") is not None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return output, None
    handles: tuple[Any, Any] = key, value
    keys, values = (handle.held for handle in handles)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = attend_held(query, keys, values, scale, handles[0].decode_attention)
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


def _readable_as_codes(query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None) -> bool:
    """Whether one new token a sequence reads all of its sequence; more of them, or other masks, need restored keys."""
    if not isinstance(key, _Handle) or not isinstance(value, _Handle) or query.shape[2] > 1:
        return False
    starts = key.held.starts
    if attention_mask is None or starts is None:
        return attention_mask is None and starts is None
    positions = torch.arange(key.held.tokens, device=attention_mask.device)
    return torch.equal(attention_mask[:, 0, -1], positions >= starts.rows[:, None].to(attention_mask.device))


AttentionInterface.register(OSCAR_ATTENTION, _attention)
AttentionMaskInterface.register(OSCAR_ATTENTION, sdpa_mask)

"""One new token's attention over what a layer holds: by the compiled kernels where they can serve, else in PyTorch.

The compiled kernels read the codes and both windows in one call and one softmax. Their codes lie in tiles of their own,
so how a layer is read is chosen when its store is made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokenomics_local_llm.kernels import (
    Instructions,
    PackedKeys,
    PackedValues,
    Window,
    choose_instructions,
    decode_attention,
    fits_tiles,
)
from tokenomics_local_llm.oscar.attention import DecodeAttention, Part, attend_plain, merge
from tokenomics_local_llm.oscar.codec import SideCodec
from tokenomics_local_llm.oscar.planar import decode_attention_for
from tokenomics_local_llm.oscar.store import CodeStore, Held, PackedStore, TiledCodes, TiledStore

__all__ = ["attend_held", "code_stores"]


def code_stores(
    states: Tensor, codecs: tuple[SideCodec, SideCodec], attention: DecodeAttention | None
) -> tuple[CodeStore, CodeStore]:
    """Empty stores of one layer's keys and values, in the form that will be read.

    Args:
        states: The first tokens, (B, H, T, D), for their shape and device.
        codecs: Of the keys and of the values.
        attention: Reads planar codes; `None` lets the compiled kernels read theirs where they can serve.
    """
    batch, heads, _, channels = states.shape
    if attention is None and _kernels_serve(states.device, *codecs):
        sizes = {"batch": batch, "heads": heads, "head_dim": channels, "group_size": channels // codecs[0].groups}
        return TiledStore(PackedKeys(**sizes)), TiledStore(PackedValues(**sizes))
    keys, values = (PackedStore(batch, heads, channels, codec.groups, states.device) for codec in codecs)
    return keys, values


def _kernels_serve(device: torch.device, keys: SideCodec, values: SideCodec) -> bool:
    return (
        device.type == "cpu"
        and keys.groups == values.groups
        and fits_tiles(keys.head_dim, keys.head_dim // keys.groups)
        and choose_instructions() != Instructions.TORCH
    )


def attend_held(query: Tensor, keys: Held, values: Held, scaling: float, attention: DecodeAttention | None) -> Tensor:
    """What queries (B, Hq, 1, D) read from all tokens held, (B, Hq, 1, D), float32.

    Args:
        query: Of the newest token.
        keys: Keys.
        values: Values of the same tokens.
        scaling: Multiplies the scores.
        attention: Reads codes that are not in the compiled kernels' tiles; `None` takes what the device has.
    """
    match keys.packed, values.packed:
        case TiledCodes(tiles=PackedKeys() as key_tiles), TiledCodes(tiles=PackedValues() as value_tiles):
            return _attend_tiles(query, keys, values, key_tiles, value_tiles, scaling)
    chosen = attention or decode_attention_for(query.device, keys.codec.groups, values.codec.groups)
    return _attend_parts(query, keys, values, scaling, chosen)


def _attend_tiles(
    query: Tensor, keys: Held, values: Held, key_tiles: PackedKeys, value_tiles: PackedValues, scaling: float
) -> Tensor:
    """In one call of the compiled kernels."""
    starts = sink_ends = recent_starts = None
    if keys.starts is not None:
        rows, sink = keys.starts.rows, keys.sink.shape[2]
        starts = rows - keys.starts.earliest
        sink_ends = (keys.tokens - rows).clamp(0, sink)
        recent_starts = (rows + sink - (keys.tokens - keys.recent.shape[2])).clamp_min(0)
    output, _ = decode_attention(
        query,
        key_tiles,
        value_tiles,
        scaling=scaling,
        windows=(
            Window(keys=keys.sink, values=values.sink, ends=sink_ends),
            Window(keys=keys.recent, values=values.recent, starts=recent_starts),
        ),
        starts=starts,
        key_turn=keys.codec.turn,
        value_turn=values.codec.turn,
    )
    return output


def _attend_parts(query: Tensor, keys: Held, values: Held, scaling: float, attention: DecodeAttention) -> Tensor:
    """Windows and codes by themselves, and then merged."""
    sees_sink = sees_recent = first = None
    if keys.starts is not None:
        rows = keys.starts.rows[:, None, None]
        sink = torch.arange(keys.sink.shape[2], device=query.device)
        recent = torch.arange(keys.tokens - keys.recent.shape[2], keys.tokens, device=query.device)
        sees_sink, sees_recent = rows + sink < keys.tokens, recent >= rows + keys.sink.shape[2]
        first = keys.starts.rows - keys.starts.earliest
    parts = [
        attend_plain(query, keys.sink, values.sink, scaling, sees_sink),
        attend_plain(query, keys.recent, values.recent, scaling, sees_recent),
    ]
    if keys.packed.tokens:
        parts.append(_attend_codes(query, keys, values, scaling, attention, first))
    return merge(parts).output


def _attend_codes(
    query: Tensor, keys: Held, values: Held, scaling: float, attention: DecodeAttention, first: Tensor | None
) -> Part:
    turned = keys.codec.turn_query(query)
    part = attention(turned, keys.packed.planar(), values.packed.planar(), scaling, first=first)
    output, lse = values.codec.turn_back(part.output), part.lse
    if values.codec.mean is not None:
        output = output + _per_query_head(values.codec.mean, output.shape[1])[:, None]
    if keys.codec.mean is not None:  # the same for all codes of a head, but not for the windows beside them
        mean = _per_query_head(keys.codec.mean, query.shape[1])
        lse = lse + scaling * (query.float() * mean[:, None]).sum(-1)
    return Part(output=output, lse=lse)


def _per_query_head(mean: Tensor, query_heads: int) -> Tensor:
    return mean.repeat_interleave(query_heads // mean.shape[0], dim=0)

"""What can be done to a cache in transformers: each works, on codes as on restored keys, or refuses with a sentence."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tiny_models import logits, some_tokens, tiny_model
from tokenomics_local_llm.model import cache_argument
from tokenomics_local_llm.oscar import OSCAR_ATTENTION, OscarCache, OscarRecipe, Rotations, calibrate
from tokenomics_local_llm.oscar.cache import OscarLayer

SMALL = OscarRecipe(sink_tokens=4, recent_tokens=8, demotion_tokens=4)
COVERING = OscarRecipe(sink_tokens=4, recent_tokens=200)
IDS = torch.stack([some_tokens(40, seed) for seed in (21, 22, 23)])
PADDED = torch.ones_like(IDS)
PADDED[0, :9] = 0
PADDED[2, :3] = 0


def _write(model: PreTrainedModel, cache: OscarCache | DynamicCache, ids: Tensor, mask: Tensor, **how: Any) -> Tensor:
    generate: Any = model.generate
    options = {"max_new_tokens": 12, "do_sample": False, cache_argument(model): cache} | how
    written: Tensor = generate(ids, attention_mask=mask, **options)
    return written


@pytest.mark.parametrize("mask", [None, PADDED], ids=["whole", "padded"])
def test_windows_that_cover_the_context_give_a_full_cache_s_logits_through_our_attention(
    shared: PreTrainedModel, rotations: Rotations, mask: Tensor | None
) -> None:
    shared.set_attn_implementation("sdpa")
    full = DynamicCache(config=shared.config)
    ours = OscarCache.for_model(shared, rotations, COVERING, attention_mask=mask)
    for first, last in ((0, 38), (38, 39), (39, 40)):
        more = {} if mask is None else {"attention_mask": mask[:, :last]}
        shared.set_attn_implementation("sdpa")
        expected = logits(shared, IDS[:, first:last], full, **more)
        shared.set_attn_implementation(OSCAR_ATTENTION)
        found = logits(shared, IDS[:, first:last], ours, **more)
        torch.testing.assert_close(found[:, -1:], expected[:, -1:], atol=1e-4, rtol=1e-4)


MODEL = tiny_model("qwen3")
CUTS = st.lists(st.integers(1, 60), max_size=6, unique=True).map(sorted)


@cache  # no fixture, which hypothesis would write out in full
def fitted() -> Rotations:
    return calibrate(MODEL, [some_tokens(120, seed) for seed in range(3)], sink_tokens=4)


@settings(max_examples=40, deadline=None)
@given(cuts=CUTS, starts=st.lists(st.integers(0, 30), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_stored_codes_do_not_depend_on_how_a_prompt_was_cut_nor_on_its_padding(
    cuts: list[int], starts: list[int], seed: int
) -> None:
    keys, values = (torch.randn(3, 2, 61, 16, generator=torch.Generator().manual_seed(seed + i)) for i in (0, 100))
    mask = (torch.arange(61) >= torch.tensor(starts)[:, None]).long()
    found = []
    for bounds in ([0, 61], [0, *cuts, 61]):
        layer = OscarCache.for_model(MODEL, fitted(), SMALL, attention_mask=mask).layers[1]
        assert isinstance(layer, OscarLayer)
        for first, last in pairwise(bounds):
            layer.update(keys[:, :, first:last], values[:, :, first:last])
        found.append(layer.held)

    for one, other in zip(*found, strict=True):
        assert one.packed.tokens == other.packed.tokens
        for name in ("codes", "scale", "minimum"):
            assert torch.equal(getattr(one.packed.planar(), name), getattr(other.packed.planar(), name))
        assert torch.equal(one.sink, other.sink)
        assert torch.equal(one.recent, other.recent)


@pytest.mark.parametrize("mask", [torch.ones_like(IDS), PADDED], ids=["whole", "padded"])
@pytest.mark.parametrize(
    "how", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}], ids=["beams", "several-beams-returned"]
)
def test_beams_over_codes_write_what_beams_over_restored_keys_do(
    shared: PreTrainedModel, rotations: Rotations, mask: Tensor, how: dict[str, Any]
) -> None:
    written = []
    for attention in ("sdpa", OSCAR_ATTENTION):
        shared.set_attn_implementation(attention)
        cache = OscarCache.for_model(shared, rotations, SMALL, attention_mask=mask)
        written.append(_write(shared, cache, IDS, mask, **how))

    assert torch.equal(*written)


@pytest.mark.parametrize("attention", ["sdpa", OSCAR_ATTENTION])
def test_a_draft_model_changes_nothing_that_is_written(
    shared: PreTrainedModel, rotations: Rotations, attention: str
) -> None:
    shared.set_attn_implementation(attention)
    mask = torch.ones_like(IDS[:1])

    def write(**how: Any) -> Tensor:
        return _write(shared, OscarCache.for_model(shared, rotations, COVERING), IDS[:1], mask, **how)

    assert torch.equal(write(assistant_model=tiny_model("llama")), write())


def test_sampled_sequences_of_a_prompt_each_get_a_row(shared: PreTrainedModel, rotations: Rotations) -> None:
    shared.set_attn_implementation(OSCAR_ATTENTION)
    cache = OscarCache.for_model(shared, rotations, SMALL, attention_mask=PADDED)

    _write(shared, cache, IDS, PADDED, do_sample=True, num_return_sequences=2)

    layer = cache.layers[0]
    assert isinstance(layer, OscarLayer)
    assert [held.shape[0] for held in layer.held] == [6, 6]


def test_a_prompt_read_in_chunks_by_generate_is_written_on_alike(shared: PreTrainedModel, rotations: Rotations) -> None:
    shared.set_attn_implementation("sdpa")
    mask = torch.ones_like(IDS)

    def write(**how: Any) -> Tensor:
        return _write(shared, OscarCache.for_model(shared, rotations, COVERING), IDS, mask, **how)

    assert torch.equal(write(prefill_chunk_size=16), write())


def test_offloading_is_refused(shared: PreTrainedModel, rotations: Rotations) -> None:
    cache = OscarCache.for_model(shared, rotations, SMALL)
    logits(shared, IDS, cache)
    layer = cache.layers[0]
    assert isinstance(layer, OscarLayer)

    with pytest.raises(NotImplementedError, match="is not offloaded"):
        layer.offload()


def test_a_mask_of_another_batch_is_refused(shared: PreTrainedModel, rotations: Rotations) -> None:
    with pytest.raises(ValueError, match="mask has 3 rows and the batch 2 sequences"):
        logits(shared, IDS[:2], OscarCache.for_model(shared, rotations, SMALL, attention_mask=PADDED))

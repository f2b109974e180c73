from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    Cache,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    DynamicCache,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    PreTrainedModel,
)

from tiny_models import logits, some_tokens
from tokenomics_local_llm.model import cache_argument
from tokenomics_local_llm.oscar import OSCAR_ATTENTION, OscarCache, OscarRecipe, QuantizerRecipe, Rotations
from tokenomics_local_llm.oscar.attention import DecodeAttention, attend_packed
from tokenomics_local_llm.oscar.cache import OscarLayer

SMALL = OscarRecipe(sink_tokens=4, recent_tokens=8, demotion_tokens=4)
COVERING = OscarRecipe(sink_tokens=4, recent_tokens=200)
IDS = torch.stack([some_tokens(40, seed) for seed in (11, 12, 13)])
PADDED = torch.ones_like(IDS)
PADDED[0, :9] = 0
PADDED[2, :3] = 0

MakeCache = Callable[..., OscarCache]
ATTENTIONS = ["sdpa", "eager", OSCAR_ATTENTION]


@pytest.fixture(params=ATTENTIONS)
def attention(request: pytest.FixtureRequest, shared: PreTrainedModel) -> str:
    shared.set_attn_implementation(request.param)
    return str(request.param)


@pytest.fixture
def make(shared: PreTrainedModel, rotations: Rotations) -> MakeCache:
    def made(recipe: OscarRecipe = SMALL, **more: Any) -> OscarCache:
        return OscarCache.for_model(shared, rotations, recipe, **more)

    return made


def _layer(cache: OscarCache, index: int) -> OscarLayer:
    layer = cache.layers[index]
    assert isinstance(layer, OscarLayer)
    return layer


def _generate(
    model: PreTrainedModel, cache: Cache, ids: Tensor = IDS, mask: Tensor | None = None, **more: Any
) -> Tensor:
    argument = "cache" if cache_argument(model) == "cache" else "past_key_values"
    generate: Any = model.generate
    written: Tensor = generate(
        ids,
        attention_mask=torch.ones_like(ids) if mask is None else mask,
        max_new_tokens=20,
        do_sample=False,
        **{argument: cache},
        **more,
    )
    return written


@pytest.mark.parametrize("mask", [None, PADDED], ids=["whole", "padded"])
@pytest.mark.parametrize("how", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_windows_that_cover_the_context_write_what_a_full_cache_does(
    shared: PreTrainedModel, attention: str, make: MakeCache, mask: Tensor | None, how: dict[str, Any]
) -> None:
    shared.set_attn_implementation("sdpa")
    expected = _generate(shared, DynamicCache(config=shared.config), mask=mask, **how)
    shared.set_attn_implementation(attention)
    assert torch.equal(_generate(shared, make(COVERING, attention_mask=mask), mask=mask, **how), expected)


@pytest.mark.parametrize("attention", ["sdpa", "eager"], indirect=True)
def test_windows_that_cover_the_context_give_the_very_logits_of_a_full_cache(
    shared: PreTrainedModel, attention: str, make: MakeCache
) -> None:
    ours, full = make(COVERING), DynamicCache(config=shared.config)
    for part in (IDS[:, :25], IDS[:, 25:39], IDS[:, 39:]):
        assert torch.equal(logits(shared, part, ours), logits(shared, part, full))


@pytest.mark.parametrize("mask", [None, PADDED], ids=["whole", "padded"])
def test_attention_over_codes_writes_what_restored_keys_do(
    shared: PreTrainedModel, make: MakeCache, mask: Tensor | None
) -> None:
    written, caches = [], []
    for name in ATTENTIONS:
        shared.set_attn_implementation(name)
        caches.append(make(attention_mask=mask))
        written.append(_generate(shared, caches[-1], mask=mask))
    assert torch.equal(written[0], written[1])
    assert torch.equal(written[0], written[2])
    shared.set_attn_implementation("sdpa")
    assert not torch.equal(written[0], _generate(shared, DynamicCache(config=shared.config), mask=mask))


def test_attention_over_codes_restores_nothing(
    shared: PreTrainedModel, make: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.set_attn_implementation(OSCAR_ATTENTION)
    cache = make()
    logits(shared, IDS, cache)
    for held in (*_layer(cache, 0).held, *_layer(cache, 1).held):
        monkeypatch.setattr(held.codec, "decode", None)
    assert logits(shared, IDS[:, :1], cache).isfinite().all()


def test_a_prompt_is_read_exactly(shared: PreTrainedModel, attention: str, make: MakeCache) -> None:
    expected = logits(shared, IDS, DynamicCache(config=shared.config))
    assert torch.equal(logits(shared, IDS, make()), expected)


@pytest.mark.parametrize("cuts", [[40], [1] * 40, [3, 20, 17], [39, 1]], ids=["whole", "single", "chunks", "last"])
def test_codes_do_not_depend_on_how_a_prompt_was_cut(make: MakeCache, cuts: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(2, 2, 40, 16, generator=generator) for _ in range(2))
    whole, cut = _layer(make(), 1), _layer(make(), 1)
    whole.update(keys, values)
    for key_part, value_part in zip(torch.split(keys, cuts, dim=2), torch.split(values, cuts, dim=2), strict=True):
        cut.update(key_part, value_part)
    for one, other in zip(whole.held, cut.held, strict=True):
        assert one.packed.tokens == 28
        for name in ("codes", "scale", "minimum"):
            assert torch.equal(getattr(one.packed.planar(), name), getattr(other.packed.planar(), name))
        assert torch.equal(one.sink, other.sink)
        assert torch.equal(one.recent, other.recent)


def test_sequences_of_a_batch_do_not_touch_each_other(shared: PreTrainedModel, make: MakeCache) -> None:
    shared.set_attn_implementation("sdpa")
    together = make(attention_mask=PADDED)
    both = logits(shared, IDS, together, attention_mask=PADDED)
    alone = make()
    single = logits(shared, IDS[:1, 9:], alone)
    torch.testing.assert_close(both[:1, 9:], single, atol=1e-4, rtol=1e-4)
    values = [_layer(cache, 0).held[1].sink[:1] for cache in (together, alone)]
    torch.testing.assert_close(*values)


def test_a_padded_sequence_keeps_the_sink_at_its_own_beginning(make: MakeCache) -> None:
    layer = _layer(make(attention_mask=PADDED), 0)
    keys = torch.arange(40.0).view(1, 1, 40, 1).expand(3, 2, 40, 16).contiguous()
    for part in torch.split(keys, [5, 20, 15], dim=2):
        layer.update(part, part)
    held = layer.held[0]
    assert held.sink[:, 0, :, 0].tolist() == [[9, 10, 11, 12], [0, 1, 2, 3], [3, 4, 5, 6]]
    restored = held.restore()
    assert torch.equal(restored[0, 0, 9:13, 0], torch.arange(9.0, 13))
    assert torch.equal(restored[:, :, -8:], keys[:, :, -8:])


@pytest.mark.parametrize("mask", [[[1, 1, 0]], [[0, 1, 0]], [[0, 0, 0]]], ids=["right", "holes", "nothing"])
def test_masks_of_other_kinds_than_left_padding_are_refused(make: MakeCache, mask: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="pad on the left"):
        make(attention_mask=torch.tensor(mask))


def test_padding_that_was_not_announced_is_masked_all_the_same(
    shared: PreTrainedModel, attention: str, make: MakeCache
) -> None:
    written = _generate(shared, make(OscarRecipe(sink_tokens=0, recent_tokens=200)), mask=PADDED)
    shared.set_attn_implementation("sdpa")
    assert torch.equal(written, _generate(shared, DynamicCache(config=shared.config), mask=PADDED))


def test_assisted_decoding_works(shared: PreTrainedModel, attention: str, make: MakeCache) -> None:
    plain = _generate(shared, make(COVERING), IDS[:1])
    assisted = _generate(shared, make(COVERING), IDS[:1], prompt_lookup_num_tokens=3)
    assert torch.equal(assisted, plain)
    assert _generate(shared, make(), IDS[:1], prompt_lookup_num_tokens=3).shape == plain.shape


@pytest.mark.parametrize("removed", [0, 3, 8, 15, 30, 38])
def test_a_cropped_cache_holds_what_came_first(shared: PreTrainedModel, make: MakeCache, removed: int) -> None:
    cache = make()
    logits(shared, IDS, cache)
    before = [held.restore() for held in _layer(cache, 1).held]
    cache.crop(-removed)
    assert cache.get_seq_length() == 40 - removed
    for held, whole in zip(_layer(cache, 1).held, before, strict=True):
        assert held.packed.tokens % SMALL.demotion_tokens == 0
        torch.testing.assert_close(held.restore(), whole[:, :, : 40 - removed])
    logits(shared, IDS[:, 40 - removed :], cache) if removed else None
    assert cache.get_seq_length() == 40
    assert [held.shape for held in _layer(cache, 1).held] == [(3, 2, 40, 16)] * 2


@pytest.mark.parametrize("mask", [None, PADDED], ids=["whole", "padded"])
def test_sequences_are_reordered_repeated_and_selected(
    shared: PreTrainedModel, make: MakeCache, mask: Tensor | None
) -> None:
    cache = make(attention_mask=mask)
    logits(shared, IDS, cache, **({} if mask is None else {"attention_mask": mask}))
    rows = _layer(cache, 0).held[0].restore()
    cache.reorder_cache(torch.tensor([2, 0, 1]))  # type: ignore[arg-type] # any integers
    assert torch.equal(_layer(cache, 0).held[0].restore(), rows[[2, 0, 1]])
    cache.batch_repeat_interleave(2)
    assert torch.equal(_layer(cache, 0).held[0].restore(), rows[[2, 2, 0, 0, 1, 1]])
    cache.batch_select_indices(torch.tensor([1, 4]))
    assert torch.equal(_layer(cache, 0).held[0].restore(), rows[[2, 1]])


def test_a_reset_cache_is_empty(shared: PreTrainedModel, make: MakeCache) -> None:
    cache = make()
    first = logits(shared, IDS, cache)
    cache.reset()  # type: ignore[no-untyped-call]
    assert (cache.get_seq_length(), cache.nbytes(), cache.bits_per_element()) == (0, 0, None)
    assert torch.equal(logits(shared, IDS, cache), first)


@pytest.mark.parametrize(
    ("attention", "codes"),
    [
        (attend_packed, 28 * (16 // 4 + 2 + 2)),
        (None, 128 * (16 // 4 + 2 + 2 + 64 // 4 + 2 + 2) / 2),  # whole tiles, whose values have room for 64 channels
    ],
    ids=["planar", "tiled"],
)
def test_bytes_are_those_of_codes_scales_and_windows(
    shared: PreTrainedModel, make: MakeCache, attention: DecodeAttention | None, codes: int
) -> None:
    cache = make(decode_attention=attention)
    logits(shared, IDS, cache)
    rows = 2 * 2 * 3 * 2  # layers, sides, sequences, heads
    windows = (4 + 8 + 4) * 16 * 4  # sink, recent, and room for those who will be demoted next; float32
    assert cache.nbytes() == rows * (windows + codes)
    assert cache.bits_per_element() == pytest.approx(8 * (windows + codes) / (40 * 16))


def test_a_saved_cache_goes_on_in_another(shared: PreTrainedModel, make: MakeCache, tmp_path: Path) -> None:
    shared.set_attn_implementation("sdpa")
    one, other = make(), make()
    logits(shared, IDS, one)
    one.save(tmp_path / "prefix.safetensors")
    other.load(tmp_path / "prefix.safetensors")
    assert other.get_seq_length() == 40
    for part in (IDS[:, :10], IDS[:, 10:11]):
        assert torch.equal(logits(shared, part, one), logits(shared, part, other))


def test_caches_of_other_recipes_or_with_tokens_are_not_loaded(
    shared: PreTrainedModel, make: MakeCache, tmp_path: Path
) -> None:
    path = tmp_path / "prefix.safetensors"
    cache = make()
    with pytest.raises(ValueError, match="has 0 tokens"):
        cache.save(path)
    logits(shared, IDS, cache)
    cache.save(path)
    for wrong in (make(COVERING), cache):
        with pytest.raises(ValueError, match="same rotations and recipe"):
            wrong.load(path)


def test_layers_with_a_sliding_window_keep_their_own_cache() -> None:
    config = Gemma3TextConfig(
        vocab_size=97, hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, sliding_window=16, pad_token_id=0, eos_token_id=None, bos_token_id=None,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )  # fmt: skip
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(config)
    model.train(False)
    rotations = Rotations.plain(3, 16)
    cache = OscarCache.for_model(model, rotations, OscarRecipe.as_published())
    assert [type(layer).__name__ for layer in cache.layers] == [
        "DynamicSlidingWindowLayer",
        "OscarLayer",
        "DynamicSlidingWindowLayer",
    ]
    for name in ATTENTIONS:
        model.set_attn_implementation(name)
        written = _generate(model, OscarCache.for_model(model, rotations, OscarRecipe.as_published()))
        assert torch.equal(written, _generate(model, DynamicCache(config=config)))
    with pytest.raises(ValueError, match="2 other layers"):
        cache.save(Path("nowhere"))


def test_latent_attention_is_refused() -> None:
    config = DeepseekV3Config(num_hidden_layers=1, hidden_size=32, num_attention_heads=2, kv_lora_rank=8)
    with torch.device("meta"):
        model = DeepseekV3ForCausalLM(config)
    with pytest.raises(ValueError, match="kv_lora_rank=8"):
        OscarCache.for_model(model, Rotations.plain(1, 16))


def test_rotations_of_another_model_are_refused(shared: PreTrainedModel) -> None:
    recipe = OscarRecipe.as_published()
    with pytest.raises(ValueError, match=r"cover layers \[0\] and the model also attends in 1"):
        OscarCache.for_model(shared, Rotations.plain(1, 16), recipe)
    with pytest.raises(ValueError, match=r"1 heads of 32 channels, the model has 2 of 16"):
        logits(shared, IDS, OscarCache.for_model(shared, Rotations.plain(2, 32), recipe))


def test_rounding_in_a_metric_that_is_not_there_is_refused(shared: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="set damping=None"):
        OscarCache.for_model(shared, Rotations.plain(2, 16), OscarRecipe(keys=QuantizerRecipe(damping=0.1)))

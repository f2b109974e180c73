from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import StaticCache

from tokenomics_local_llm import GenerationOptions, LocalModel, generate, kv_caches, stream
from tokenomics_local_llm.kv_cache import HeldCache
from tokenomics_local_llm.oscar import OSCAR_ATTENTION, save_rotations
from tokenomics_local_llm.rotations import ROTATIONS_FILE, calibrate_on

PROMPT = "Once upon a time there was a cache. " * 30


@pytest.fixture(scope="module")
def model(make_model: Callable[..., LocalModel], tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """With rotations beside it."""
    folder = tmp_path_factory.mktemp("model")
    made = make_model()
    made.name = str(folder)
    text = folder / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog, and again. " * 60, encoding="utf-8")
    save_rotations(calibrate_on(made, [text]), folder / ROTATIONS_FILE)
    return made


def test_text_says_what_its_cache_held(model: LocalModel) -> None:
    full, codes = (
        generate(model, PROMPT, GenerationOptions(max_tokens=20), cache_factory=kv_caches(model, kind)).kv_cache
        for kind in ("full", "oscar")
    )

    assert full
    assert codes
    tokens = len(model.encode(PROMPT)) + 19  # the last is not read again
    assert full == HeldCache(kind="full", bits_per_element=32, nbytes=tokens * 2 * 2 * 2 * 8 * 4)
    assert codes.kind == "oscar"
    assert codes.nbytes < full.nbytes  # by little: the tiles of such small heads are mostly padding
    assert codes.bits_per_element == codes.nbytes * 8 / (full.nbytes / 4)


def test_only_the_last_delta_says_it(model: LocalModel) -> None:
    *before, last = stream(model, "Once", GenerationOptions(max_tokens=4))

    assert [delta.kv_cache for delta in before] == [None] * 3
    assert last.kv_cache is not None


def test_cache_of_another_kind_is_called_by_its_name(tiny: LocalModel) -> None:
    delta = generate(
        tiny,
        "Once",
        GenerationOptions(max_tokens=4),
        cache_factory=lambda config: StaticCache(config=config, max_cache_len=64),
    )

    assert delta.kv_cache
    assert delta.kv_cache.kind == "StaticCache"


def test_model_attends_to_codes_for_their_texts_only(model: LocalModel) -> None:
    used = []
    hook = model.model.register_forward_pre_hook(lambda *_: used.append(model.model.config._attn_implementation))
    deltas = [
        stream(model, PROMPT, GenerationOptions(max_tokens=3), cache_factory=kv_caches(model, kind))
        for kind in ("oscar", "full")
    ]

    for _ in zip(*deltas, strict=True):
        assert model.model.config._attn_implementation == "sdpa"
    hook.remove()

    assert used == [OSCAR_ATTENTION, "sdpa"] * 3


def test_unknown_kind_is_refused(tiny: LocalModel) -> None:
    kind: Any = "3-bit"

    with pytest.raises(ValueError, match="kv_cache must be one of full, oscar, got '3-bit'"):
        kv_caches(tiny, kind)


def test_calibration_of_a_full_cache_is_refused(tiny: LocalModel) -> None:
    with pytest.raises(ValueError, match=r"needs no calibration, got text\.txt"):
        kv_caches(tiny, calibration=Path("text.txt"))

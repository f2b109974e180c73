from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Cache, DynamicCache, PretrainedConfig, StaticCache

from tokenomics_local_llm import GenerationOptions, LocalModel, PromptTooLongError, generate, stream

PROMPT = "Once upon a time"


class Recorder:
    """A cache factory that keeps the caches it made."""

    def __init__(self) -> None:
        self.caches: list[Cache] = []

    def __call__(self, config: PretrainedConfig) -> Cache:
        self.caches.append(DynamicCache(config=config))
        return self.caches[-1]

    @property
    def length(self) -> int:
        return self.caches[-1].get_seq_length()


# In single precision: bfloat16's steps are computed otherwise than transformers', and near ties may go either way.
@pytest.mark.parametrize("model", ["tiny", "single_precision"])
def test_greedy_text_is_that_of_transformers(model: str, request: pytest.FixtureRequest) -> None:
    llm: LocalModel = request.getfixturevalue(model)
    prompt = torch.tensor([llm.encode(PROMPT)])

    model_itself: Any = llm.model
    theirs = model_itself.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=30, do_sample=False)
    ours = generate(llm, PROMPT, GenerationOptions(max_tokens=30))

    assert ours.text == llm.decode(theirs[0, prompt.shape[1] :].tolist())
    assert ours.prompt_tokens == prompt.shape[1]
    assert ours.completion_tokens == theirs.shape[1] - prompt.shape[1]


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_a_stream_are_the_text_of_generate(tiny: LocalModel, seed: int) -> None:
    options = GenerationOptions(max_tokens=200, temperature=1.2, top_p=0.9, seed=seed, stop=("qu", "é"))

    deltas = list(stream(tiny, PROMPT, options))
    whole = generate(tiny, PROMPT, options)

    assert "".join(delta.text for delta in deltas) == whole.text
    assert deltas[-1].completion_tokens == whole.completion_tokens
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == whole.finish_reason


def test_text_of_max_tokens_ends_for_its_length(tiny: LocalModel) -> None:
    delta = generate(tiny, PROMPT, GenerationOptions(max_tokens=7))

    assert (delta.completion_tokens, delta.finish_reason) == (7, "length")


def test_text_ends_with_the_models_own_ending(make_model: Callable[..., LocalModel]) -> None:
    llm = make_model(seed=1)

    delta = generate(llm, PROMPT, GenerationOptions(max_tokens=3000, temperature=1000, seed=0))

    assert delta.finish_reason == "stop"
    assert "<|im_end|>" not in delta.text
    assert delta.completion_tokens < 3000


@settings(deadline=None, max_examples=25)  # two texts each
@given(data=st.data())
def test_text_ends_before_a_stop_sequence(tiny: LocalModel, data: st.DataObject) -> None:
    options: dict[str, Any] = {"max_tokens": 40, "temperature": 1.0, "seed": 3}
    text = generate(tiny, PROMPT, GenerationOptions(**options)).text
    start = data.draw(st.integers(0, len(text) - 1))
    stop = text[start : start + data.draw(st.integers(1, 6))]

    stopped = generate(tiny, PROMPT, GenerationOptions(**options, stop=(stop,)))

    assert stopped.text == text[: text.index(stop)]
    assert stopped.finish_reason == "stop"


def test_nothing_is_generated_after_a_stop_sequence(smollm2: LocalModel) -> None:
    text = generate(smollm2, PROMPT, GenerationOptions(max_tokens=12)).text
    recorder = Recorder()

    generate(smollm2, PROMPT, GenerationOptions(max_tokens=12, stop=(text[:5],)), cache_factory=recorder)

    assert recorder.length < len(smollm2.encode(PROMPT)) + 5


def test_text_is_computed_as_it_is_asked_for(tiny: LocalModel) -> None:
    recorder = Recorder()
    deltas = stream(tiny, PROMPT, GenerationOptions(max_tokens=50), cache_factory=recorder)
    prompt_tokens = len(tiny.encode(PROMPT))

    lengths = []
    for _ in range(3):
        next(deltas)
        lengths.append(recorder.length)

    assert lengths == [prompt_tokens, prompt_tokens + 1, prompt_tokens + 2]


def test_closed_stream_does_no_more_work(tiny: LocalModel) -> None:
    recorder = Recorder()
    deltas = stream(tiny, PROMPT, GenerationOptions(max_tokens=50), cache_factory=recorder)
    next(deltas)

    deltas.close()

    assert recorder.length == len(tiny.encode(PROMPT))
    assert list(deltas) == []


def test_another_kind_of_cache_gives_the_same_text(tiny: LocalModel) -> None:
    options = GenerationOptions(max_tokens=30)

    static = generate(tiny, PROMPT, options, cache_factory=lambda config: StaticCache(config, max_cache_len=64))

    assert replace(static, kv_cache=None) == replace(generate(tiny, PROMPT, options), kv_cache=None)


def test_prompt_that_fills_the_context_is_refused(make_model: Callable[..., LocalModel]) -> None:
    llm = make_model(context=16)

    with pytest.raises(PromptTooLongError, match=r"the prompt has \d+ tokens and tiny reads at most 16"):
        stream(llm, "word " * 16, GenerationOptions())


def test_answer_ends_where_the_context_does(make_model: Callable[..., LocalModel]) -> None:
    llm = make_model(context=32)

    delta = generate(llm, PROMPT, GenerationOptions(temperature=1, seed=0))

    assert delta.finish_reason == "length"
    assert delta.prompt_tokens + delta.completion_tokens == 32


def test_streams_in_one_thread_do_not_disturb_each_other(tiny: LocalModel) -> None:
    options = [GenerationOptions(max_tokens=20, temperature=1, seed=seed) for seed in range(2)]
    alone = [generate(tiny, PROMPT, option).text for option in options]

    pairs = list(zip(*(stream(tiny, PROMPT, option) for option in options), strict=True))

    assert ["".join(delta.text for delta in deltas) for deltas in zip(*pairs, strict=True)] == alone


def test_threads_do_not_disturb_each_other(tiny: LocalModel) -> None:
    options = [GenerationOptions(max_tokens=30, temperature=1, seed=seed) for seed in range(8)]
    alone = [generate(tiny, PROMPT, option) for option in options]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda option: generate(tiny, PROMPT, option), options))

    assert together == alone


def test_gradients_may_be_on_around_a_stream_and_stay_so(tiny: LocalModel) -> None:
    deltas = stream(tiny, PROMPT, GenerationOptions(max_tokens=5))
    next(deltas)

    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"stop": ("a", "")}, "must not be empty"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"top_p": 2.0}, "top_p must be above 0"),
    ],
    ids=str,
)
def test_impossible_options_are_refused_before_any_work(tiny: LocalModel, options: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        stream(tiny, PROMPT, GenerationOptions(**options))

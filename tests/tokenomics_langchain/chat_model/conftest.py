"""A tiny model with random weights in a folder: it writes anything at all, so what it does is all our doing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tokenomics_langchain import ChatLocalLLM

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # for models this small, threads that wait for each other are the slowest part


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model and its tokenizer, of which a token is a byte."""
    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = ["<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bpe = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(vocabulary[:2])
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe, eos_token="<|im_end|>", chat_template=CHATML
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        eos_token_id=1,
        initializer_range=0.3,  # wide enough that what is written depends on what was read
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is calibrated here is kept for these tests and not for the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENOMICS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def kv_cache() -> str:
    """The key-value cache of `make_tiny`; a test that wants another parametrizes it."""
    return "full"


@pytest.fixture
def make_tiny(tiny_folder: Path, kv_cache: str) -> Callable[..., ChatLocalLLM]:
    """Makes a chat model on those weights."""

    def make(**settings: Any) -> ChatLocalLLM:
        defaults: dict[str, Any] = {
            "model": str(tiny_folder), "dtype": "float32", "max_tokens": 40, "seed": 0, "kv_cache": kv_cache,
        }  # fmt: skip
        return ChatLocalLLM(**defaults | settings)

    return make

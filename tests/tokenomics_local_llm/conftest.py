"""A tiny model with random weights, which writes anything at all, and the real SmolLM2."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tokenomics_local_llm import LocalModel, load_model

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # for models this small, threads that wait for each other are the slowest part


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes and a few merges, so that one character may take four tokens and one token span several."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(['<tool_call> {"name": "add", "arguments": {"a": 1}} </tool_call> the end'] * 9, trainer)
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe, eos_token="<|im_end|>", chat_template=CHATML
    )
    return made


@pytest.fixture(scope="session")
def make_model(tokenizer: PreTrainedTokenizerFast) -> Callable[..., LocalModel]:
    """Makes a model with random weights; the same seed makes the same model."""

    def make(*, seed: int = 0, context: int = 4096) -> LocalModel:
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            eos_token_id=tokenizer.eos_token_id,
            initializer_range=0.3,  # wide enough that what is written depends on what was read
        )
        torch.manual_seed(seed)
        return LocalModel("tiny", LlamaForCausalLM(config), tokenizer)

    return make


@pytest.fixture(scope="session")
def tiny(make_model: Callable[..., LocalModel]) -> LocalModel:
    """One of them, for all tests that do not care which."""
    return make_model()


@pytest.fixture(scope="session")
def smollm2() -> LocalModel:
    """SmolLM2-135M-Instruct from the wheel."""
    return load_model()


@pytest.fixture(scope="session")
def single_precision() -> LocalModel:
    """The same, computed in float32 on every machine."""
    return load_model(dtype="float32")

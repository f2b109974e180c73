"""Decode steps by llama.cpp, for `runtimes.py`: one sequence, weights in float16, flash attention."""

from __future__ import annotations

import ctypes
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import gguf
import llama_cpp
import torch
from torch import Tensor
from transformers import PreTrainedModel

from kv_speed.qwen import HEAD_DIM, VOCABULARY, random_qwen
from kv_speed.runtime_steps import CHECKED_TOKENS, Sizes, expected_logits, random_ids, serve, sizes

FORMATS: Final = {"f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0,
                  "q4_0": gguf.GGMLQuantizationType.Q4_0}  # fmt: skip
STEPS: Final = 256  # more than are measured
CHUNK: Final = 512
NAMES: Final = {  # of a layer's tensors: transformers' and GGUF's
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def main(asked: Sizes) -> None:
    llama_cpp.llama_backend_init()
    model = random_qwen(torch.float32)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        _write(model, path)
        context = _context(path, asked)
    checked = random_ids(1, CHECKED_TOKENS)
    _decode(context, checked[0])
    logits_off = (_logits(context) - expected_logits(model, checked)[0]).abs().max().item()
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    for chunk in torch.split(random_ids(1, asked.context)[0], CHUNK):
        _decode(context, chunk)
    held = llama_cpp.llama_state_seq_get_size(context, 0)
    token = random_ids(1, 1)[0]
    serve(lambda: _decode(context, token), logits_off=logits_off, held=held)


def _context(path: Path, asked: Sizes) -> Any:
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), _model_parameters())
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = asked.context + STEPS
    parameters.n_batch = parameters.n_ubatch = CHUNK
    parameters.n_threads = parameters.n_threads_batch = asked.threads
    parameters.type_k = parameters.type_v = FORMATS[asked.kept_as]
    parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    return llama_cpp.llama_init_from_model(model, parameters)


def _model_parameters() -> Any:
    parameters = llama_cpp.llama_model_default_params()
    parameters.use_mmap = False  # the file does not outlive the loading
    return parameters


def _decode(context: Any, tokens: Tensor) -> None:
    ids = (llama_cpp.llama_token * len(tokens))(*tokens.tolist())
    status = llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(ids, len(tokens)))
    if status:
        raise RuntimeError(f"llama_decode of {len(tokens)} tokens gave status {status}")


def _logits(context: Any) -> Tensor:
    """Of the last token that was decoded."""
    row = llama_cpp.llama_get_logits_ith(context, -1)
    held = (ctypes.c_float * VOCABULARY).from_address(ctypes.addressof(row.contents))
    return torch.frombuffer(held, dtype=torch.float32).clone()


def _write(model: PreTrainedModel, path: Path) -> None:
    """The model as GGUF, without a vocabulary."""
    config = model.config
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    for name, tensor in model.state_dict().items():
        # Vectors, which are norms, are read in single precision only.
        writer.add_tensor(_gguf_name(name), tensor.to(torch.float16 if tensor.dim() > 1 else torch.float32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in whole:
        return whole[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", maxsplit=3)
    return f"blk.{layer}.{NAMES[part]}.weight"


if __name__ == "__main__":
    main(sizes())

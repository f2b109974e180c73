"""Decode steps by OpenVINO, for `runtimes.py`: a stateful model whose attention its CPU plugin fuses with the cache."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import openvino as ov
import torch
from openvino import opset13
from openvino._offline_transformations import apply_make_stateful_transformation
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from kv_speed.qwen import HEAD_DIM, HEADS, LAYERS, QUERY_HEADS, random_qwen
from kv_speed.runtime_steps import CHECKED_TOKENS, Sizes, expected_logits, random_ids, serve, sizes

CHUNK: Final = 512
STATES: Final = 2 * LAYERS
FREE: Final = -1  # a size that each call chooses


def main(asked: Sizes) -> None:
    model = random_qwen(torch.float32)
    request = _request(_stateful(model), asked)

    def call(ids: Tensor, position: int) -> Tensor:
        logits = request.infer(_inputs(model, ids, position))["logits"]
        return torch.from_numpy(logits[:, -1])

    checked = random_ids(asked.batch, CHECKED_TOKENS)
    for position in range(CHECKED_TOKENS):
        logits = call(checked[:, position : position + 1], position)
    logits_off = (logits - expected_logits(model, checked)).abs().max().item()
    request.reset_state()
    for position in range(0, asked.context, CHUNK):
        call(random_ids(asked.batch, min(CHUNK, asked.context - position)), position)
    inputs = _inputs(model, random_ids(asked.batch, 1), asked.context)
    serve(lambda: request.infer(inputs), logits_off=logits_off, held=None)


class Forward(nn.Module):
    """The model over cached keys and values, without a mask: it steps by one token, and what fills it may see ahead."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, cos: Tensor, sin: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Logits of the last token, then keys and values of each layer with the new ones."""
        inner: Any = self.model.model
        hidden = inner.embed_tokens(ids)
        present: list[Tensor] = []
        for index, layer in enumerate(inner.layers):
            attention, states = layer.self_attn, layer.input_layernorm(hidden)
            query = _rotated(attention.q_norm(_heads(attention.q_proj(states), QUERY_HEADS)), cos, sin)
            key = _rotated(attention.k_norm(_heads(attention.k_proj(states), HEADS)), cos, sin)
            keys = torch.cat((past[2 * index], key.transpose(1, 2)), 2)
            values = torch.cat((past[2 * index + 1], _heads(attention.v_proj(states), HEADS).transpose(1, 2)), 2)
            present += [keys, values]
            read = functional.scaled_dot_product_attention(query.transpose(1, 2), _repeated(keys), _repeated(values))
            hidden = hidden + attention.o_proj(read.transpose(1, 2).flatten(2))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.model.lm_head(inner.norm(hidden[:, -1:])), *present


def _heads(states: Tensor, heads: int) -> Tensor:
    return states.view(states.shape[0], -1, heads, HEAD_DIM)


def _rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = states[..., : HEAD_DIM // 2], states[..., HEAD_DIM // 2 :]
    return states * cos[:, :, None] + torch.cat((-second, first), -1) * sin[:, :, None]


def _repeated(states: Tensor) -> Tensor:
    """For each query head; the plugin reads it as grouped attention."""
    batch, _, tokens, _ = states.shape
    wide = states[:, :, None].expand(batch, HEADS, QUERY_HEADS // HEADS, tokens, HEAD_DIM)
    return wide.reshape(batch, QUERY_HEADS, tokens, HEAD_DIM)


def _inputs(model: PreTrainedModel, ids: Tensor, position: int) -> dict[str, np.ndarray[Any, Any]]:
    inner: Any = model.model
    positions = torch.arange(position, position + ids.shape[1]).expand(len(ids), -1)
    cos, sin = inner.rotary_emb(torch.zeros(1), positions)
    rows = np.arange(len(ids), dtype=np.int32)
    return {"ids": ids.numpy(), "cos": cos.numpy(), "sin": sin.numpy(), "beam_idx": rows}


@torch.no_grad()
def _stateful(model: PreTrainedModel) -> ov.Model:
    """The model with its cache inside, as `optimum-intel` exports models."""
    angles = torch.randn(1, 2, HEAD_DIM)
    past = [torch.randn(1, HEADS, 5, HEAD_DIM) for _ in range(STATES)]
    converted = ov.convert_model(Forward(model), example_input=(random_ids(1, 2), angles, angles, *past))
    of_ids, of_angles, of_past = [FREE, FREE], [FREE, FREE, HEAD_DIM], [FREE, HEADS, FREE, HEAD_DIM]
    given = [("ids", of_ids), ("cos", of_angles), ("sin", of_angles)]
    given += [(f"past.{index}", of_past) for index in range(STATES)]
    for entry, (name, shape) in zip(converted.inputs, given, strict=True):
        entry.get_tensor().set_names({name})
        entry.get_node().set_partial_shape(ov.PartialShape(shape))
    for index, end in enumerate(converted.outputs):
        end.get_tensor().set_names({f"present.{index - 1}" if index else "logits"})
    _reorder_by_beam(converted)
    apply_make_stateful_transformation(converted, {f"past.{index}": f"present.{index}" for index in range(STATES)})
    _start_empty(converted)
    return converted


def _reorder_by_beam(model: ov.Model) -> None:
    """Gather cached rows by an input: only then does the plugin fuse them with attention."""
    beam = opset13.parameter(ov.PartialShape([FREE]), dtype=np.int32, name="beam_idx")
    beam.output(0).get_tensor().set_names({"beam_idx"})
    model.add_parameters([beam])
    for index in range(STATES):
        past = model.input(f"past.{index}")
        readers = past.get_target_inputs()
        rows = opset13.gather(past, beam, opset13.constant(0))
        for reader in readers:
            reader.replace_source_output(rows.output(0))
    model.validate_nodes_and_infer_types()


def _start_empty(model: ov.Model) -> None:
    shape = opset13.shape_of(model.input("ids"), output_type="i64")
    batch = opset13.gather(shape, opset13.constant([0]), opset13.constant(0))
    rest = opset13.constant(np.array([HEADS, 0, HEAD_DIM]))
    empty = opset13.broadcast(opset13.constant(np.float32(0)), opset13.concat([batch, rest], axis=0))
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            node.set_arguments([empty])
    model.validate_nodes_and_infer_types()


def _request(model: ov.Model, asked: Sizes) -> Any:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        ov.save_model(model, path)  # with weights in float16, as models come
        settings = {
            "KV_CACHE_PRECISION": getattr(ov.Type, asked.kept_as),
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": asked.threads,
            "NUM_STREAMS": 1,
            "ENABLE_MMAP": False,  # the file does not outlive the loading
        }
        return ov.Core().compile_model(path, "CPU", settings).create_infer_request()


if __name__ == "__main__":
    main(sizes())

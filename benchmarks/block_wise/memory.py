"""What fine-tuning SmolLM2-135M takes, one way of training a process.

Each process loads the model, takes two steps and reports; the peak begins to count once the model is loaded. LISA's
layers are drawn anew between the two, and AdamW forgets the former ones. Every way computes the loss in chunks, but for
the one that shows what that saves. Blocks are trained as `tokenomics-llm finetune` does by default, layers computed
twice; the other ways are measured with and without.

Freed memory goes back to the system at once, as with `tokenomics-llm finetune`, so that the peak is that of what is
used.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from transformers import LlamaForCausalLM

from block_wise.lora import has_peft, with_lora
from block_wise.section import Section
from closing import Check
from separate_process import measured_apart
from tokenomics_local_llm.diffusion_blocks.allocator import return_freed_memory
from tokenomics_local_llm.diffusion_blocks.cross_entropy import chunked_cross_entropy
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.plots import bar_chart
from tokenomics_local_llm.diffusion_blocks.probe import (
    forget_peak,
    peak_cuda_bytes,
    peak_resident_bytes,
    saved_for_backward,
    state_bytes,
)
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning
from tokenomics_local_llm.smollm2 import load_smollm2

__all__ = ["memory"]

BLOCKS = 6
BATCH, LENGTH = 1, 512
STEPS = 2
DEFAULT = FineTuning()
COSTLIEST = f"block 0 of {BLOCKS}"

Way = Callable[[Any], object]
"""Lets a model's parameters be trained, or not."""


def nothing(model: Any) -> None:
    model.requires_grad_(False)


def everything(model: Any) -> None:
    model.requires_grad_(True)


def block(number: int) -> Way:
    def way(model: Any) -> None:
        Partition(model, BLOCKS).train_only(number)

    return way


def two_layers_and_the_ends(model: Any) -> None:
    """LISA (Pan et al. 2024, arXiv 2403.17919): embedding, head, and two layers, others at each call."""
    model.requires_grad_(False)
    model.get_input_embeddings().requires_grad_(True)  # the head is tied to it
    for layer in torch.randperm(len(model.model.layers))[:2].tolist():
        model.model.layers[layer].requires_grad_(True)


def one_layer(model: Any) -> None:
    """BAdam (Luo et al. 2024, arXiv 2404.02827), a layer a block; the lowest, which saves the most."""
    Partition(model, len(model.model.layers)).train_only(0)


WAYS: dict[str, Way] = {
    "nothing (the model loaded, one evaluation)": nothing,
    "full": everything,
    "full, logits whole": everything,
    "full, checkpointed": everything,
    "LoRA": with_lora,
    "LoRA, checkpointed": with_lora,
    "LISA-style": two_layers_and_the_ends,
    "LISA-style, checkpointed": two_layers_and_the_ends,
    "BAdam-style": one_layer,
    "BAdam-style, checkpointed": one_layer,
    COSTLIEST: block(0),
    f"block {BLOCKS - 1} of {BLOCKS}": block(BLOCKS - 1),
    f"{COSTLIEST}, activations kept": block(0),
}


def checkpointed(name: str) -> bool:
    """Whether a way computes layers twice."""
    if name.startswith("block "):
        return DEFAULT.checkpointing and "activations kept" not in name
    return "checkpointed" in name


def adamw(model: Any) -> torch.optim.AdamW | None:
    """With no state yet, for what is trained; `None` if nothing is."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(parameters, lr=1e-5) if parameters else None


def memory() -> Section:
    """One process a way."""
    section = Section(figures={"tokens a step": BATCH * LENGTH, "steps": STEPS, "dtype": "float32"})
    with TemporaryDirectory() as folder:
        load_smollm2(torch.float32)[0].save_pretrained(folder)  # quicker to load than the wheel's file
        for name in WAYS:
            if name == "LoRA" and not has_peft():
                section.figures[name] = "peft is not installed"
            else:
                section.row(way=name, **measured_apart("block_wise.memory", folder, name))
    section.checks.extend(_checks({row["way"]: row for row in section.rows}))
    section.charts["memory"] = bar_chart(
        {row["way"]: row["peak"] / 1e9 for row in section.rows},
        title=f"Peak memory of a process: SmolLM2-135M, {BATCH * LENGTH} tokens a step",
        unit="GB",
        by="full",
    )
    return section


def _checks(rows: dict[str, dict[str, Any]]) -> list[Check]:
    full, own = rows["full"], rows[COSTLIEST]
    in_layers = full["layer_bytes"]
    state = own["gradients"] + own["optimizer"]
    return [
        Check(
            name=f"memory: trained bytes of one block of {BLOCKS}, over those of all layers",
            value=round(own["trainable"] / in_layers, 6),
            goal=f"1/{BLOCKS} exactly",
            holds=own["trainable"] * BLOCKS == in_layers,
        ),
        Check(
            name="memory: gradients and optimizer state of one block, over those of all layers",
            value=round(state / (3 * in_layers), 6),
            goal=f"1/{BLOCKS}, but for AdamW's counters",
            holds=abs(state / (3 * in_layers) * BLOCKS - 1) < 1e-4,
        ),
        *(_half(own, rows[other], f"{other} fine-tuning") for other in ("full", "full, checkpointed")),
    ]


def _half(own: dict[str, Any], other: dict[str, Any], name: str) -> Check:
    return Check(
        name=f"memory: peak of the costliest block of {BLOCKS} by default, over that of {name}",
        value=round(own["peak"] / other["peak"], 3),
        goal="< 0.5",
        holds=own["peak"] < 0.5 * other["peak"],
    )


def measure(folder: str, name: str) -> dict[str, Any]:
    """Take two steps one way."""
    torch.set_num_threads(1)
    return_freed_memory()
    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    layer_bytes = sum(parameter.numel() * 4 for parameter in model.model.layers.parameters())
    partition = Partition(model, BLOCKS)
    torch.manual_seed(0)
    WAYS[name](model)
    if checkpointed(name):
        model.train()
        partition.checkpoint_activations(True)
    loaded = forget_peak()
    optimizer = adamw(model)
    tokens = torch.randint(49_152, (BATCH, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    saved_bytes = 0
    for step in range(STEPS):
        if step and WAYS[name] is two_layers_and_the_ends:
            model.zero_grad(set_to_none=True)
            WAYS[name](model)
            optimizer = adamw(model)
        with saved_for_backward(model) as saved, torch.set_grad_enabled(optimizer is not None):
            loss = _loss(partition, tokens, whole="logits whole" in name)
        saved_bytes = saved.total
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    state = state_bytes(model, optimizer)
    return {
        **asdict(state),
        "layer_bytes": layer_bytes,
        "saved": saved_bytes,
        "loaded": loaded,
        "peak": peak_resident_bytes(),
        "peak_cuda": peak_cuda_bytes(),
        "seconds_a_step": round((time.perf_counter() - start) / STEPS, 1),
    }


def _loss(partition: Partition, tokens: torch.Tensor, *, whole: bool) -> torch.Tensor:
    hidden = partition.hidden(tokens[:, :-1])
    if whole:
        return nn.functional.cross_entropy(partition.head(hidden).flatten(0, 1), tokens[:, 1:].flatten())
    return chunked_cross_entropy(hidden, tokens[:, 1:], partition.head, chunk_rows=DEFAULT.chunk_rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("way", choices=list(WAYS))
    options = parser.parse_args()
    print(json.dumps(measure(options.folder, options.way)))

"""The attention kernel alone beside PyTorch's on bfloat16: one layer of 16 query and 8 key/value heads of 128, 16K.

`hot` reads one layer 12 times in a row, so that the codes stay in the processor's last cache where bfloat16 does not;
`cold` goes round 12 layers. The share of the memory's bandwidth is that of the codes and scales read, beside what
summing half a gigabyte reaches on one core in the same minute.

Each set of instructions has a process of its own, in which numba and PyTorch both compute with these instructions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from closing import Check
from kv_speed.clock import interleaved, timed
from separate_process import measured_apart
from tokenomics_local_llm.kernels import (
    Instructions,
    PackedKeys,
    PackedValues,
    decode_attention,
    supported_instructions,
)

__all__ = ["attention"]

HEADS, GROUP, HEAD_DIM = 8, 2, 128
SCALING = HEAD_DIM**-0.5
GOALS = {Instructions.VNNI: 10.0, Instructions.AVX2: 6.0}
SDPA = ("SDPA bf16", "SDPA bf16, grouped")
AS_AVX2 = {"NUMBA_CPU_NAME": "haswell", "ATEN_CPU_CAPABILITY": "avx2"}


def attention(*, tokens: int, rounds: int, layers: int) -> tuple[dict[str, Any], list[Check]]:
    """One process for each set of instructions that this machine has."""
    figures, checks = {}, []
    for name, goal in GOALS.items():
        if name not in supported_instructions():
            figures[name.value] = {"skipped": "this processor does not have it"}
            continue
        variables = AS_AVX2 if name == Instructions.AVX2 else {}
        measured = measured_apart("kv_speed.attention", name, tokens, rounds, layers, variables=variables)
        figures[name.value] = measured
        ratio = min(measured["hot"][arm]["times_ours"]["median"] for arm in SDPA)
        print(f"\nattention, {name}: {json.dumps(measured)}", flush=True)
        checks.append(
            Check(
                name=f"attention over {tokens} tokens, {name}: CPU time of the faster SDPA bf16 over ours",
                value=ratio,
                goal=f"at least {goal}",
                holds=ratio >= goal,
            )
        )
    return figures, checks


def measure(instructions: str, tokens: int, rounds: int, layers: int) -> dict[str, Any]:
    """Figures of one set of instructions, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    bandwidth = _read_bandwidth()
    measured: dict[str, Any] = {"read_bytes_per_s": round(bandwidth), "aten": torch.backends.cpu.get_cpu_capability()}
    query = torch.randn(1, HEADS * GROUP, 1, HEAD_DIM).bfloat16()
    for name, count in (("hot", 1), ("cold", layers)):
        packed = [_packed(tokens) for _ in range(count)] * (layers // count)
        dense = [_dense(tokens) for _ in range(count)] * (layers // count)
        held = sum(store.nbytes for store in packed[0])
        timings = interleaved(
            {
                "ours": timed(_ours(query, packed, instructions)),
                **{arm: timed(_sdpa(query, dense, grouped=arm != SDPA[0])) for arm in SDPA},
            },
            rounds=rounds,
        )
        rows = {arm: timings.figures(arm) | {"times_ours": timings.ratio(arm, "ours")} for arm in timings.cpu}
        seconds = statistics.median(timings.cpu["ours"])
        rows["ours"]["share_of_bandwidth"] = round(layers * held / seconds / bandwidth, 3)
        measured[name] = {"layers": count, "reads": layers, **rows}
    return measured


def _packed(tokens: int) -> tuple[PackedKeys, PackedValues]:
    sizes = {"batch": 1, "heads": HEADS, "head_dim": HEAD_DIM, "group_size": HEAD_DIM}
    keys, values = PackedKeys(**sizes), PackedValues(**sizes)
    for store in (keys, values):
        codes = torch.randint(0, 256, (1, HEADS, tokens, HEAD_DIM // 4), dtype=torch.uint8)
        scale = 0.5 + torch.rand(1, HEADS, tokens, 1)
        store.append(codes, scale.half(), (-1.5 * scale + 0.2 * torch.randn_like(scale)).half())
    return keys, values


def _dense(tokens: int) -> tuple[Tensor, Tensor]:
    keys, values = (torch.randn(1, HEADS, tokens, HEAD_DIM, dtype=torch.bfloat16) for _ in range(2))
    return keys, values


def _ours(query: Tensor, packed: list[tuple[PackedKeys, PackedValues]], instructions: str) -> Any:
    def run() -> None:
        for keys, values in packed:
            decode_attention(query, keys, values, scaling=SCALING, instructions=instructions)

    return run


def _sdpa(query: Tensor, dense: list[tuple[Tensor, Tensor]], *, grouped: bool) -> Any:
    """As transformers calls it, or with the query heads of a key/value head as rows of one matrix."""
    asked = query.view(1, HEADS, GROUP, HEAD_DIM) if grouped else query

    def run() -> None:
        for keys, values in dense:
            scaled_dot_product_attention(asked, keys, values, scale=SCALING, enable_gqa=not grouped)

    return run


def _read_bandwidth() -> float:
    """Bytes a second that one core sums at, the best of five."""
    data = torch.ones(2**27)  # half a gigabyte
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        data.sum()
        best = min(best, time.process_time() - start)
    return data.numel() * data.element_size() / best


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("instructions")
    parser.add_argument("tokens", type=int)
    parser.add_argument("rounds", type=int)
    parser.add_argument("layers", type=int)
    options = parser.parse_args()
    print(json.dumps(measure(options.instructions, options.tokens, options.rounds, options.layers)))

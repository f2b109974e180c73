"""One decode step's attention over packed codes on a GPU, beside attention over bfloat16 keys and values.

Our Triton kernel against `scaled_dot_product_attention`, called in two ways of which the faster counts, and against
FlashAttention's decode where `flash_attn` is installed. Each is timed twice: as a CUDA graph, which is the kernels
alone, and as a call, with what Python adds. The L2 cache is cleared in between, as a model's other layers would.

The last line of stdout is one JSON document; the exit status is 1 if a check does not hold. Without a CUDA device
nothing is run, and the document says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from closing import Check, close
from tokenomics_local_llm.oscar.attention import Part, attend_packed
from tokenomics_local_llm.oscar.packing import PackedTokens

_HEAD_DIM: Final = 128
_HEADS: Final = {"16 query heads, 8 key-value heads": (16, 8), "32 query heads, 8 key-value heads": (32, 8)}
_BATCHES: Final = (1, 4, 16, 32)
_CONTEXTS: Final = (4096, 16384, 65536, 131072)
_LONG: Final = 65536
_SCALING: Final = _HEAD_DIM**-0.5
_COPIED: Final = 1 << 30  # bytes


@dataclass(frozen=True, kw_only=True)
class Case:
    """One layer's cache."""

    heads: str
    batch: int
    tokens: int

    @property
    def name(self) -> str:
        return f"{self.heads}, batch {self.batch}, {self.tokens} tokens"

    @property
    def cells(self) -> tuple[int, int, int]:
        return self.batch, _HEADS[self.heads][1], self.tokens

    def packed(self) -> PackedTokens:
        scale = 0.5 + torch.rand(*self.cells, 1, device="cuda")
        codes = torch.randint(0, 256, (*self.cells, _HEAD_DIM // 4), dtype=torch.uint8, device="cuda")
        return PackedTokens(codes=codes, scale=scale.half(), minimum=(-1.5 * scale).half())

    def query(self) -> Tensor:
        return torch.randn(self.batch, _HEADS[self.heads][0], 1, _HEAD_DIM, device="cuda")


def main() -> None:
    options = _options()
    if not torch.cuda.is_available():
        close("kv_kernel_gpu", packages=("torch",), figures={}, checks=[], status="not run: no CUDA device")
    torch.manual_seed(0)
    cases = [
        Case(heads=heads, batch=batch, tokens=tokens)
        for heads in _HEADS
        for batch in options.batches
        for tokens in options.contexts
    ]
    figures: dict[str, dict[str, Any]] = {}
    for case in cases:
        try:
            figures[case.name] = _measure(case)
        except torch.cuda.OutOfMemoryError:
            figures[case.name] = {"not_run": "out of memory"}
        torch.cuda.empty_cache()
        print(f"{case.name}: {figures[case.name]}", file=sys.stderr)
    close(
        "kv_kernel_gpu",
        packages=("torch", "triton"),
        figures=figures,
        checks=list(_checks(cases, figures)),
        status="run",
        device=torch.cuda.get_device_name(),
        copy_gigabytes_a_second=_copy_bandwidth(),
        flash_attn=_has_flash(),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="*", default=_BATCHES)
    parser.add_argument("--contexts", type=int, nargs="*", default=_CONTEXTS, help="in tokens")
    return parser.parse_args()


def _measure(case: Case) -> dict[str, Any]:
    from tokenomics_local_llm.kernels.triton_decode import attend_in_triton

    query, keys, values = case.query(), case.packed(), case.packed()
    found = attend_in_triton(query, keys, values, _SCALING)
    error = _error(found, attend_packed(query, keys, values, _SCALING))
    ours = _microseconds(lambda: attend_in_triton(query, keys, values, _SCALING))
    held = keys.nbytes + values.nbytes
    peers = {name: _microseconds(call) for name, call in _peers(case, query.bfloat16()).items()}
    sdpa = min(kernel for name, (kernel, _) in peers.items() if name.startswith("sdpa"))
    return {
        "relative_error": error,
        "triton": _timed(ours),
        "peers": {name: _timed(times) for name, times in peers.items()},
        "speed_up_over_sdpa": sdpa / ours[0],
        "speed_up_over_flash_attn": peers["flash_attn"][0] / ours[0] if "flash_attn" in peers else None,
        "held_bytes": held,
        "gigabytes_a_second": held / ours[0] / 1e3,
    }


def _error(found: Part, right: Part) -> float:
    return float((found.output - right.output).norm() / right.output.norm())


def _peers(case: Case, query: Tensor) -> dict[str, Callable[[], Any]]:
    keys, values = (torch.randn(*case.cells, _HEAD_DIM, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    grouped = query.reshape(case.batch, _HEADS[case.heads][1], -1, _HEAD_DIM)
    peers: dict[str, Callable[[], Any]] = {
        "sdpa, heads repeated": lambda: scaled_dot_product_attention(query, keys, values, enable_gqa=True),
        "sdpa, heads as tokens": lambda: scaled_dot_product_attention(grouped, keys, values),
    }
    if _has_flash():
        from flash_attn import flash_attn_with_kvcache

        by_token = query.transpose(1, 2), keys.transpose(1, 2).contiguous(), values.transpose(1, 2).contiguous()
        peers["flash_attn"] = lambda: flash_attn_with_kvcache(*by_token)
    return peers


def _has_flash() -> bool:
    return importlib.util.find_spec("flash_attn") is not None


def _microseconds(call: Callable[[], Any]) -> tuple[float, float]:
    """Medians of the kernels alone, and of the call."""
    from triton.testing import do_bench, do_bench_cudagraph

    call()  # compiles
    return 1e3 * do_bench_cudagraph(call, return_mode="median"), 1e3 * do_bench(call, return_mode="median")


def _timed(times: tuple[float, float]) -> dict[str, float]:
    return dict(zip(("kernel_microseconds", "call_microseconds"), times, strict=True))


def _copy_bandwidth() -> float:
    source = torch.empty(_COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * _COPIED / _microseconds(lambda: target.copy_(source))[0] / 1e3


def _checks(cases: list[Case], figures: dict[str, dict[str, Any]]) -> Iterator[Check]:
    run = [case for case in cases if "not_run" not in figures[case.name]]
    worst = max(figures[case.name]["relative_error"] for case in run)
    yield Check(name="relative error of the output", value=worst, goal="at most 1e-3", holds=worst <= 1e-3)
    long = [figures[case.name]["speed_up_over_sdpa"] for case in run if case.tokens >= _LONG]
    if long:
        yield Check(
            name=f"least speed-up over SDPA in bfloat16 from {_LONG} tokens on",
            value=min(long),
            goal="at least 4",
            holds=min(long) >= 4,
        )


if __name__ == "__main__":
    main()

"""SmolLM2 goes on with a novel: tokens a second, peak memory and the tokens themselves, full cache and ours.

Each arm has a process of its own, which reads the context in chunks of 512 tokens and then writes greedily. The tokens
agree as far as both write the same; and since one other token changes all after it, ours is also given the full
cache's tokens and asked for each next one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from novels import novel_tokens
from separate_process import measured_apart
from tokenomics_local_llm import HeldCache, LocalModel, load_model
from tokenomics_local_llm.diffusion_blocks.probe import forget_peak, peak_resident_bytes
from tokenomics_local_llm.oscar import OscarCache, calibrate, load_rotations, save_rotations

__all__ = ["end_to_end"]

CALIBRATION, HELD_OUT = "Eliot_Adam_1859.txt", "Gaskell_Lovers_1863.txt"
CALIBRATION_TOKENS: Final = 4096
CHUNK: Final = 512
FULL, OURS = "DynamicCache", "ours"


def end_to_end(novels: Path, *, context: int, tokens: int) -> dict[str, Any]:
    """Figures of both arms, or why there are none."""
    if not novels.is_dir():
        return {"skipped": f"{novels} is absent: name the folder of the public data sets by --data"}
    with TemporaryDirectory() as folder:
        _in_a_process("calibrate", folder, novels, context, tokens)
        figures = {arm: _in_a_process(arm, folder, novels, context, tokens) for arm in (FULL, OURS)}
    full, ours = (figures[arm].pop("written") for arm in (FULL, OURS))
    same = [one == other for one, other in zip(full, ours, strict=True)]
    figures["agreement"] = {
        "tokens_before_the_first_other": same.index(False) if False in same else len(same),
        "share_of_next_tokens": figures[OURS].pop("forced_agreement"),
    }
    print(f"\nend to end: {json.dumps(figures)}", flush=True)
    return figures


def _in_a_process(arm: str, folder: str, novels: Path, context: int, tokens: int) -> dict[str, Any]:
    trimmed = {"MALLOC_TRIM_THRESHOLD_": "0"}
    return measured_apart("kv_speed.end_to_end", arm, folder, novels, context, tokens, variables=trimmed)


def run_calibration(folder: Path, novels: Path) -> dict[str, Any]:
    """Leave rotations in the folder."""
    local = load_model(dtype="float32", device="cpu")
    save_rotations(
        calibrate(local.model, [novel_tokens(local, novels / CALIBRATION, CALIBRATION_TOKENS)]), _rotations(folder)
    )
    return {}


def run_arm(arm: str, folder: Path, novels: Path, context: int, tokens: int) -> dict[str, Any]:
    """Read and write."""
    local = load_model(device="cpu")
    prompt = novel_tokens(local, novels / HELD_OUT, context)
    loaded = forget_peak()
    cache = _cache(local, arm, folder)
    start = time.perf_counter()
    for chunk in torch.split(prompt[:-1], CHUNK):
        local.next_logits(chunk.tolist(), cache)
    read = time.perf_counter() - start
    held = HeldCache.of(cache).nbytes
    start, used = time.perf_counter(), time.process_time()
    written = _write(local, int(prompt[-1]), cache, tokens)
    used, passed = time.process_time() - used, time.perf_counter() - start
    peak = peak_resident_bytes()
    figures: dict[str, Any] = {
        "written": written,
        "tokens_per_cpu_second": round(tokens / used, 2),
        "tokens_per_second": round(tokens / passed, 2),
        "read_tokens_per_second": round((context - 1) / read, 1),
        "peak_resident_bytes": peak,
        "peak_resident_bytes_over_the_loaded_model": peak - loaded,
        "bytes": held,
    }
    if arm == FULL:
        _written(folder).write_text(json.dumps(written), encoding="utf-8")
    else:
        cache.crop(-tokens)
        figures["forced_agreement"] = _forced_agreement(local, cache, prompt, folder)
    return figures


def _cache(local: LocalModel, arm: str, folder: Path) -> Cache:
    if arm == FULL:
        return DynamicCache(config=local.model.config)
    return OscarCache.for_model(local.model, load_rotations(_rotations(folder)))


def _write(local: LocalModel, token: int, cache: Cache, count: int) -> list[int]:
    written = []
    for _ in range(count):
        token = int(local.next_logits([token], cache).argmax())
        written.append(token)
    return written


def _forced_agreement(local: LocalModel, cache: Cache, prompt: Tensor, folder: Path) -> float:
    """How often ours would write the full cache's next token after the full cache's tokens."""
    expected: list[int] = json.loads(_written(folder).read_text(encoding="utf-8"))
    given = [int(prompt[-1]), *expected[:-1]]
    same = [int(local.next_logits([token], cache).argmax()) for token in given]
    return round(sum(one == other for one, other in zip(same, expected, strict=True)) / len(expected), 4)


def _rotations(folder: Path) -> Path:
    return folder / "rotations.safetensors"


def _written(folder: Path) -> Path:
    return folder / "written.json"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("arm", choices=["calibrate", FULL, OURS])
    parser.add_argument("folder", type=Path)
    parser.add_argument("novels", type=Path)
    parser.add_argument("context", type=int)
    parser.add_argument("tokens", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.arm == "calibrate":
        print(json.dumps(run_calibration(options.folder, options.novels)))
    else:
        print(json.dumps(run_arm(options.arm, options.folder, options.novels, options.context, options.tokens)))

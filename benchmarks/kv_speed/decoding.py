"""Decode steps of a random model of the shape of Qwen3-0.6B, 4 layers of it, on every cache at every length.

A step reads one token a sequence, and its cache grows by it. Caches are filled with random keys and values instead of
by a prompt. Ours is filled with few thousand tokens whose codes are then repeated: how fast codes are read does not
depend on what they are. The model multiplies one row as `LocalModel` does, whatever the cache. Other runtimes step in
processes of their own, in the same turns.
"""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Cache,
    DynamicCache,
    PreTrainedModel,
    QuantizedCache,
    StaticCache,
)

from closing import Check
from kv_speed.clock import Arm, Timings, interleaved, timed
from kv_speed.qwen import HEAD_DIM, HEADS, LAYERS, VOCABULARY, random_qwen
from kv_speed.runtimes import RUNTIMES, Runtime, RuntimeProcess
from tokenomics_local_llm.model import cache_argument
from tokenomics_local_llm.one_row import one_row_by_itself
from tokenomics_local_llm.oscar import OSCAR_ATTENTION, OscarCache, Rotations, calibrate, fold_value_rotations
from tokenomics_local_llm.oscar.cache import OscarLayer

__all__ = ["BACKENDS", "OURS", "Case", "decoding", "missing_backends"]

BYTES_OF_A_TOKEN = LAYERS * HEADS * HEAD_DIM * 2 * 2  # keys and values, bfloat16
OURS = "ours"
DYNAMIC, STATIC = "DynamicCache", "StaticCache"
BACKENDS = {"quanto": ("optimum", 0), "hqq": ("hqq", 1)}
"""Of transformers' QuantizedCache: the package of each, and the axis that it groups along."""
LONGEST_QUANTIZED = {"quanto": 16384, "hqq": 4096}  # tokens of all sequences; beyond, filling takes minutes
FILLED_WITH = 2048  # tokens, whose codes are repeated
GOALS = {  # batch, context: times as fast as DynamicCache and as StaticCache, and fewer bytes than bfloat16
    (1, 1024): (1.0, None, None),
    (1, 16384): (6.0, 2.5, 6.0),
    (1, 65536): (12.0, 4.5, 6.8),
    (8, 1024): (1.0, None, None),
    (8, 16384): (12.0, 4.0, None),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement of all caches."""

    batch: int
    context: int
    threads: int

    @property
    def name(self) -> str:
        return f"batch {self.batch}, context {self.context}, threads {self.threads}"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model that decodes, and the rotations of its cache."""

    model: PreTrainedModel
    rotations: Rotations

    @classmethod
    def random(cls) -> Subject:
        model = random_qwen(torch.bfloat16)
        rotations = calibrate(model, [torch.randint(0, VOCABULARY, (1024,))])
        return cls(model=model, rotations=fold_value_rotations(model, rotations))


def decoding(cases: list[Case], *, rounds: int, runtimes: bool) -> tuple[dict[str, Any], list[Check]]:
    """Figures of every case, and what is promised of them; each is printed as it comes.

    Args:
        cases: What to measure.
        rounds: Steps of each cache.
        runtimes: Also measure other runtimes, which are installed if they are not.
    """
    subject = Subject.random()
    installed = _installed() if runtimes else []
    figures: dict[str, Any] = {}
    checks: list[Check] = []
    for case in cases:
        with ExitStack() as stack:
            others = list(_others(case, installed, stack))
            figures[case.name] = _measure(subject, case, rounds, others)
        _show(case, figures[case.name])
        checks += _checks(case, figures[case.name])
        gc.collect()
    return figures, checks


def missing_backends() -> list[str]:
    """QuantizedCache's backends that are not installed."""
    return [backend for backend, (module, _) in BACKENDS.items() if not importlib.util.find_spec(module)]


def _installed() -> list[tuple[Runtime, Path]]:
    """The runtimes that can be installed, and where their packages are."""
    folders = ((runtime, runtime.packages.folder()) for runtime in RUNTIMES)
    return [(runtime, folder) for runtime, folder in folders if folder is not None]


def _others(case: Case, installed: list[tuple[Runtime, Path]], stack: ExitStack) -> Iterator[RuntimeProcess]:
    """Filled; one that ends before it is so is named on stderr, and left out."""
    sizes = {"batch": case.batch, "context": case.context}
    for runtime, folder in installed:
        for kept_as in runtime.formats(**sizes):
            try:
                process = RuntimeProcess(runtime, kept_as, **sizes, threads=case.threads, folder=folder)
            except RuntimeError as error:
                print(f"{case.name}: {error}", file=sys.stderr)
                continue
            stack.callback(process.close)
            yield process


def _measure(subject: Subject, case: Case, rounds: int, others: list[RuntimeProcess]) -> dict[str, Any]:
    torch.set_num_threads(case.threads)
    caches = dict(_caches(subject, case, rounds))
    ids = torch.randint(0, VOCABULARY, (case.batch, 1))
    arms = {name: _arm(subject.model, cache, ids, name) for name, cache in caches.items()}
    held: dict[str, int | None] = {name: _held_bytes(cache) for name, cache in caches.items()}
    figures: dict[str, Any] = {name: {} for name in caches}
    for process in others:
        arms[process.name], held[process.name] = process.step, process.ready["bytes"]
        figures[process.name] = {"logits_off": process.ready["logits_off"]}
    timings = interleaved(arms, rounds=rounds)
    for name, row in figures.items():
        row |= _row(timings, name, held[name], BYTES_OF_A_TOKEN * case.batch * case.context)
    ours: Any = caches[OURS]
    figures[OURS]["bytes_after_all_steps"] = ours.nbytes()
    figures[OURS]["cpu_ms_mean"] = round(1e3 * sum(timings.cpu[OURS]) / rounds, 3)
    return figures


def _row(timings: Timings, name: str, held: int | None, in_bfloat16: int) -> dict[str, Any]:
    return {
        **timings.figures(name),
        "times_ours": timings.ratio(name, OURS),
        "bytes": held,
        "bytes_below_bf16": None if held is None else round(in_bfloat16 / held, 3),
    }


def _caches(subject: Subject, case: Case, rounds: int) -> Iterator[tuple[str, Cache]]:
    config = subject.model.config
    yield OURS, _filled_with_codes(OscarCache.for_model(subject.model, subject.rotations), case)
    yield DYNAMIC, _filled(DynamicCache(config=config), case)
    room = case.context + rounds + 8
    yield STATIC, _filled(StaticCache(config=config, max_cache_len=room), case)
    for backend, (module, axis) in BACKENDS.items():
        if importlib.util.find_spec(module) and case.batch * case.context <= LONGEST_QUANTIZED[backend]:
            for bits in (2, 4):
                cache = QuantizedCache(backend, config, nbits=bits, axis_key=axis, axis_value=axis)
                yield f"QuantizedCache {backend} {bits}", _filled(cache, case)


def _states(case: Case, tokens: int, layer: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(layer)
    shape = case.batch, HEADS, tokens, HEAD_DIM
    keys, values = (torch.randn(shape, generator=generator, dtype=torch.bfloat16) for _ in range(2))
    return keys, values


@torch.inference_mode()
def _filled(cache: Cache, case: Case) -> Cache:
    for layer in range(LAYERS):
        cache.update(*_states(case, case.context, layer), layer_idx=layer)
    return cache


@torch.inference_mode()
def _filled_with_codes(cache: OscarCache, case: Case) -> OscarCache:
    for index, layer in enumerate(cache.layers):
        assert isinstance(layer, OscarLayer)
        layer.update(*_states(case, min(case.context, FILLED_WITH), index))
        tensors, more = layer.tensors(), case.context - layer.get_seq_length()
        if more:
            layer.reset()
            layer.take({name: _repeated(name, part, more) for name, part in tensors.items()}, case.context)
    return cache


def _repeated(name: str, part: Tensor, more: int) -> Tensor:
    """As long as if `more` tokens had come: the windows do not grow."""
    if name.endswith(("sink", "recent")):
        return part
    tokens = part.shape[2]
    return part.repeat(1, 1, -(-(tokens + more) // tokens), 1)[:, :, : tokens + more]


def _arm(model: PreTrainedModel, cache: Cache, ids: Tensor, name: str) -> Arm:
    argument = {cache_argument(model): cache}
    implementation = OSCAR_ATTENTION if name == OURS else "sdpa"

    @torch.inference_mode()
    def step() -> None:
        model.config._attn_implementation = implementation  # what `set_attn_implementation` does, without its search
        with one_row_by_itself(ids.numel(), model.dtype, model.device):
            model(input_ids=ids, **argument)

    return timed(step)


def _held_bytes(cache: Any) -> int:
    if isinstance(cache, OscarCache):
        return cache.nbytes()
    seen: set[int] = set()
    return sum(_bytes_of(part, seen) for layer in cache.layers for part in vars(layer).values())


def _bytes_of(part: Any, seen: set[int]) -> int:
    """Of a tensor, of quanto's tensors of several, or of what a container holds; each memory once."""
    if hasattr(part, "__tensor_flatten__"):
        return sum(_bytes_of(getattr(part, name), seen) for name in part.__tensor_flatten__()[0])
    if isinstance(part, Tensor):
        place = part.untyped_storage()
        new = place.data_ptr() not in seen
        seen.add(place.data_ptr())
        return place.nbytes() if new else 0
    children = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    return sum(_bytes_of(child, seen) for child in children)


def _show(case: Case, figures: dict[str, Any]) -> None:
    print(f"\n{case.name}", flush=True)
    for name, row in figures.items():
        ratio = row["times_ours"]
        low, high = ratio["quartiles"]
        held = f"{row['bytes'] / 1e6:10.1f} MB{row['bytes_below_bf16']:7.2f} x below bf16" if row["bytes"] else ""
        print(
            f"  {name:24}{row['cpu_ms']:10.2f} ms CPU{row['wall_ms']:10.2f} ms{ratio['median']:8.2f} x ours "
            f"({low:.2f}..{high:.2f}){held}",
            flush=True,
        )


def _checks(case: Case, figures: dict[str, Any]) -> Iterator[Check]:
    dynamic, static, fewer = GOALS.get((case.batch, case.context), (None, None, None))
    if case.threads > 1:
        return
    for other, goal in ((DYNAMIC, dynamic), (STATIC, static)):
        if goal is not None:
            value = figures[other]["times_ours"]["median"]
            yield Check(
                name=f"{case.name}: {other}'s CPU time over ours",
                value=value,
                goal=f"at least {goal}",
                holds=value >= goal,
            )
    if fewer is not None:
        value = figures[OURS]["bytes_below_bf16"]
        yield Check(name=f"{case.name}: bytes below bf16", value=value, goal=f"at least {fewer}", holds=value >= fewer)

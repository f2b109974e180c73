"""What 2-bit key-value caches cost in quality: perplexity and divergence over quantised history, on SmolLM2.

Texts are public-domain novels: two to calibrate on, others to score. Each is read in chunks of 256 tokens against the
cache of all before them, and the last two thirds are scored. One-shot perplexity would measure nothing: while a prompt
is read, attention still sees exact keys. Every arm is run here, on the same texts, beside the full cache.

Perplexity is given as a ratio to the full cache's, with the mean and the spread over the texts. The last line of stdout
is one JSON document; the exit status is 1 if a check does not hold.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel, QuantizedCache

from closing import Check, close
from kivi import kivi_bits_per_element, kivi_cache
from tokenomics_local_llm import LocalModel, load_model
from tokenomics_local_llm.evaluation import HistoryScore, compare, logits_over_history
from tokenomics_local_llm.oscar import (
    OscarCache,
    OscarRecipe,
    QuantizerRecipe,
    Rotations,
    collect_moments,
    fit_rotations,
    output_metrics,
)

_DATA = "TOKENOMICS_SHARED_DATA"
_CALIBRATION = ("Cbronte_Villette_1853.txt", "Eliot_Adam_1859.txt")
_HELD_OUT = ("Gaskell_Lovers_1863.txt", "James_Tragic_1890.txt", "Lawrence_Women_1920.txt")
_FRONT_MATTER = 20_000  # characters
_LONG_CONTEXT = 128 * 1024  # tokens, at which bits are compared with published ones
_PUBLISHED, _OURS = "OSCAR as published", "ours"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to keep keys and values."""

    name: str
    make: Callable[[], Cache]
    bits: Callable[[int], float]
    """Bits per element after so many tokens."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Rotations of the model, fitted in the ways that are compared."""

    published: Rotations
    """One a layer, values by the energies of their keys."""
    per_head: Rotations
    hadamard: Rotations
    whitened: Rotations
    plain: Rotations
    """Hadamard, without means."""
    none: Rotations


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    local = load_model(dtype="float32", device="cpu")
    texts = {name: _tokens(local, options.data, name, options.context) for name in _HELD_OUT[: options.texts]}
    calibrated = _calibrate(local, options)
    arms = [arm for arm in _arms(local.model, calibrated) if not options.arms or arm.name in options.arms]
    scores: dict[str, list[HistoryScore]] = {arm.name: [] for arm in arms}
    for name, tokens in texts.items():
        scored = 2 * options.context // 3
        full = logits_over_history(local.model, tokens, DynamicCache(config=local.model.config), scored_tokens=scored)
        for arm in arms:
            start = time.perf_counter()
            score = compare(full, logits_over_history(local.model, tokens, arm.make(), scored_tokens=scored), tokens)
            scores[arm.name].append(score)
            seconds = time.perf_counter() - start
            print(f"{name}: {arm.name}: ratio {score.perplexity_ratio:.4f}, KL {score.kl:.4f}, {seconds:.0f} s",
                  file=sys.stderr)  # fmt: skip
    figures = {arm.name: _figures(arm, scores[arm.name], options.context) for arm in arms}
    missing = _missing()
    _show(figures, missing)
    close(
        "kv_quality",
        packages=("torch", "transformers"),
        figures=figures,
        checks=list(_checks(figures, options.context)),
        context_tokens=options.context,
        texts=list(texts),
        not_installed=missing,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get(_DATA, beside)),
        help=f"folder of the public data sets; by default ${_DATA}, else %(default)s",
    )
    parser.add_argument("--context", type=int, default=3072, help="tokens of each text (%(default)s)")
    parser.add_argument("--texts", type=int, default=len(_HELD_OUT), help="how many to score (%(default)s)")
    parser.add_argument("--calibration-tokens", type=int, default=16384, help="of both novels (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--arms", nargs="*", help="only these, by name")
    return parser.parse_args()


def _tokens(local: LocalModel, data: Path, name: str, count: int, *, skipping: int = 0) -> Tensor:
    path = data / "corpora" / "english_novels" / name
    if not path.is_file():
        sys.exit(f"{path} is absent: name the folder of the public data sets by --data")
    text = path.read_text(encoding="utf-8", errors="replace")[_FRONT_MATTER + skipping :]
    return torch.tensor(local.encode(text[: 7 * count])[:count])


def _calibrate(local: LocalModel, options: argparse.Namespace) -> Calibrated:
    each = options.calibration_tokens // 4
    texts = [_tokens(local, options.data, name, each, skipping=far) for name in _CALIBRATION for far in (0, 280_000)]
    moments = collect_moments(local.model, texts)
    metrics = output_metrics(local.model)
    layers, head_dim = len(moments), moments[0].key.shape[-1]
    return Calibrated(
        published=fit_rotations(moments, per_head=False, value_objective="energy"),
        per_head=fit_rotations(moments, output_metrics=metrics),
        hadamard=fit_rotations(moments, fitted=False, output_metrics=metrics),
        whitened=fit_rotations(moments, whitening=0.5, output_metrics=metrics),
        plain=Rotations.plain(layers, head_dim),
        none=Rotations.plain(layers, head_dim, rotate=False),
    )


def _arms(model: PreTrainedModel, fitted: Calibrated) -> Iterator[Arm]:
    """From nothing but 2 bits, one step at a time, to ours, and others' caches."""
    published = OscarRecipe.as_published()
    bare = replace(published, sink_tokens=0, recent_tokens=0)
    unclipped = QuantizerRecipe.as_published(0.0)
    centred = replace(published, keys=replace(published.keys, centred=True))
    rounded = replace(centred, keys=replace(centred.keys, damping=0.1))
    searched = replace(
        rounded, keys=replace(rounded.keys, clip_ratio=None), values=replace(rounded.values, clip_ratio=None)
    )
    stretched = replace(
        searched, keys=replace(searched.keys, stretch=1.0), values=replace(searched.values, stretch=0.5)
    )
    ours = OscarRecipe()
    steps: list[tuple[str, Rotations, OscarRecipe]] = [
        ("naive 2-bit", fitted.none, replace(bare, keys=unclipped, values=unclipped)),
        ("Hadamard", fitted.plain, replace(bare, keys=unclipped, values=unclipped)),
        ("Hadamard + windows + clip", fitted.plain, published),
        (_PUBLISHED, fitted.published, published),
        ("+ centred keys", fitted.published, centred),
        ("+ a rotation per head", fitted.per_head, centred),
        ("+ sequential rounding of keys", fitted.per_head, rounded),
        ("+ searched ranges", fitted.per_head, searched),
        ("+ stretch", fitted.per_head, stretched),
        ("+ sequential rounding of values", fitted.per_head, ours),
        (_OURS, fitted.whitened, ours),
        ("ours, Hadamard", fitted.hadamard, ours),
        ("ours, centred values", fitted.whitened, replace(ours, values=replace(ours.values, centred=True))),
    ]
    head_dim = fitted.none.keys[0].rotation.shape[-1]
    for name, rotations, recipe in steps:
        yield Arm(
            name=name,
            make=lambda rotations=rotations, recipe=recipe: OscarCache.for_model(model, rotations, recipe),  # type: ignore[misc]
            bits=lambda tokens, recipe=recipe: recipe.bits_per_element(tokens, head_dim),  # type: ignore[misc]
        )
    yield Arm(
        name="KIVI",
        make=lambda: kivi_cache(model.config),
        bits=lambda tokens: kivi_bits_per_element(tokens, head_dim),
    )
    for backend, (module, axes) in _BACKENDS.items():
        for bits in (2, 4) if importlib.util.find_spec(module) else ():
            yield Arm(
                name=f"QuantizedCache {backend} {bits}",
                make=lambda backend=backend, axes=axes, bits=bits: QuantizedCache(  # type: ignore[misc]
                    backend, model.config, nbits=bits, axis_key=axes, axis_value=axes
                ),
                bits=lambda tokens, bits=bits: bits + 0.5,  # type: ignore[misc] # 16 bits a scale and a zero, groups of 64
            )


_BACKENDS = {"quanto": ("optimum", 0), "hqq": ("hqq", 1)}  # the package of each, and the axis that it groups along


def _missing() -> list[str]:
    return [backend for backend, (module, _) in _BACKENDS.items() if not importlib.util.find_spec(module)]


def _figures(arm: Arm, scores: list[HistoryScore], context: int) -> dict[str, float]:
    ratios, divergences = [score.perplexity_ratio for score in scores], [score.kl for score in scores]
    return {
        "perplexity_ratio": statistics.mean(ratios),
        "perplexity_ratio_spread": max(ratios) - min(ratios),
        "kl": statistics.mean(divergences),
        "kl_spread": max(divergences) - min(divergences),
        "agreement": statistics.mean(score.agreement for score in scores),
        "bits_per_element": arm.bits(context),
        "bits_per_element_at_128k": arm.bits(_LONG_CONTEXT),
    }


def _show(figures: dict[str, dict[str, float]], missing: list[str]) -> None:
    print(f"{'arm':34}{'ppl ratio':>10}{'spread':>9}{'KL':>9}{'spread':>9}{'agree':>8}{'bits':>7}{'at 128K':>9}")
    for name, row in figures.items():
        print(
            f"{name:34}{row['perplexity_ratio']:10.4f}{row['perplexity_ratio_spread']:9.4f}{row['kl']:9.4f}"
            f"{row['kl_spread']:9.4f}{row['agreement']:8.3f}{row['bits_per_element']:7.2f}"
            f"{row['bits_per_element_at_128k']:9.2f}"
        )
    for backend in missing:
        print(f"QuantizedCache {backend}: not installed")


def _checks(figures: dict[str, dict[str, float]], context: int) -> Iterator[Check]:
    if _OURS not in figures:
        return
    ours = figures[_OURS]
    most = 1.009 if context <= 4096 else 1.015
    ratio = ours["perplexity_ratio"]
    yield Check(name="perplexity ratio", value=ratio, goal=f"at most {most}", holds=ratio <= most)
    if _PUBLISHED in figures:
        share = ours["kl"] / figures[_PUBLISHED]["kl"]
        yield Check(name="KL, of that of OSCAR as published", value=share, goal="at most 0.08", holds=share <= 0.08)


if __name__ == "__main__":
    main()

"""A comparison of caches on one model: every arm on every text, measured once each and kept as it goes.

`tokenomics-llm eval` and `benchmarks/kv_quality.py` are this module with different texts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any, Final

import torch
from torch import Tensor
from transformers import DynamicCache

from tokenomics_local_llm.evaluation.arms import Arm
from tokenomics_local_llm.evaluation.attention import attention_divergence
from tokenomics_local_llm.evaluation.history import HistoryScore, compare, logits_over_history
from tokenomics_local_llm.evaluation.needle import find_needle, haystacks
from tokenomics_local_llm.evaluation.records import Records
from tokenomics_local_llm.model import LocalModel

__all__ = ["FULL", "LONG_CONTEXT", "Study", "study_name", "table"]

FULL: Final = "full cache"
LONG_CONTEXT: Final = 128 * 1024
"""Tokens at which bits are compared with published ones."""

_DEPTHS: Final = (0.2, 0.5, 0.8)  # of needles: the windows hold neither
_ATTENTION_TOKENS: Final = 512  # positions whose attention is compared
_PRECISION: Final = 16  # bits of an element of the full cache, as models are served

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is to be measured."""

    model: LocalModel
    """The model."""
    texts: Mapping[str, Tensor]
    """Held-out texts of the same length, (T,), by name."""
    arms: Sequence[Arm]
    """The caches."""
    on_step: Callable[[str], object] = lambda done: None
    """Told of each measurement when it is there."""

    @property
    def context_tokens(self) -> int:
        """Length of the texts."""
        return min(map(len, self.texts.values()))

    @property
    def steps(self) -> int:
        """How often `on_step` will be called by all three measures."""
        return len(self.arms) * (len(self.texts) + 1) + (len(self.arms) + 1) * len(_DEPTHS)

    def told_to(self, on_step: Callable[[str], object]) -> Study:
        """The same study, which tells another of its steps."""
        return replace(self, on_step=on_step)

    def measure_history(self, records: Records) -> None:
        """Perplexity, divergence and agreement of greedy tokens over the last two thirds of each text."""
        scored = 2 * self.context_tokens // 3
        for name, tokens in self.texts.items():
            missing = [arm for arm in self.arms if ("history", arm.name, name) not in records]
            full = self._full(tokens, scored) if missing else None
            for arm in self.arms:
                if full is not None and arm in missing:
                    logits = logits_over_history(self.model.model, tokens, arm.make(), scored_tokens=scored)
                    records.add(("history", arm.name, name), asdict(compare(full, logits, tokens)))
                self._say(records, "history", arm.name, name)

    def _full(self, tokens: Tensor, scored: int) -> Tensor:
        model = self.model.model
        return logits_over_history(model, tokens, DynamicCache(config=model.config), scored_tokens=scored)

    def measure_attention(self, records: Records) -> None:
        """Divergence of attention by layer, on the end of the first text."""
        name, tokens = next(iter(self.texts.items()))
        scored = min(_ATTENTION_TOKENS, len(tokens) - 1)
        for arm in self.arms:
            if ("attention", arm.name, name) not in records:
                found = attention_divergence(self.model.model, tokens, arm.make(), scored_tokens=scored)
                by_layer = {str(layer): divergence for layer, divergence in found.items()}
                records.add(("attention", arm.name, name), by_layer)
            self._say(records, "attention", arm.name, name)

    def measure_needles(self, records: Records) -> None:
        """Facts told at several depths of the first text, in the full cache as well."""
        config = self.model.model.config
        full = Arm(name=FULL, make=lambda: DynamicCache(config=config), bits=lambda tokens: _PRECISION)
        hay = next(iter(self.texts.values()))[: self.context_tokens - 64]  # what is told and asked must fit as well
        for haystack in haystacks(self.model, hay, depths=_DEPTHS):
            for arm in (full, *self.arms):
                of = ("needle", arm.name, str(haystack.depth))
                if of not in records:
                    records.add(of, asdict(find_needle(self.model, haystack, arm.make())))
                self._say(records, *of)

    def _say(self, records: Records, *of: str) -> None:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in records[of].items() if of[0] != "attention")
        self.on_step(": ".join((*of, figures)))

    def summary(self, records: Records) -> dict[str, Json]:
        """The figures of each arm: means over texts, and spreads (largest less smallest)."""
        return {arm.name: self._figures(arm, records) for arm in self.arms}

    def full_figures(self, records: Records) -> Json:
        """What is said of the full cache."""
        perplexities = {name: records["history", self.arms[0].name, name]["full_perplexity"] for name in self.texts}
        return {"perplexity": perplexities, **_needle_figures(FULL, records)}

    def _figures(self, arm: Arm, records: Records) -> Json:
        scores = [HistoryScore(**records["history", arm.name, name]) for name in self.texts]
        ratios, divergences = [score.perplexity_ratio for score in scores], [score.kl for score in scores]
        return {
            "perplexity_ratio": statistics.mean(ratios),
            "perplexity_ratio_spread": max(ratios) - min(ratios),
            "kl": statistics.mean(divergences),
            "kl_spread": max(divergences) - min(divergences),
            "agreement": statistics.mean(score.agreement for score in scores),
            "bits_per_element": arm.bits(self.context_tokens),
            "bits_per_element_at_128k": arm.bits(LONG_CONTEXT),
            **self._attention_figures(arm.name, records),
            **_needle_figures(arm.name, records),
        }

    def _attention_figures(self, arm: str, records: Records) -> Json:
        of = ("attention", arm, next(iter(self.texts)))
        return {"attention_kl_by_layer": list(records[of].values())} if of in records else {}


def _needle_figures(arm: str, records: Records) -> Json:
    """Means over the depths; none where needles were not measured."""
    found = [records[of] for depth in _DEPTHS if (of := ("needle", arm, str(depth))) in records]
    if not found:
        return {}
    return {f"needle_{name}": statistics.mean(each[name] for each in found) for name in found[0]}


def study_name(model: str, texts: Mapping[str, Tensor], **settings: object) -> str:
    """A digest of what a study's figures depend on."""
    digest = sha256(repr((model, sorted(settings.items()))).encode())
    for name, tokens in texts.items():
        digest.update(name.encode() + tokens.to(torch.int64).numpy().tobytes())
    return digest.hexdigest()[:16]


def table(figures: Mapping[str, Json]) -> Iterator[str]:
    """The figures as lines of text."""
    yield f"{'arm':34}{'ppl ratio':>10}{'spread':>9}{'KL':>9}{'spread':>9}{'agree':>8}{'bits':>7}{'at 128K':>9}"
    for name, row in figures.items():
        yield (
            f"{name:34}{row['perplexity_ratio']:10.4f}{row['perplexity_ratio_spread']:9.4f}{row['kl']:9.4f}"
            f"{row['kl_spread']:9.4f}{row['agreement']:8.3f}{row['bits_per_element']:7.2f}"
            f"{row['bits_per_element_at_128k']:9.2f}"
        )

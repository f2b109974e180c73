"""What detectors say about cells: which causes flag which. They need not know what a cell costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from tokenomics_plugin.cells.labels import NO_CAUSES, Causes

__all__ = ["NO_FLAGS", "CellRef", "Flags", "MissedCache", "Part"]


class Part(StrEnum):
    """Parts of a call that are no block of its context."""

    CALL = "call"
    """All of it: every block, the template and the output."""
    TEMPLATE = "template"
    """What the provider counted beyond the blocks: tool schemas, the template around messages."""
    OUTPUT = "output"
    """The answer, with its hidden reasoning."""


class CellRef(NamedTuple):
    """One place in one call."""

    span_id: str
    """The model call, 16 hex digits."""
    place: int | Part
    """Index of a block in the call's context, from 0, or a part of the call."""


class MissedCache(NamedTuple):
    """Fresh input that the provider's cache should have served: what is wasted is the difference of the prices."""

    tokens: int
    """How many, counted on from what the cache did serve."""
    causes: Causes
    """Who says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flags:
    """The causes of one trajectory's cells."""

    cells: Mapping[CellRef, Causes] = field(default_factory=dict)
    """Causes of places; a block's are those of its place and of its call."""
    missed_caches: Mapping[str, MissedCache] = field(default_factory=dict)
    """Model call -> input that was bought at the full price."""

    def __or__(self, other: Flags) -> Flags:
        """What either says. Of two numbers of missed tokens the greater one counts."""
        cells: defaultdict[CellRef, Causes] = defaultdict(frozenset, self.cells)
        for place, causes in other.cells.items():
            cells[place] |= causes
        missed = dict(self.missed_caches)
        for span_id, more in other.missed_caches.items():
            known = missed.get(span_id, MissedCache(0, NO_CAUSES))
            missed[span_id] = MissedCache(max(known.tokens, more.tokens), known.causes | more.causes)
        return Flags(cells=dict(cells), missed_caches=missed)

    def by_call(self) -> Mapping[str, Mapping[int | Part, Causes]]:
        """Causes by model call and place; places without any are left out."""
        calls: defaultdict[str, dict[int | Part, Causes]] = defaultdict(dict)
        for (span_id, place), causes in self.cells.items():
            if causes:
                calls[span_id][place] = causes
        return calls


NO_FLAGS = Flags()
"""No detector ran, or none found anything."""

"""The label of a cell that no cause flags, from its call, its block and the evidence slice.

A carried block is evidence in a call when both are in the slice: a result that nobody used is not productive because
a needed call carried it. What came from outside, such as the user's request, was produced by no span and counts as
evidence wherever a call of the slice carries it; instructions and templates stay overhead.
"""

from __future__ import annotations

from typing import Final

from tokenomics_plugin.cells.carrying import EVIDENCE, INSTRUCTIONS, Layout
from tokenomics_plugin.cells.flags import MissedCache
from tokenomics_plugin.cells.labels import NO_CAUSES, Label, label_of
from tokenomics_plugin.trajectory import ModelCall

__all__ = ["OVERHEAD_STEPS", "block_label", "missed_range", "output_label", "template_label"]

OVERHEAD_STEPS: Final = frozenset({"plan", "verify"})
"""Kinds of steps that orchestrate or guard: `tokenomics.step.kind`."""


def block_label(layout: Layout, index: int, *, is_in_slice: bool) -> Label:
    """The label of a block of a call's input, whatever the class of its tokens."""
    lineage = layout.lineage
    kind = lineage.kinds[index]
    return label_of(
        NO_CAUSES,
        is_evidence=is_in_slice and kind == EVIDENCE,
        is_overhead=kind == INSTRUCTIONS
        or (index >= layout.kept and lineage.is_first[index])
        or layout.call.step_kind in OVERHEAD_STEPS,
    )


def output_label(call: ModelCall, *, is_in_slice: bool) -> Label:
    """The label of what a call answered."""
    return label_of(NO_CAUSES, is_evidence=is_in_slice, is_overhead=call.step_kind in OVERHEAD_STEPS)


def template_label(call: ModelCall) -> Label:
    """The label of tool schemas and templates, of whatever call."""
    return label_of(NO_CAUSES, is_evidence=False, is_overhead=True)


def missed_range(layout: Layout, missed: MissedCache | None) -> range:
    """Positions, in tokens of blocks, of the input that the cache should have served; the template's are negative."""
    start = layout.counts[2] - layout.template
    return range(start, start + (0 if missed is None else max(0, missed.tokens)))

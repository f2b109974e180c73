"""Findings as the flags by which the cell ledger moves money to waste."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tokenomics_plugin.cells import Cause, Causes, CellRef, Flags, MissedCache, Part
from tokenomics_plugin.waste.finding import Finding

__all__ = ["flags_of"]

_NOTHING = MissedCache(0, frozenset())


def flags_of(findings: Iterable[Finding]) -> Flags:
    """The cells that findings of one trajectory claim.

    What is only shown flags nothing, nor does a price gap of an unknown number of tokens. The span of a tool call is
    among the flags and moves no money: a tool call has no cells.
    """
    cells: defaultdict[CellRef, Causes] = defaultdict(frozenset)
    missed: dict[str, MissedCache] = {}
    for finding in findings:
        if not finding.is_waste:
            continue
        causes = frozenset({Cause(finding.cause, finding.tier)})
        for span in finding.spans:
            cells[CellRef(span, Part.CALL)] |= causes
        for span in finding.outputs:
            cells[CellRef(span, Part.OUTPUT)] |= causes
        for claimed in finding.blocks:
            if not finding.is_price_gap:
                for place in range(claimed.start, claimed.stop):
                    cells[CellRef(claimed.call, place)] |= causes
            elif finding.tokens:
                known = missed.get(claimed.call, _NOTHING)
                missed[claimed.call] = MissedCache(max(known.tokens, finding.tokens), known.causes | causes)
    return Flags(cells=dict(cells), missed_caches=missed)

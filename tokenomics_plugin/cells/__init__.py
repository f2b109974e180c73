"""The cell ledger: every cent of the bill at one place, with one label.

The atom is a cell: one model call, one block of its context or its answer, one class of tokens. Cells add up to the
provider's counts and to the bill exactly, so that nothing is counted twice, and what is carried again on every turn
is charged to the block that is carried.
"""

from tokenomics_plugin.cells.cell import Cell, TokenClass, cells_of
from tokenomics_plugin.cells.coverage import CauseShare, coverage_shares
from tokenomics_plugin.cells.flags import NO_FLAGS, CellRef, Flags, MissedCache, Part
from tokenomics_plugin.cells.folding import CallSums
from tokenomics_plugin.cells.labels import Cause, Causes, Label, RunOutcome, Tier, label_of, run_outcome
from tokenomics_plugin.cells.ledger import CellLedger, Maker, RunCells
from tokenomics_plugin.cells.rents import BlockCost, LifeCost
from tokenomics_plugin.cells.summary import Amount, CellGroup, CellSummary, Reconciliation
from tokenomics_plugin.cells.tariff import usd

__all__ = [
    "NO_FLAGS",
    "Amount",
    "BlockCost",
    "CallSums",
    "Cause",
    "CauseShare",
    "Causes",
    "Cell",
    "CellGroup",
    "CellLedger",
    "CellRef",
    "CellSummary",
    "Flags",
    "Label",
    "LifeCost",
    "Maker",
    "MissedCache",
    "Part",
    "Reconciliation",
    "RunCells",
    "RunOutcome",
    "Tier",
    "TokenClass",
    "cells_of",
    "coverage_shares",
    "label_of",
    "run_outcome",
    "usd",
]

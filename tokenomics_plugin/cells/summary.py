"""What a cell ledger adds up to, as reports read it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, TypeVar

from tokenomics_plugin.cells.coverage import CauseShare, coverage_shares
from tokenomics_plugin.cells.labels import Causes, Label, RunOutcome, Tier
from tokenomics_plugin.cells.rents import BlockCost, LifeCost

__all__ = ["Amount", "CellGroup", "CellSummary", "Reconciliation"]

_Key = TypeVar("_Key", bound=Hashable)


class CellGroup(NamedTuple):
    """Cells that are alike."""

    label: Label
    """What they were for."""
    tier: Tier | None
    """How sure the surest cause is; `None` for what is no waste."""
    outcome: RunOutcome
    """How their runs ended."""
    agent: str | None
    """Agent whose calls they are of; `None` outside any named agent."""
    provider: str | None
    """Provider of the model."""
    model: str | None
    """Model that answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """Tokens and what they cost."""

    tokens: int = 0
    """Tokens of all classes, of calls without a cost too."""
    usd: Decimal = Decimal(0)
    """USD, of the calls that have a cost."""

    def __add__(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(tokens=self.tokens + other.tokens, usd=self.usd + other.usd)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciliation:
    """Whether cells add up to what providers counted and to what the price book says."""

    trajectories: int
    """Trajectories."""
    calls: int
    """Model calls."""
    priced_calls: int
    """Those with a known cost; the money of the others is in no sum."""
    measured_calls: int
    """Those with complete, consistent token counts; the tokens of the others are in no sum."""
    reported_tokens: int
    """Tokens of all classes that providers counted, of the measured calls."""
    cell_tokens: int
    """Tokens of all cells."""
    bill_usd: Decimal
    """Cost of the priced calls, each priced by itself."""
    cells_usd: Decimal
    """Cost of all cells."""

    @property
    def gap_usd(self) -> Decimal:
        """|cells - bill|; 0 unless a price has more than twelve decimals per million tokens."""
        return abs(self.cells_usd - self.bill_usd)

    @property
    def is_exact(self) -> bool:
        """Whether tokens and money both add up."""
        return self.reported_tokens == self.cell_tokens and not self.gap_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class CellSummary:
    """All sums of a ledger. Marginals of `groups` add up to the bill, whichever way they are taken."""

    groups: Mapping[CellGroup, Amount]
    """Cells by label, tier, outcome, agent and model."""
    causes: Mapping[tuple[Causes, RunOutcome], Amount]
    """Waste by the very set of causes that flags it, and by outcome."""
    roles: Mapping[str, LifeCost]
    """Lives of blocks by role; they add up to the bill too."""
    tools: Mapping[str | None, LifeCost]
    """Lives of tools' results by tool; `None` for those whose tool is not known."""
    top_blocks: tuple[BlockCost, ...]
    """The dearest blocks, the dearest first."""
    reconciliation: Reconciliation
    """Whether it adds up."""

    @property
    def total(self) -> Amount:
        """All cells."""
        return sum(self.groups.values(), Amount())

    def by(self, key: Callable[[CellGroup], _Key]) -> dict[_Key, Amount]:
        """A marginal: `by(lambda group: (group.label, group.outcome))` is the matrix of labels and outcomes."""
        amounts: defaultdict[_Key, Amount] = defaultdict(Amount)
        for group, amount in self.groups.items():
            amounts[key(group)] += amount
        return dict(amounts)

    @property
    def matrix(self) -> dict[tuple[Label, RunOutcome], Amount]:
        """Every label with every outcome, also at 0."""
        amounts = self.by(lambda group: (group.label, group.outcome))
        return {(label, outcome): amounts.get((label, outcome), Amount()) for label in Label for outcome in RunOutcome}

    def shares(self, outcome: RunOutcome | None = None) -> dict[str, CauseShare]:
        """How causes share the waste, by id of the cause; of one outcome, or of all."""
        costs: defaultdict[frozenset[str], Decimal] = defaultdict(Decimal)
        for (causes, ended), amount in self.causes.items():
            if outcome is None or ended is outcome:
                costs[frozenset(cause.id for cause in causes)] += amount.usd
        return coverage_shares(costs)

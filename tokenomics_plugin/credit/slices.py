"""Which part of one run its answer rests on: a slice backward from what was delivered, as a band between two sets.

*Must* edges are evidence that one step used what another produced: a value that first appeared there and turns up
here, a citation, a state channel read at the version that was written, the call that chose a tool. *May* edges are
everything else that a step could have used, that is its whole context. Followed backward from the answer and the
successful writes, must edges reach what certainly took part, both kinds what possibly did; what is really needed
lies between, and the width of the band is what is not known.

**One trace cannot rank its necessary steps.** Say that a run succeeded, worth V, and that the steps of its slice S
were all necessary. Whatever would have happened without one of them, the run would have failed: the worth of a set
of steps is V if it holds S and 0 otherwise, the unanimity game. Its Shapley value is V / |S| for each step, and with
weights proportional to cost it is V c_i / c(S): each step in the slice has the same value per dollar, V / c(S), and
each step outside has none. Any other order of necessary steps comes from the weights and not from the trace. So
a slice gives one density for all that is in it and offers no figure of a single step; which of several necessary
components earns its cost is a question for many runs in which some were switched off (`replay_orders`,
`one_pass_shapley`).

Where either of several steps would have been enough, none of them is necessary; one of each such block is. A block
then counts as one necessary step, whose share falls to its members together.

Sources: backward slices: Weiser, ICSE 1981; weighted values: Kalai and Samet, International Journal of Game Theory
16, 1987.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from tokenomics_plugin.errors import TokenomicsError
from tokenomics_plugin.statistics import Range

__all__ = ["CostBand", "Evidence", "Flow", "Slice", "SliceError", "backward_slice", "forward_slice"]


class SliceError(TokenomicsError, ValueError):
    """Steps and flows that do not make a graph."""


class Evidence(StrEnum):
    """How it is known that a step used what another produced."""

    VALUE = "value"
    """A rare value that first appeared in the one appears in the other."""
    CITATION = "citation"
    """The one names the other, or an id from it."""
    CHANNEL = "channel"
    """The one read a state channel at the version that the other wrote."""
    EFFECT = "effect"
    """The one read outside state that the other had written."""
    CONTROL = "control"
    """The other chose to run the one."""
    CONTEXT = "context"
    """The other's output stood in the context of the one: it may have been used, or not."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Something that went from one step to another."""

    sources: tuple[str, ...]
    """Steps that produced it; where they are several, any one of them would have been enough."""
    target: str
    """Step that used it."""
    evidence: Evidence
    """How that is known; all but `CONTEXT` is proof."""

    @property
    def must(self) -> bool:
        """Whether it was certainly used."""
        return self.evidence is not Evidence.CONTEXT


@dataclass(frozen=True, kw_only=True)
class CostBand:
    """Cost of the steps that are needed: between what must be and what may be."""

    least: Decimal
    """Money spent on steps that must be in the slice."""
    most: Decimal
    """Money spent on steps that may be."""
    total: Decimal
    """Money spent on all steps."""
    unpriced: int
    """Steps without a known cost; none of the sums holds them."""

    @property
    def share(self) -> Range | None:
        """Share of the cost that the slice holds; `None` when nothing was spent, or a step has no price."""
        if self.unpriced or not self.total:
            return None
        return Range(low=float(self.least / self.total), high=float(self.most / self.total))


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What of a run is connected to the steps that were asked about."""

    must: frozenset[str]
    """Steps that are, by evidence."""
    may: frozenset[str]
    """Steps that are, by evidence or perhaps; holds `must`."""
    either: frozenset[frozenset[str]]
    """Blocks of steps, one of each of which is, though no single one must be."""

    def cost(self, of_steps: Mapping[str, Decimal | None]) -> CostBand:
        """What the slice cost.

        Args:
            of_steps: Money that each step cost; `None` where it is unknown.

        Raises:
            SliceError: If a step of the slice is not among them.
        """
        if strangers := self.may.difference(of_steps):
            raise SliceError(f"{sorted(strangers)} have no cost: give None for a step whose cost is unknown")
        return CostBand(
            least=_spent(of_steps, self.must),
            most=_spent(of_steps, self.may),
            total=_spent(of_steps, of_steps),
            unpriced=sum(cost is None for cost in of_steps.values()),
        )

    def value_per_dollar(self, value: Decimal, of_steps: Mapping[str, Decimal | None]) -> Range | None:
        """Value per unit of money of everything in the slice: the same for each step, as the module explains.

        Args:
            value: Money that the run's outcome is worth.
            of_steps: Money that each step cost.

        Returns:
            From all that may be needed to only what must be, without an upper limit when that cost nothing; `None`
            when a step has no price, or not even what may be needed cost anything.
        """
        cost = self.cost(of_steps)
        if cost.unpriced or not cost.most:
            return None
        if value < 0:
            raise SliceError(f"value must not be negative, got {value}: harm has no density, subtract it")
        return Range(low=float(value / cost.most), high=float(value / cost.least) if cost.least else None)


def backward_slice(steps: Iterable[str], flows: Iterable[Flow], *, results: Iterable[str]) -> Slice:
    """What the results of a run rest on, in time proportional to steps and flows.

    Args:
        steps: All steps of the run: model calls, tool calls, context blocks, in any grain.
        flows: What went between them.
        results: Steps that delivered something: the answer, each successful write, the artefact that was evaluated.

    Raises:
        SliceError: If a flow or result names no step, or a flow has no source.
    """
    sources: dict[str, list[Flow]] = defaultdict(list)
    steps = frozenset(steps)
    for flow in _checked(flows, steps):
        sources[flow.target].append(flow)
    wanted = _known(results, steps)
    must = _reached(wanted, lambda step: [f.sources[0] for f in sources[step] if f.must and len(f.sources) == 1])
    may = _reached(wanted, lambda step: [source for flow in sources[step] for source in flow.sources])
    blocks = (frozenset(flow.sources) for step in must for flow in sources[step] if flow.must)
    return Slice(must=must, may=may, either=frozenset(block for block in blocks if not block & must))


def forward_slice(steps: Iterable[str], flows: Iterable[Flow], *, causes: Iterable[str]) -> Slice:
    """What came of some steps, such as of the decisive error of a failed run: spend that rests on it.

    Args:
        steps: All steps of the run.
        flows: What went between them.
        causes: The steps to start from.

    Returns:
        What must and may rest on them. What had several sources, any of which would have been enough, only may.

    Raises:
        SliceError: If a flow or cause names no step, or a flow has no source.
    """
    uses: dict[str, list[Flow]] = defaultdict(list)
    steps = frozenset(steps)
    for flow in _checked(flows, steps):
        for source in set(flow.sources):
            uses[source].append(flow)
    start = _known(causes, steps)
    must = _reached(start, lambda step: [flow.target for flow in uses[step] if flow.must and len(flow.sources) == 1])
    may = _reached(start, lambda step: [flow.target for flow in uses[step]])
    return Slice(must=must, may=may, either=frozenset())


def _reached(start: Collection[str], neighbours: Callable[[str], Iterable[str]]) -> frozenset[str]:
    reached, waiting = set(start), list(start)
    while waiting:
        for step in neighbours(waiting.pop()):
            if step not in reached:
                reached.add(step)
                waiting.append(step)
    return frozenset(reached)


def _checked(flows: Iterable[Flow], steps: frozenset[str]) -> Iterator[Flow]:
    for flow in flows:
        if not flow.sources:
            raise SliceError(f"a flow needs a source, got none for {flow.target!r}: leave it out")
        _known((*flow.sources, flow.target), steps)
        yield flow


def _known(named: Iterable[str], steps: frozenset[str]) -> frozenset[str]:
    found = frozenset(named)
    if strangers := found - steps:
        raise SliceError(f"{sorted(strangers)} are not steps of this run: name every step in `steps`")
    return found


def _spent(of_steps: Mapping[str, Decimal | None], steps: Iterable[str]) -> Decimal:
    return sum((cost for step in steps if (cost := of_steps[step]) is not None), Decimal(0))

"""What the cells of one call add up to, by label: without listing those of the prefix that it carried again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tokenomics_plugin.cells.carrying import Layout
from tokenomics_plugin.cells.flags import MissedCache, Part
from tokenomics_plugin.cells.labels import NO_CAUSES, Causes, Label
from tokenomics_plugin.cells.rules import OVERHEAD_STEPS, block_label, missed_range, output_label, template_label
from tokenomics_plugin.cells.tariff import Tariff

__all__ = ["CallSums", "Sum", "fold", "output_cost", "template_cost"]

_LABELS: Final = (Label.PRODUCTIVE, Label.OVERHEAD, Label.UNKNOWN)


class Sum:
    """Tokens and attodollars."""

    __slots__ = ("cost", "tokens")

    def __init__(self) -> None:
        self.tokens = self.cost = 0

    def add(self, tokens: int, cost: int) -> None:
        """Add some."""
        self.tokens += tokens
        self.cost += cost


class CallSums:
    """Sums of some calls' cells by label; those of waste by its causes."""

    __slots__ = ("_costs", "_tokens", "waste")

    def __init__(self) -> None:
        self._tokens = dict.fromkeys(_LABELS, 0)
        self._costs = dict.fromkeys(_LABELS, 0)
        self.waste: dict[Causes, Sum] = {}

    def labelled(self) -> Iterator[tuple[Label, int, int]]:
        """Label, tokens and attodollars of all that is no waste."""
        for label, tokens in self._tokens.items():
            yield label, tokens, self._costs[label]

    def add(self, label: Label, tokens: int, cost: int) -> None:
        """Add to a label."""
        self._tokens[label] += tokens
        self._costs[label] += cost

    def waste_of(self, causes: Causes) -> Sum:
        """The waste that exactly these causes flag."""
        found = self.waste.get(causes)
        if found is None:
            found = self.waste[causes] = Sum()
        return found

    def move(self, label: Label, causes: Causes, tokens: int, cost: int) -> None:
        """Make waste of something that was added to a label."""
        self.add(label, -tokens, -cost)
        self.waste_of(causes).add(tokens, cost)

    def move_all(self, causes: Causes) -> None:
        """Make waste of all that is none yet."""
        for label, tokens, cost in list(self.labelled()):
            if tokens or cost:
                self.move(label, causes, tokens, cost)

    def merge(self, other: CallSums) -> None:
        """Add other sums."""
        for label, tokens, cost in other.labelled():
            self.add(label, tokens, cost)
        for causes, more in other.waste.items():
            self.waste_of(causes).add(more.tokens, more.cost)


def fold(
    sums: CallSums,
    layout: Layout,
    tariff: Tariff,
    *,
    causes: Mapping[int | Part, Causes],
    missed: MissedCache | None,
    is_in_slice: bool,
) -> None:
    """Add the cells of a call, and note on its lineage what its blocks cost this time."""
    if not causes and missed is None:
        _add_unflagged(sums, layout, tariff, is_in_slice=is_in_slice)
        return
    own = CallSums()
    _add_unflagged(own, layout, tariff, is_in_slice=is_in_slice)
    _mark(own, layout, tariff, causes=causes, missed=missed, is_in_slice=is_in_slice)
    sums.merge(own)


def template_cost(layout: Layout, tariff: Tariff) -> int:
    """Attodollars of a call's template, the fee for the call included."""
    fresh, write, read = layout.template_classes
    return fresh * tariff.fresh + write * tariff.write + read * tariff.read + tariff.call


def output_cost(layout: Layout, tariff: Tariff) -> int:
    """Attodollars of what a call answered."""
    _, _, _, visible, reasoning = layout.counts
    return visible * tariff.visible + reasoning * tariff.reasoning


def _add_unflagged(sums: CallSums, layout: Layout, tariff: Tariff, *, is_in_slice: bool) -> None:
    """Add the cells of a call as if nothing were flagged, and charge its blocks."""
    call = layout.call
    _add_carried(sums, layout, tariff, is_in_slice=is_in_slice)
    for index in range(layout.kept, layout.length):
        tokens, cost = _block(layout, index, tariff)
        sums.add(block_label(layout, index, is_in_slice=is_in_slice), tokens, cost)
        layout.lineage.charge(index, cost)
    sums.add(template_label(call), layout.template, template_cost(layout, tariff))
    sums.add(output_label(call, is_in_slice=is_in_slice), _output(layout), output_cost(layout, tariff))


def _mark(
    sums: CallSums,
    layout: Layout,
    tariff: Tariff,
    *,
    causes: Mapping[int | Part, Causes],
    missed: MissedCache | None,
    is_in_slice: bool,
) -> None:
    """Move what is flagged out of the labels that it was added to."""
    whole = causes.get(Part.CALL, NO_CAUSES)
    for place, own in causes.items():
        if place == Part.TEMPLATE:
            label = template_label(layout.call)
            sums.move(label, own | whole, layout.template, template_cost(layout, tariff))
        elif place == Part.OUTPUT:
            label = output_label(layout.call, is_in_slice=is_in_slice)
            sums.move(label, own | whole, _output(layout), output_cost(layout, tariff))
        elif isinstance(place, int) and 0 <= place < layout.length:
            label = block_label(layout, place, is_in_slice=is_in_slice)
            sums.move(label, own | whole, *_block(layout, place, tariff))
    if whole:
        sums.move_all(whole)
    if missed is not None:
        _mark_missed(sums, layout, tariff, causes=causes, missed=missed, is_in_slice=is_in_slice)


def _add_carried(sums: CallSums, layout: Layout, tariff: Tariff, *, is_in_slice: bool) -> None:
    """The blocks that earlier calls of the lineage carried too, between the ends of what cache read and wrote."""
    lineage, kept = layout.lineage, layout.kept
    end = lineage.ends[kept]
    if not end:
        return
    evidence_label = Label.PRODUCTIVE if is_in_slice else Label.UNKNOWN
    other_label = Label.UNKNOWN
    if layout.call.step_kind in OVERHEAD_STEPS:
        other_label = Label.OVERHEAD
        evidence_label = Label.PRODUCTIVE if is_in_slice else Label.OVERHEAD
    read_end, write_end = min(layout.read_end, end), min(layout.write_end, end)
    before = (0, 0, 0)
    position = 0
    for stop, price in ((read_end, tariff.read), (write_end, tariff.write), (end, tariff.fresh)):
        if stop <= position:
            continue
        lineage.charge_again(position, stop, kept, price)
        after = lineage.before(stop)
        others, evidence, instructions = after[0] - before[0], after[1] - before[1], after[2] - before[2]
        sums.add(other_label, others, others * price)
        if evidence:
            sums.add(evidence_label, evidence, evidence * price)
        if instructions:
            sums.add(Label.OVERHEAD, instructions, instructions * price)
        before, position = after, stop


def _mark_missed(
    sums: CallSums,
    layout: Layout,
    tariff: Tariff,
    *,
    causes: Mapping[int | Part, Causes],
    missed: MissedCache,
    is_in_slice: bool,
) -> None:
    """Move the difference of price of what the cache should have served; the tokens stay where they are."""
    positions = missed_range(layout, missed)
    whole, ends = causes.get(Part.CALL, NO_CAUSES), layout.lineage.ends
    places: list[tuple[int | Part, int, int, Label]] = [
        (Part.TEMPLATE, -layout.template, 0, template_label(layout.call))
    ]
    first = layout.lineage.index_at(max(0, positions.start))
    for index in range(first, layout.length):
        if ends[index] >= positions.stop:
            break
        label = block_label(layout, index, is_in_slice=is_in_slice)
        places.append((index, ends[index], ends[index + 1], label))
    for place, start, end, label in places:
        gap = _gap(max(start, positions.start), min(end, positions.stop), layout, tariff)
        own = whole | causes.get(place, NO_CAUSES)
        if gap and own:
            sums.waste_of(own).add(0, -gap)
            sums.waste_of(own | missed.causes).add(0, gap)
        elif gap:
            sums.move(label, missed.causes, 0, gap)


def _gap(start: int, end: int, layout: Layout, tariff: Tariff) -> int:
    """What the input between two positions cost beyond the price of reading it from the cache."""
    written_to = sum(layout.counts[1:3]) - layout.template
    written = max(0, min(end, written_to) - start)
    fresh = max(0, end - max(start, written_to))
    return written * max(0, tariff.write - tariff.read) + fresh * max(0, tariff.fresh - tariff.read)


def _block(layout: Layout, index: int, tariff: Tariff) -> tuple[int, int]:
    fresh, write, read = layout.block_classes(index)
    return fresh + write + read, fresh * tariff.fresh + write * tariff.write + read * tariff.read


def _output(layout: Layout) -> int:
    return layout.counts[3] + layout.counts[4]

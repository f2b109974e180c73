"""What the provider's cache could have served, call by call, beside what it did serve."""

from __future__ import annotations

from collections.abc import Iterator

from tokenomics_plugin.context_blocks import ContextBlock
from tokenomics_plugin.pages.trace.look import TraceLook
from tokenomics_plugin.report.document import Axis, Cell, Column, Line, LineChart, Link, Point, Shade
from tokenomics_plugin.report.wording import count
from tokenomics_plugin.trajectory import ModelCall
from tokenomics_plugin.waste.carriage import CarriedContext
from tokenomics_plugin.waste.facts import facts_of

__all__ = ["cache_chart"]


def cache_chart(look: TraceLook) -> LineChart:
    """Input tokens, what earlier calls had sent of them, and what was read from the cache, in order of the calls."""
    rows = list(_rows(look))
    return LineChart(
        id="cache",
        title="Input that was sent before, and what the cache served of it",
        description="Input tokens of each model call, how many of them an earlier call had begun with, and how many "
        "the provider read from its cache.",
        x=Axis(title="Model call"),
        y=Axis(title="Tokens"),
        lines=(
            _line("input", [(row, row.input) for row in rows], Shade.MUTED, look),
            _line("sent before", [(row, row.repeated) for row in rows], Shade.PENDING, look),
            _line("read from the cache", [(row, row.cached) for row in rows], Shade.ACCENT, look),
        ),
        columns=(Column(name="Call"), Column(name="What"), Column(name="Tokens")),
        notes=("What was sent before is the longest beginning that an earlier call had too, its tokens by size.",),
        empty="No model call says what it carried.",
    )


class _Row:
    def __init__(self, number: int, call: ModelCall, context: CarriedContext | None) -> None:
        self.number = number
        self.call = call
        self.input = None if call.usage is None else call.usage.input_tokens
        self.cached = None if call.usage is None else call.usage.cache_read_tokens
        self.repeated = None if context is None else _tokens_of(call, context.known_prefix)


def _rows(look: TraceLook) -> Iterator[_Row]:
    number = 0
    for trajectory in look.trajectories:
        contexts = facts_of(trajectory).carriage.contexts
        for call in trajectory.model_calls:
            number += 1
            yield _Row(number, call, contexts.get(call.span_id))


def _tokens_of(call: ModelCall, prefix: int) -> int | None:
    """Tokens of the first blocks: the provider's count, split by size; `None` when a size is unknown."""
    tokens = None if call.usage is None else call.usage.input_tokens
    sizes = [_size(block) for block in call.context or ()]
    known = [size for size in sizes if size is not None]
    if tokens is None or len(known) < len(sizes):
        return None
    return tokens * sum(known[:prefix]) // max(1, sum(known))


def _size(block: ContextBlock | None) -> int | None:
    return None if block is None else block.size


def _line(name: str, values: list[tuple[_Row, int | None]], shade: Shade, look: TraceLook) -> Line:
    return Line(
        name=name,
        shade=shade,
        points=tuple(_point(row, value, name, look) for row, value in values if value is not None),
    )


def _point(row: _Row, tokens: int, what: str, look: TraceLook) -> Point:
    link = Link(view="trace", parameters={"trace_id": look.trace_id, "span_id": row.call.span_id})
    return Point(
        x=row.number,
        y=tokens,
        name=Cell(text=f"call {row.number}", value=row.call.span_id, link=link),
        cells=(Cell(text=what, value=what), Cell(text=count(tokens), value=tokens)),
    )

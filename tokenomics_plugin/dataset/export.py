"""A store's runs, written as a fine-tuning set: `tokenomics dataset export`."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenomics_plugin import semconv
from tokenomics_plugin.dataset.chat import Exchange, UnreadableContentError, read_exchange
from tokenomics_plugin.dataset.conversation import conversations
from tokenomics_plugin.dataset.selection import EVERYTHING, DatasetOptions, Line, Material, Selection, select
from tokenomics_plugin.dataset.split import Side
from tokenomics_plugin.errors import TokenomicsError
from tokenomics_plugin.outcome import Outcome, latest_outcomes
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report import summarize
from tokenomics_plugin.store import CallContent, TraceStore
from tokenomics_plugin.trajectory import UNDECLARED, SideEffects
from tokenomics_plugin.whole_file import written_whole

__all__ = ["DatasetError", "DatasetExport", "export_dataset", "select_from"]

_TRACES_AT_ONCE: Final = 256
"""Traces whose texts are in memory together."""


class DatasetError(TokenomicsError, ValueError):
    """A store holds nothing to learn from, or the set cannot be written."""


@dataclass(frozen=True, kw_only=True)
class DatasetExport:
    """What was written."""

    selection: Selection
    """The lines, and what became of every task."""
    train: Path
    """JSON lines to learn from."""
    held_out: Path | None
    """JSON lines to judge by; `None` when no task fell on that side."""

    def summary(self) -> str:
        """What became of every task, in counts that add up."""
        lines = [f"{len(self.selection.side(Side.TRAIN))} conversations to learn: {self.train}"]
        if self.held_out is not None:
            lines.append(f"{len(self.selection.side(Side.HELD_OUT))} held out: {self.held_out}")
        return "\n".join([_counts(self.selection), *lines])


def export_dataset(
    db: str | os.PathLike[str],
    output: str | os.PathLike[str],
    prices: PriceBook,
    *,
    options: DatasetOptions = EVERYTHING,
    side_effects: SideEffects = UNDECLARED,
    on_traces: Callable[[int, int], object] = lambda done, total: None,
) -> DatasetExport:
    """Write the runs that are worth learning from, as JSON lines of `messages`, `tools` and `metadata`.

    Args:
        db: The store.
        output: File to learn from; what is held out goes beside it, into `NAME.held-out.jsonl`.
        prices: What calls cost.
        options: Budget, split and value.
        side_effects: What the tools do; repeats of reads that are declared are not taught.
        on_traces: Told how many traces are read, of how many.

    Raises:
        DatasetError: If no content was captured, no task is worth it, all of them are held out, or a file cannot be
            written; then none is.
        StoreError: If the store cannot be read.
    """
    with TraceStore(db, read_only=True) as store:
        selection = select_from(store, prices, options=options, side_effects=side_effects, on_traces=on_traces)
    sides = {side: selection.side(side) for side in Side}
    if not sides[Side.TRAIN]:
        raise DatasetError(f"{os.fspath(db)}: nothing to learn is left. {_counts(selection)}{_all_held_out(selection)}")
    train = Path(output)
    held_out = train.with_name(f"{train.name.removesuffix('.jsonl')}.held-out.jsonl")
    try:
        _write(train, sides[Side.TRAIN])
        if sides[Side.HELD_OUT]:
            _write(held_out, sides[Side.HELD_OUT])
        else:
            held_out.unlink(missing_ok=True)  # an earlier set's, which would judge this one
    except OSError as error:
        raise DatasetError(f"{train} cannot be written: {error.strerror or error}") from error
    return DatasetExport(selection=selection, train=train, held_out=held_out if sides[Side.HELD_OUT] else None)


def select_from(
    store: TraceStore,
    prices: PriceBook,
    *,
    options: DatasetOptions = EVERYTHING,
    side_effects: SideEffects = UNDECLARED,
    on_traces: Callable[[int, int], object] = lambda done, total: None,
) -> Selection:
    """What `export_dataset` writes.

    Raises:
        DatasetError: If no content was captured.
    """
    traces = store.traces_with_content()
    if not traces:
        raise DatasetError(
            f"no model call of this store has its content, and without it there is nothing to learn: run the agent "
            f"with {semconv.CAPTURE_CONTENT_VARIABLE}=SPAN_ONLY, which sends what users, tools and models say"
        )
    tasks = summarize(store, prices).tasks
    wanted = {task.task_id for task in tasks if task.is_success}
    return select(tasks, _material(store, traces, wanted, side_effects, on_traces), options)


def _material(
    store: TraceStore,
    traces: Sequence[str],
    wanted: AbstractSet[str],
    side_effects: SideEffects,
    on_traces: Callable[[int, int], object],
) -> dict[str, Material]:
    """What the wanted tasks offer, of traces that have content."""
    material: defaultdict[str, Material] = defaultdict(Material)
    failed = _failed_attempts(store.outcomes())
    for start in range(0, len(traces), _TRACES_AT_ONCE):
        some = traces[start : start + _TRACES_AT_ONCE]
        exchanges = _exchanges(store.contents(traces=some))
        for run in store.trajectories(side_effects=side_effects, traces=some):
            of_trace = exchanges.get(run.trace_id, {})
            if run.task_id is None or run.task_id not in wanted or (run.task_id, run.trace_id) in failed:
                continue
            known = material[run.task_id]
            found = ((run.trace_id, conversation) for conversation in conversations(run, of_trace))
            material[run.task_id] = Material(
                has_content=known.has_content or any(call.span_id in of_trace for call in run.model_calls),
                conversations=(*known.conversations, *found),
            )
        on_traces(min(start + _TRACES_AT_ONCE, len(traces)), len(traces))
    return material


def _exchanges(contents: Iterable[CallContent]) -> Mapping[str, Mapping[str, Exchange]]:
    """Trace -> span -> what was said; without what cannot be read, redacted or not."""
    exchanges: defaultdict[str, dict[str, Exchange]] = defaultdict(dict)
    for content in contents:
        with suppress(UnreadableContentError):
            exchanges[content.trace_id].setdefault(content.span_id, read_exchange(content))
    return exchanges


def _failed_attempts(outcomes: Iterable[Outcome]) -> set[tuple[str, str]]:
    """Tasks and traces: an earlier judgement found this run to have failed, and the one that counts is of another."""
    everything = list(outcomes)
    latest = latest_outcomes(everything)
    return {
        (outcome.task_id, outcome.trace_id)
        for outcome in everything
        if outcome.trace_id is not None
        and outcome.is_final
        and not outcome.is_success
        and latest[outcome.task_id].trace_id not in (None, outcome.trace_id)
    }


def _counts(selection: Selection) -> str:
    left_out = sum(selection.left_out.values())
    reasons = sorted(selection.left_out.items(), key=lambda found: (-found[1], found[0]))
    head = f"{selection.tasks} tasks: {selection.kept} kept, {left_out} left out"
    return "\n".join([head, *(f"  {count} {reason.value}" for reason, count in reasons)])


def _all_held_out(selection: Selection) -> str:
    return "\nAll that are kept are held out: hold out a smaller share" if selection.kept else ""


def _write(path: Path, lines: Iterable[Line]) -> None:
    """All of it or nothing: a set that was cut off looks like a small one."""
    with written_whole(path) as draft, draft.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line.to_json(), ensure_ascii=False) + "\n")

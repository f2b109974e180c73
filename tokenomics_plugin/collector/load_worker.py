"""The loading process: reads names of journal segments, one a line, and answers each with what became of it.

It ends at once when its input does, so also when the collector is killed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue

from tokenomics_plugin.collector.journal import SegmentReader
from tokenomics_plugin.errors import StoreError
from tokenomics_plugin.store import TraceStore, collect_rarely

__all__ = ["PROGRAM", "LoadResult", "load_segment", "main"]

PROGRAM = f"from {__name__} import main; main()"
"""What the process runs. With `python -m` the module would be there twice, once as the package's."""

_logger = logging.getLogger(__name__)

# Short, because the collector asks again, and wants an answer when it stops.
_LOCK_TIMEOUT_S = 1.0


class LoadResult(StrEnum):
    """What became of a segment."""

    LOADED = "loaded"
    """The store has it."""
    POSTPONED = "postponed"
    """The store cannot take it now: a reader has the file open, or the disk is full."""
    UNREADABLE = "unreadable"
    """It never will, not all of it: what could be read of it is in the store."""


def load_segment(segment: Path, db: Path) -> LoadResult:
    """Put a segment's requests into the store, in one transaction."""
    reader = SegmentReader(segment)
    try:
        with TraceStore(db, lock_timeout_s=_LOCK_TIMEOUT_S) as store:
            counts = store.load(reader)
    except StoreError as error:
        _logger.warning("%s waits: %s", segment.name, error)
        return LoadResult.POSTPONED
    except Exception:  # one segment must not stop those behind it
        _logger.exception("cannot load %s", segment)
        return LoadResult.UNREADABLE
    if reader.damage is not None:
        _logger.error("%s: %s", segment, reader.damage)
        return LoadResult.UNREADABLE
    _logger.debug("%s: %s", segment.name, counts)
    return LoadResult.LOADED


def main() -> None:
    """Serve a collector: `python -c PROGRAM DB`, with `PROGRAM` from here."""
    collect_rarely()
    db = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else prints to stdout, as DuckDB's progress bar does, must not pass for an answer
    names: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read_names, args=(names,), daemon=True).start()
    while True:
        print(load_segment(Path(names.get()), db), file=answers, flush=True)


def _read_names(names: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        names.put(json.loads(line))
    # The collector is gone. What is being loaded is loaded again by the next one, which must not find the file locked.
    os._exit(0)

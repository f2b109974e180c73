"""From the journal into the store, in a process of its own.

Turning spans into rows is work for a whole core in Python, and would hold up every acknowledgement if it
shared an interpreter with the servers. The process also keeps DuckDB's memory and its lock on the file
apart: the file is open while a segment is loaded and closed between segments, so that a report can read it.
A segment is deleted after its commit; whatever happens in between, loading it again changes nothing.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

from tokenomics_plugin.collector.config import CollectorConfig
from tokenomics_plugin.collector.journal import Journal
from tokenomics_plugin.collector.load_worker import PROGRAM, LoadResult

__all__ = ["Loader"]

_logger = logging.getLogger(__name__)

# A reader gets its turn here: while the file is open for writing it tries again, at least every 0.1 s.
_PAUSE_BETWEEN_SEGMENTS_S = 0.12
_DRAIN_RETRY_S = 0.1
_ATTEMPTS = 3


class Loader:
    """A thread that hands sealed segments to the loading process, one after the other."""

    def __init__(self, config: CollectorConfig, journal: Journal) -> None:
        self._config = config
        self._journal = journal
        self._worker = _Worker(config.db)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tokenomics-loader", daemon=True)

    def start(self) -> None:
        """Begin with what an earlier process left behind."""
        self._thread.start()

    def stop(self) -> None:
        """Load the rest, as long as `drain_timeout_s` allows; the journal keeps what remains."""
        if self._thread.is_alive():
            self._stopping.set()
            self._thread.join()
        self._worker.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._load_sealed()
            self._stopping.wait(self._config.load_interval_s)
        self._drain()

    def _drain(self) -> None:
        deadline = time.monotonic() + self._config.drain_timeout_s
        while not self._load_sealed():
            if time.monotonic() > deadline:
                remaining = self._journal.backlog_bytes
                _logger.warning("%s cannot be written; its journal keeps %d bytes", self._config.db, remaining)
                return
            time.sleep(_DRAIN_RETRY_S)

    def _load_sealed(self) -> bool:
        """Load all there is; false if the store could not take it now."""
        try:
            self._journal.seal()
            return all(self._load(segment) for segment in self._journal.sealed())
        except Exception:  # the thread must live: without it the journal only grows
            _logger.exception("loading failed; trying again")
            return False

    def _load(self, segment: Path) -> bool:
        result = self._worker.load(segment)
        if result is LoadResult.POSTPONED:
            return False
        if result is LoadResult.UNREADABLE:
            _logger.error("kept %s, which could not be loaded as a whole", self._journal.set_aside(segment))
        else:
            self._journal.remove(segment)
        self._stopping.wait(_PAUSE_BETWEEN_SEGMENTS_S)
        return True


class _Worker:
    """The loading process, started when first needed, and again if it died."""

    def __init__(self, db: Path) -> None:
        self._db = db
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, segment: Path) -> LoadResult:
        for _ in range(_ATTEMPTS):
            self._process = self._process or self._start()
            if answer := _ask(self._process, segment):
                return LoadResult(answer)
            _logger.error("the loading process ended with status %s at %s", self.close(), segment.name)
        return LoadResult.UNREADABLE

    def close(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        with process:  # closes its input, upon which it ends
            pass
        return process.returncode

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C is meant for the collector, which ends this process when it is done.
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self._db)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )


def _ask(process: subprocess.Popen[bytes], segment: Path) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(str(segment)).encode() + b"\n")
    except BrokenPipeError:
        return ""
    return process.stdout.readline().decode().strip()
